"""How commands end: exit codes, and errors as one paragraph."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path

import click

from bitwright.errors import BitwrightError, printable

USAGE, INTERNAL, INTERRUPTED, BROKEN_PIPE = 2, 70, 130, 141


class Interrupted(Exception):
    """Ctrl-C, after something worth keeping was kept; the message says what.  No error: the user asked for it."""


class Missed(Exception):
    """A threshold was missed: the command worked, and its answer is no."""


def report(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong; gives the exit code."""
    if debug and not isinstance(error, (KeyboardInterrupt, click.Abort, Interrupted, Missed)):
        traceback.print_exception(error, file=sys.stderr)
    match error:
        case Missed():
            _paragraph("missed", str(error))
            return 1
        case BitwrightError():
            _paragraph(f"error {error.code}", str(error))
            return error.exit_code
        case click.UsageError():
            hint = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
            message = error.format_message()
            _paragraph(
                "usage", f"{message[:1].upper()}{message[1:]}{'' if message.endswith(('.', '?')) else '.'}{hint}"
            )
            return USAGE
        case click.ClickException():
            _paragraph("error", error.format_message())
            return USAGE
        case KeyboardInterrupt() | click.Abort():
            _paragraph("stopped", "Nothing was written.")
            return INTERRUPTED
        case Interrupted():
            _paragraph("stopped", str(error))
            return INTERRUPTED
        case MemoryError():
            _paragraph("error", "There is not enough memory. Use fewer samples at once, or a machine with more.")
            return USAGE
        case OSError() if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            _paragraph("error", f"{_place(error)}: {error.strerror}. Free some space, or choose another place.")
            return USAGE
        case OSError() if error.filename is not None:
            _paragraph("error", f"{_place(error)}: {error.strerror}. Check the path and its permissions.")
            return USAGE
    _internal(error, debug=debug)
    return INTERNAL


def _place(error: OSError) -> str:
    return printable(error.filename) if error.filename is not None else "A file cannot be written"


def _internal(error: BaseException, *, debug: bool) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    advice = "" if debug else " The same command with --debug shows where it happened."
    _paragraph(
        "internal error",
        f"{type(error).__name__}: {printable(error, 300)}{where}. This is a bug in bitwright: please report it with the "
        f"command and, if you may, the model.{advice}",
    )


def _paragraph(label: str, message: str) -> None:
    from bitwright.commands import screen

    wrapped = screen.paragraph(printable(message, 2000), first=f"{label}: ")
    style = "yellow" if label in {"stopped", "missed"} else "bold red"
    try:
        screen.err().print(screen.line((f"{label}:", style), wrapped[len(label) + 1 :]))
    except OSError:  # stderr itself is gone: nobody is there to be told
        return


def quiet_pipe() -> int:
    """The reader of stdout has gone (``| head``): stop without a word."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    return BROKEN_PIPE
