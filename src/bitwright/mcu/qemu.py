"""Runs a network on an imitated board: every integer of every step compared, every instruction counted.

QEMU's virtual clock goes on by a fixed time per instruction (``-icount``), so the board's own timer counts instructions,
the same number every time.  It knows nothing of cycles: no wait states, no dual issue, no beats of vector instructions.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, Mismatch, printable
from bitwright.mcu import firmware
from bitwright.mcu.board import Board
from bitwright.mcu.firmware import Which, build
from bitwright.mcu.host import Tree
from bitwright.program.program import Program
from bitwright.simulate import reference

Values = NDArray[np.integer[Any]]
INSTRUCTION_SHIFT = 6  # an instruction takes 2^6 ns of virtual time: longer than a tick, so no tick is lost
TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class LayerCount:
    """What one step costs.

    Attributes:
        step: The step.
        layer: Its layer.
        op: Its operator.
        instructions: Of the first sample.
        macs: Multiply-accumulates of its layer, on the first step of that layer that multiplies.
    """

    step: str
    layer: str
    op: str
    instructions: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A network on a board.

    Attributes:
        board: The board.
        compiler: ``gcc`` or ``zig``.
        samples: Samples that were run.
        outputs_checked: Integers compared, those of every step.
        mismatches: How many of them differ.
        instructions: Of one inference, the first sample's.
        instructions_range: Fewest and most of all samples.
        flash_bytes: Code and constants of the network with the least firmware around it.
        ram_bytes: Variables of the same: the arena and nothing else, as a rule.
        stack_bytes: Stack that an inference used.
        layers: A row per step.
        first_mismatch: In words, or empty.
        seconds: Time the emulator took.
    """

    board: str
    compiler: str
    samples: int
    outputs_checked: int
    mismatches: int
    instructions: int
    instructions_range: tuple[int, int]
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int
    layers: tuple[LayerCount, ...]
    first_mismatch: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What ``deploy --json`` prints."""
        return {
            "board": self.board,
            "compiler": self.compiler,
            "samples": self.samples,
            "outputs_checked": self.outputs_checked,
            "mismatches": self.mismatches,
            "instructions": self.instructions,
            "memory": {
                "flash_bytes": self.flash_bytes,
                "ram_bytes": self.ram_bytes,
                "stack_bytes": self.stack_bytes,
            },
            "layers": [
                {
                    "step": row.step,
                    "layer": row.layer,
                    "op": row.op,
                    "instructions": row.instructions,
                    "macs": row.macs,
                    "instructions_per_mac": round(row.instructions / row.macs, 3) if row.macs else None,
                }
                for row in self.layers
            ],
        }

    def require_equal(self) -> None:
        """Raise if any integer differs.

        Raises:
            Mismatch: with the first one.
        """
        if self.mismatches:
            raise Mismatch(f"{self.mismatches} of {self.outputs_checked} integers differ. {self.first_mismatch}")


def measure(
    tree: Tree, program: Program, board: Board, inputs: Mapping[str, Values], *, which: Which = "gcc"
) -> Measured:
    """Build a network for a board, run samples, compare and count.

    Args:
        tree: The emitted files.
        program: Their program.
        board: The board.
        inputs: Input buffer → integers ``[n, ...]``.
        which: The compiler.

    Raises:
        ToolMissing: the compiler or QEMU is not installed.
        ExportError: the firmware stops before its end.
    """
    firmware.need(board.qemu.system, board.qemu.package)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(tree, program, board, folder / "run.elf", template="run.c", which=which)
        sizes = build(tree, program, board, folder / "bare.elf", template="bare.c", which=which)
        count = write_samples(tree, program, inputs, folder / "in.bin")
        start = perf_counter()
        run(board, folder, "run.elf")
        seconds = perf_counter() - start
        data = (folder / "out.bin").read_bytes()
    compared = _compare(tree, program, inputs, data, count)
    ticks = compared.ticks
    totals = [instructions(board, t[0]) for t in ticks]
    counted: set[str] = set()
    layers = []
    multiplying = {step.name for step, _ in program.contracts()}
    for step, spent in zip(program.steps, ticks[0][1:-1], strict=True):
        macs = 0
        if step.name in multiplying and step.layer not in counted:
            macs = program.macs.get(step.layer, 0)
            counted.add(step.layer)
        layers.append(
            LayerCount(step=step.name, layer=step.layer, op=step.op, instructions=instructions(board, spent), macs=macs)
        )
    return Measured(
        board=board.name,
        compiler=which,
        samples=count,
        outputs_checked=compared.checked,
        mismatches=compared.mismatches,
        instructions=totals[0],
        instructions_range=(min(totals), max(totals)),
        flash_bytes=sizes.flash_bytes,
        ram_bytes=sizes.ram_bytes,
        stack_bytes=max(int(t[-1]) for t in ticks),
        layers=tuple(layers),
        first_mismatch=compared.first,
        seconds=seconds,
    )


def instructions(board: Board, ticks: int) -> int:
    """Instructions that passed during so many ticks of the board's timer."""
    return round(int(ticks) * (1_000_000_000 / board.timer.hz) / (1 << INSTRUCTION_SHIFT))


def write_samples(tree: Tree, program: Program, inputs: Mapping[str, Values], path: Path) -> int:
    """Samples as the harness reads them; returns how many."""
    count = len(next(iter(inputs.values())))
    with path.open("wb") as file:
        for i in range(count):
            for name in program.inputs:
                buffer = program.buffers[name]
                sample = np.asarray(inputs[name])[i : i + 1].reshape(buffer.shape)
                file.write(np.asarray(tree.layouts[name].stored(sample), buffer.format.dtype).tobytes())
    return count


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


@dataclass
class _Compared:
    ticks: list[NDArray[np.uint32]]
    checked: int = 0
    mismatches: int = 0
    first: str = ""


def _compare(tree: Tree, program: Program, inputs: Mapping[str, Values], data: bytes, count: int) -> _Compared:
    found = _Compared([])
    at = 0
    for i in range(count):
        one = {name: np.asarray(x)[i : i + 1] for name, x in inputs.items()}
        expected = reference.run(program, one, keep=True)
        for step in program.steps:
            buffer = program.buffers[step.outputs[0]]
            flat = np.frombuffer(data, buffer.format.dtype, buffer.size, at)
            at += flat.nbytes
            got = tree.layouts[buffer.name].restored(flat)
            want = np.asarray(expected[buffer.name]).reshape(got.shape)
            wrong = np.argwhere(want != got)
            found.checked += want.size
            found.mismatches += len(wrong)
            if len(wrong) and not found.first:
                place = tuple(int(v) for v in wrong[0])
                found.first = (
                    f"The first is in step '{printable(step.name)}' (layer '{printable(step.layer)}') of sample {i} at "
                    f"{list(place)}: {int(got[place])} instead of {int(want[place])}. Please report it."
                )
        length = len(program.steps) + 2
        found.ticks.append(np.frombuffer(data, "<u4", length, at))
        at += 4 * length
    return found
