"""What goes into a compiled network and what comes out of it: samples, what every step computed, and ticks of a timer.

The harness (``firmware/run.c``) reads samples one after the other, each with all inputs in the order of memory.  For each
it writes what every step computes, and then the ticks of the whole inference, of every step, and the bytes of stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.mcu.host import Tree
from bitwright.program.program import Program
from bitwright.simulate import reference

Values = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A compiled network that was run and compared.

    Attributes:
        samples: Samples that were run.
        checked: Integers compared, those of every step.
        mismatches: How many of them differ.
        first: The first that differs, in words; or empty.
        totals: For each sample, instructions or ticks of one inference.
        steps: For each step the same, for the first sample.
        stack_bytes: Stack that an inference used.
        flash_bytes: Code and constants of the network with the least firmware around it.
        ram_bytes: Variables of the same: the arena and nothing else, as a rule.
        toolchain: What built and ran it.
        seconds: Time that running took, here.
    """

    samples: int
    checked: int
    mismatches: int
    first: str
    totals: tuple[int, ...]
    steps: tuple[int, ...]
    stack_bytes: int
    flash_bytes: int
    ram_bytes: int
    toolchain: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Read:
    """What the harness wrote, compared with the reference.

    Attributes:
        checked: Integers compared.
        mismatches: How many of them differ.
        first: The first that differs, in words; or empty.
        totals: Ticks of each sample's inference.
        steps: Ticks of each step of the first sample.
        stack_bytes: Most stack that was used.
    """

    checked: int
    mismatches: int
    first: str
    totals: tuple[int, ...]
    steps: tuple[int, ...]
    stack_bytes: int


def samples_in(inputs: Mapping[str, Values]) -> int:
    """How many samples there are."""
    return len(next(iter(inputs.values())))


def stored(tree: Tree, program: Program, name: str, values: Values) -> bytes:
    """One sample of a buffer as it lies in the memory of a little-endian machine."""
    buffer = program.buffers[name]
    flat = tree.layouts[name].stored(np.asarray(values).reshape(buffer.shape))
    return np.asarray(flat, buffer.format.dtype.newbyteorder("<")).tobytes()


def write_samples(tree: Tree, program: Program, inputs: Mapping[str, Values], path: Path) -> int:
    """Write samples as the harness reads them; returns how many."""
    count = samples_in(inputs)
    with path.open("wb") as file:
        for i in range(count):
            for name in program.inputs:
                file.write(stored(tree, program, name, np.asarray(inputs[name])[i : i + 1]))
    return count


def read_outputs(tree: Tree, program: Program, data: bytes, count: int) -> dict[str, Values]:
    """The outputs of ``count`` samples, one output after the other for each sample."""
    found: dict[str, list[Values]] = {name: [] for name in program.outputs}
    at = 0
    for _ in range(count):
        for name in program.outputs:
            buffer = program.buffers[name]
            flat = np.frombuffer(data, buffer.format.dtype.newbyteorder("<"), buffer.size, at)
            at += flat.nbytes
            found[name].append(tree.layouts[name].restored(flat.astype(buffer.format.dtype)))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def compare(tree: Tree, program: Program, inputs: Mapping[str, Values], data: bytes, *, wide: bool = False) -> Read:
    """Compare what every step computed with the reference.

    Args:
        tree: The emitted files.
        program: Their program.
        inputs: Input buffer → integers ``[n, ...]``.
        data: What the harness wrote.
        wide: Ticks have 64 bits.
    """
    checked = mismatches = at = 0
    first = ""
    ticks: list[NDArray[Any]] = []
    for i in range(samples_in(inputs)):
        one = {name: np.asarray(x)[i : i + 1] for name, x in inputs.items()}
        expected = reference.run(program, one, keep=True)
        for step in program.steps:
            buffer = program.buffers[step.outputs[0]]
            flat = np.frombuffer(data, buffer.format.dtype, buffer.size, at)
            at += flat.nbytes
            got = tree.layouts[buffer.name].restored(flat)
            want = np.asarray(expected[buffer.name]).reshape(got.shape)
            wrong = np.argwhere(want != got)
            checked += want.size
            mismatches += len(wrong)
            if len(wrong) and not first:
                place = tuple(int(v) for v in wrong[0])
                first = (
                    f"The first is in step '{printable(step.name)}' (layer '{printable(step.layer)}') of sample {i} at "
                    f"{list(place)}: {int(got[place])} instead of {int(want[place])}. Please report it."
                )
        found = np.frombuffer(data, "<u8" if wide else "<u4", len(program.steps) + 2, at)
        at += found.nbytes
        ticks.append(found)
    return Read(
        checked=checked,
        mismatches=mismatches,
        first=first,
        totals=tuple(_unwrapped(t, wide=wide) for t in ticks),
        steps=tuple(int(t) for t in ticks[0][1:-1]),
        stack_bytes=max(int(t[-1]) for t in ticks),
    )


def _unwrapped(ticks: NDArray[Any], *, wide: bool) -> int:
    """The whole inference: where 32 bits ran over, the sum of the steps says how often."""
    total, parts = int(ticks[0]), sum(int(t) for t in ticks[1:-1])
    return total if wide else total + (max(round((parts - total) / 2**32), 0) << 32)
