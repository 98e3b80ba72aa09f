"""How long a program takes, layer by layer, without running the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bitwright.errors import Mismatch
from bitwright.fpga.config import INSTRUCTION_BYTES, ProcessorConfig
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.isa import Conv, Dest, Instruction, Load, Store, Unit, Vec
from bitwright.fpga.stages import conv_stages, copied_bytes, vec_stages

LIMIT = 1 << 40


@dataclass(frozen=True)
class LayerCycles:
    """Where the time of one layer goes.

    Attributes:
        stamp: Number of the job.
        begin: Cycle at which the layer before it was stored.
        end: Cycle at which its last result was stored.
        conv: Steps of the array.
        vec: Steps of the vector unit.
        read: Beats and fills of LOAD, for what the layer reads.
        weights: The same for its weights and tables.
        write: Beats of STORE.
    """

    stamp: int
    begin: int
    end: int
    conv: int
    vec: int
    read: int
    weights: int
    write: int

    @property
    def cycles(self) -> int:
        """Cycles between the end of the layer before and its own."""
        return self.end - self.begin

    @property
    def bound(self) -> str:
        """What keeps the layer busy or waiting: ``array``, ``vector unit``, ``weights`` or ``input`` to be loaded, ``results``
        to be stored, or ``latency`` where nothing is busy for half of the time.
        """
        load = self.read + self.weights
        parts = {"array": self.conv, "vector unit": self.vec, "load": load, "results": self.write}
        name = max(parts, key=lambda n: parts[n])
        if parts[name] * 2 <= self.cycles:
            return "latency"
        return name if name != "load" else "weights" if self.weights > self.read else "input"


@dataclass(frozen=True)
class Timing:
    """Times of a program.

    Attributes:
        cycles: From the start of the first segment to the end of the last, without the host.
        segments: Of each segment.
        layers: One for each job of the processor.
        busy: Cycles in which each queue worked.
    """

    cycles: int
    segments: tuple[int, ...]
    layers: tuple[LayerCycles, ...]
    busy: Mapping[Unit, int]


def steps(instruction: Conv | Vec) -> int:
    """Steps of the array or taps of the vector unit; an instruction of nothing takes one."""
    taps = instruction.kh * instruction.kw
    if isinstance(instruction, Conv):
        return max(instruction.ocs * instruction.groups * instruction.xs * taps * instruction.ics, 1)
    return max(instruction.groups * instruction.xs * instruction.cs * taps, 1)


def _row(config: ProcessorConfig, i: Instruction) -> list[int]:
    """An instruction as a row of the clockwork's table; addresses and sizes in beats."""
    bus, per_word = config.bus.bytes, config.beats_per_word
    match i:
        case Load():
            sizes = [0, i.address // bus, i.row_stride // bus, i.rows, i.runs, i.run_stride // bus, i.words * per_word,
                     i.above, i.below, i.left, i.width, i.words, 0, 0]  # fmt: skip
        case Store():
            sizes = [0, i.address // bus, i.row_stride // bus, i.rows, i.runs, i.pixel_stride // bus,
                     i.run_words * per_word, 0, 0, 0, 0, i.words, i.xs, i.fence]  # fmt: skip
        case _:
            sizes = [steps(i), *[0] * 13]
    return [int(i.unit), i.wait, i.post, i.last, i.stamp, *sizes]


def simulate(
    config: ProcessorConfig, instructions: Sequence[Instruction]
) -> tuple[int, dict[int, int], dict[Unit, int]]:
    """Time of one segment.

    Returns:
        Cycles, the end of each stamp's last STORE, and the cycles in which each queue worked.

    Raises:
        Mismatch: the program does not end; our bug.
    """
    from bitwright.fpga.stepping import STAMPS, run

    table = np.array([_row(config, i) for i in instructions], np.int64)
    ends, busy = np.full(STAMPS, -1, np.int64), np.zeros(4, np.int64)
    bus = config.bus
    cycles = run(table, bus.latency_cycles, bus.outstanding, bus.burst_beats, config.beats_per_word,
                 INSTRUCTION_BYTES // bus.bytes, INSTRUCTION_BYTES // copied_bytes(config), config.queue,
                 config.control == "small", conv_stages(config).leaves, vec_stages(config).leaves, ends, busy,
                 LIMIT)  # fmt: skip
    if cycles < 0:
        raise Mismatch(f"The program for {config.name} does not end: its tokens wait for each other.")
    found = {int(stamp): int(ends[stamp]) for stamp in np.flatnonzero(ends >= 0)}
    return int(cycles), found, {unit: int(busy[unit]) for unit in Unit}


def timing(image: Image) -> Timing:
    """Time of a compiled program, segment after segment."""
    total = 0
    segments: list[int] = []
    layers: list[LayerCycles] = []
    busy = dict.fromkeys(Unit, 0)
    for part in image.parts:
        if not isinstance(part, Segment):
            continue
        cycles, ends, worked = simulate(image.config, part.instructions)
        begin = 0
        sums = _sums(image.config, part.instructions)
        for number in part.jobs:
            end = ends.get(number, begin)
            layers.append(LayerCycles(number, total + begin, total + end, *sums.get(number, (0, 0, 0, 0, 0))))
            begin = end
        total += cycles
        segments.append(cycles)
        for unit, value in worked.items():
            busy[unit] += value
    return Timing(total, tuple(segments), tuple(layers), busy)


def _sums(
    config: ProcessorConfig, instructions: Iterable[Instruction]
) -> dict[int, tuple[int, int, int, int, int]]:  # fmt: skip
    """By stamp: steps of the array, taps of the vector unit, beats of inputs, of parameters and of results."""
    found: dict[int, list[int]] = {}
    for i in instructions:
        one = found.setdefault(i.stamp, [0, 0, 0, 0, 0])
        match i:
            case Conv():
                one[0] += i.ocs * i.groups * i.xs * i.kh * i.kw * i.ics
            case Vec():
                one[1] += i.groups * i.xs * i.cs * i.kh * i.kw
            case Load():
                data = i.rows * i.runs * i.words
                beats = (i.above + i.rows + i.below) * i.width - data + data * config.beats_per_word
                one[2 if i.dest in (Dest.ACT, Dest.MID) else 3] += beats
            case Store():
                one[4] += i.rows * i.xs * i.words * config.beats_per_word
    return {stamp: (a, b, c, d, e) for stamp, (a, b, c, d, e) in found.items()}
