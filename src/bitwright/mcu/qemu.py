"""Runs a network on an imitated board: every integer of every step compared, every instruction counted.

QEMU's virtual clock goes on by a fixed time per instruction (``-icount``), so the board's own timer counts instructions,
the same number every time.  It knows nothing of cycles: no wait states, no dual issue, no beats of vector instructions.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.mcu import firmware, harness
from bitwright.mcu.board import Board
from bitwright.mcu.firmware import Which, build
from bitwright.mcu.harness import Counts
from bitwright.mcu.host import Tree
from bitwright.program.program import Program

Values = NDArray[np.integer[Any]]
INSTRUCTION_SHIFT = 6  # an instruction takes 2^6 ns of virtual time: longer than a tick, so no tick is lost
TIMEOUT_S = 600


def measure(
    tree: Tree, program: Program, board: Board, inputs: Mapping[str, Values], *, which: Which | None = None
) -> Counts:
    """Build a network for a board, run samples, compare and count.

    Args:
        tree: The emitted files.
        program: Their program.
        board: The board.
        inputs: Input buffer → integers ``[n, ...]``.
        which: The compiler; the board's gcc where it is installed, else zig.

    Raises:
        ToolMissing: the compiler or QEMU is not installed.
        DoesNotFit: the board's memory is too small for the linked program.
        ExportError: the firmware stops before its end.
    """
    firmware.need(board.qemu.system, board.qemu.package)
    chosen = which or firmware.installed(board)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(tree, program, board, folder / "run.elf", template="run.c", which=chosen)
        sizes = build(tree, program, board, folder / "bare.elf", template="bare.c", which=chosen)
        count = harness.write_samples(tree, program, inputs, folder / "in.bin")
        start = perf_counter()
        run(board, folder, "run.elf")
        seconds = perf_counter() - start
        data = (folder / "out.bin").read_bytes()
    found = harness.compare(tree, program, inputs, data)
    return Counts(
        samples=count,
        checked=found.checked,
        mismatches=found.mismatches,
        first=found.first,
        totals=tuple(instructions(board, t) for t in found.totals),
        steps=tuple(instructions(board, t) for t in found.steps),
        stack_bytes=found.stack_bytes,
        flash_bytes=sizes.flash_bytes,
        ram_bytes=sizes.ram_bytes,
        toolchain=f"{firmware.version(board, chosen)}, {version(board.qemu.system)}",
        seconds=seconds,
    )


class Emulated:
    """A network in an emulator, for one batch of samples after the other; a context manager.

    Args:
        tree: The emitted files.
        program: Their program.
        board: The board.
        which: The compiler; the board's gcc where it is installed, else zig.

    Raises:
        ToolMissing: the compiler or QEMU is not installed.
        DoesNotFit: the board's memory is too small for the linked program.
    """

    def __init__(self, tree: Tree, program: Program, board: Board, *, which: Which | None = None) -> None:
        firmware.need(board.qemu.system, board.qemu.package)
        chosen = which or firmware.installed(board)
        self.tree, self.program, self.board = tree, program, board
        self.toolchain = f"{firmware.version(board, chosen)}, {version(board.qemu.system)}"
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        build(tree, program, board, self.folder / "outputs.elf", template="outputs.c", which=chosen)

    def __enter__(self) -> Emulated:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """The integers of the outputs.

        Raises:
            ExportError: the firmware stops before its end.
        """
        count = harness.write_samples(self.tree, self.program, inputs, self.folder / "in.bin")
        run(self.board, self.folder, "outputs.elf")
        return harness.read_outputs(self.tree, self.program, (self.folder / "out.bin").read_bytes(), count)


@cache
def version(command: str) -> str:
    """``QEMU 7.2.22``."""
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False, timeout=60)
    words = done.stdout.split()
    return f"QEMU {words[3]}" if len(words) > 3 else "QEMU"


def instructions(board: Board, ticks: int) -> int:
    """Instructions that passed during so many ticks of the board's timer."""
    return round(int(ticks) * (1_000_000_000 / board.timer.hz) / (1 << INSTRUCTION_SHIFT))


def run(board: Board, folder: Path, elf: str) -> None:
    """Run a program to its end in ``folder``.

    Raises:
        ExportError: it ends with a status other than 0, or not at all.
    """
    command = [board.qemu.system, "-M", board.qemu.machine, *board.qemu.arguments]
    command += ["-icount", f"shift={INSTRUCTION_SHIFT}", "-display", "none", "-monitor", "none", "-serial", "none"]
    try:
        done = subprocess.run(
            [*command, "-kernel", elf], cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"The network did not end within {TIMEOUT_S} s on {printable(board.name)}. Use fewer samples."
        ) from error
    if done.returncode:
        reason = STATUS.get(done.returncode, "")
        raise ExportError(
            f"The firmware stopped with status {done.returncode}{reason} on {printable(board.name)}; please report it. "
            f"QEMU says: {printable(done.stderr, 1000)}"
        )


STATUS = {
    70: " (a fault of the processor)",
    71: " (the network refused its arguments)",
    72: " (files cannot be opened)",
    73: " (files cannot be written)",
}
