"""The command line: translates words into calls of the api, and answers and errors into text.  No logic.

``--help`` must answer at once, so commands are imported when they are asked for, and heavy modules when they run.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from bitwright import __version__

# In the order in which they are used.
COMMANDS = (
    "inspect", "calibrate", "quantize", "validate", "explain", "details", "compare", "report", "check", "widths", "export",
    "estimate", "deploy", "app", "targets", "vitis", "demo",
)  # fmt: skip


class Commands(click.Group):
    """Loads each command from its own file when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command ``cmd_name``, or None."""
        if cmd_name not in COMMANDS:
            return None
        home = "bitwright.app.command" if cmd_name == "app" else f"bitwright.commands.{cmd_name}"
        command: click.Command = getattr(importlib.import_module(home), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but a misspelt command is told the nearest."""
        name = str(args[0]) if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The commands are {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="--debug after any command shows the traceback of an error.",
)
@click.version_option(__version__, "--version", prog_name="bitwright", message="%(prog)s %(version)s")
def cli() -> None:
    """Quantize neural networks to integers, and measure them in the very integers the hardware will compute."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 fine, 1 a threshold was missed, 2 usage or bad input, 3 unsupported
    by the target, 70 a bug of ours, 130 stopped with Ctrl-C.
    """
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line; gives the exit code."""
    debug = "--debug" in arguments
    arguments = [item for item in arguments if item != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream that cannot show a sign shows '?'
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code: Any = cli.main(arguments, prog_name="bitwright", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # click and rich turn a broken pipe into the latter; nothing else does
        from bitwright.commands.failures import quiet_pipe

        return quiet_pipe()
    except (Exception, KeyboardInterrupt) as error:
        from bitwright.commands.failures import report

        return report(error, debug=debug)
    return code if isinstance(code, int) else 0
