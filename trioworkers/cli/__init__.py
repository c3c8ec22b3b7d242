"""The front door: arguments → settings; load the app; call run. One file for each group of commands.

Here is only the way in, so that an interruption while the rest is being imported is as quiet as any other.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


def main() -> None:
    """The command `trioworkers`. Mistakes of ours to explain are one line on stderr and exit status 1 (usage: 2)."""
    try:
        from trioworkers.process.early import await_supervisor  # noqa: PLC0415 - see above

        await_supervisor()
        from trioworkers.process.collector import hurried_collector  # noqa: PLC0415 - see above
        from trioworkers.process.streams import fill_closed_streams  # noqa: PLC0415 - as above

        fill_closed_streams()
        with hurried_collector(), last_status():
            _main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseExceptionGroup as group:  # what was interrupted inside a nursery
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        sys.exit(INTERRUPTED)


@contextmanager
def last_status() -> Iterator[None]:
    """Within the block a program runs that ends with `sys.exit`: what is in a worker's way then is bounded, up to the very end of its process."""
    try:
        yield
    except SystemExit as end:
        ending = sys.modules.get("trioworkers.process.ending")  # most commands have no worker
        if ending is not None and (end.code is None or isinstance(end.code, int)):
            ending.ending.ends_with(end.code or 0)
        raise


def _main() -> None:
    import logging  # noqa: PLC0415 - see above

    from trioworkers.cli.commands import app  # noqa: PLC0415 - as above
    from trioworkers.cli.commands.root_options import VARIABLE  # noqa: PLC0415 - as above
    from trioworkers.errors import TrioworkersError, WrongUsage  # noqa: PLC0415 - as above
    from trioworkers.printable import on_lines  # noqa: PLC0415 - as above

    # Commands that configure no log show their errors themselves; Python would show warnings of the same, unasked.
    logging.getLogger("trioworkers").addHandler(logging.NullHandler())
    try:
        app(complete_var=VARIABLE)
    except TrioworkersError as error:
        for handler in logging.getLogger().handlers:  # what a worker has logged comes first
            handler.flush()
        print(f"trioworkers: {on_lines(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, WrongUsage) else 1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        _say_no_more()
        print(f"trioworkers: the output can't be written: {error.strerror}; what was done is done", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _say_no_more() -> None:
    """What is left unwritten would be tried again at the end of the interpreter, which would complain in its own way."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
