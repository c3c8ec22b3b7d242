"""The options of `trioworkers` itself: its version, and what a shell must be told so that it asks us how a word goes on."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from trioworkers import __version__

VARIABLE = "_TRIOWORKERS_COMPLETE"
"""Set by the shell's script: then the command line is not run but completed."""

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
THIS = "this"


def version_option() -> click.Option:
    """`trioworkers --version`."""
    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show_version,
        help="Show the version and exit.",
    )


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:  # noqa: ARG001 - click's signature
    if wanted and not ctx.resilient_parsing:
        click.echo(f"trioworkers {__version__}")
        ctx.exit()


def completion_options() -> list[click.Option]:
    """For the whole command; each takes the name of a shell, or means the one that it is typed in."""
    return [
        _option("--install-completion", "Install completion for this shell, or for bash, zsh or fish.", _install),
        _option("--show-completion", "Show what --install-completion would install.", _show),
    ]


def _option(name: str, explanation: str, callback: Any) -> click.Option:
    return click.Option(
        [name],
        is_flag=False,
        flag_value=THIS,
        type=click.Choice((THIS, *SHELLS)),
        metavar="[SHELL]",
        expose_value=False,
        is_eager=True,
        callback=callback,
        help=explanation,
    )


def _show(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:  # noqa: ARG001 - click's signature
    if value and not ctx.resilient_parsing:
        click.echo(_script(_shell(value)), nl=False)
        ctx.exit()


def _install(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:  # noqa: ARG001 - click's signature
    if value and not ctx.resilient_parsing:
        shell = _shell(value)
        click.echo(f"{shell} completes `trioworkers` in new terminals: {install(shell)}")
        ctx.exit()


def _shell(value: str) -> str:
    """Raises BadParameter if it isn't one that we know."""
    shell = Path(os.environ.get("SHELL", "")).name if value == THIS else value
    if shell not in SHELLS:
        raise click.BadParameter(f"which shell? {', '.join(SHELLS)}; SHELL is {shell!r}")
    return shell


def _script(shell: str) -> str:
    return SHELLS[shell](click.Command("trioworkers"), {}, "trioworkers", VARIABLE).source()


def install(shell: str) -> Path:
    """Write the script where the shell finds it. Returns where. To do it again changes nothing.

    Only fish looks into a directory for scripts. The others are told in the file that they read first.
    """
    home = Path.home()
    if shell == "fish":
        path = home / ".config" / "fish" / "completions" / "trioworkers.fish"
    else:
        path = home / ".local" / "share" / "trioworkers" / f"completion.{shell}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_script(shell))
    if shell != "fish":
        _add_line(
            home / f".{shell}rc",
            f"{'autoload -Uz compinit; compinit; ' * (shell == 'zsh')}source {shlex.quote(str(path))}",
        )
    return path


def _add_line(path: Path, line: str) -> None:
    text = path.read_text() if path.exists() else ""
    if line not in text.splitlines():
        end = "\n" if text and not text.endswith("\n") else ""
        path.write_text(f"{text}{end}{line}\n")
