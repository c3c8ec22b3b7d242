"""`trioworkers new [NAME]`: a file with handlers to begin with, and its test; what it does is in `cli/new_files.py`."""

from __future__ import annotations

from typing import Annotated

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.parameters import Argument


@examples(
    ("trioworkers new", "writes app.py and test_app.py"),
    ("trioworkers new shop", "writes shop.py and test_shop.py"),
)
def new(
    name: Annotated[str, Argument(metavar="NAME", help="The module's name.")] = "app",
) -> None:
    """Write a first file with handlers, and its test.

    One handler is plain. One calls several HTTP services at once. One computes in another process. No file is overwritten.
    """
    from trioworkers.cli.new_files import write_new  # noqa: PLC0415 - as all of them, for the sake of `--help`

    write_new(name)
