"""How long a program takes: the same instructions, their starts and ends by closed formulas instead of wires.

Every instruction waits only for instructions before it in program order, so one pass over the program gives all times.
The numbers of cycles in the formulas are those of the pipelines in ``rtl/``; what is approximated is who of several
readers of external memory gets the next beat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bitwright.fpga.config import INSTRUCTION_BYTES, ProcessorConfig
from bitwright.fpga.image import Image, Segment
from bitwright.fpga.isa import TOKENS, Conv, Instruction, Load, Store, Unit, Vec

CONV_DRAIN = 13
"""From an instruction's last step to its tokens."""
VEC_DRAIN = 14
LOAD_AHEAD = 4
FETCH_AHEAD = 4
QUEUE_DELAY = 3
"""From the last beat of an instruction to the head of its queue."""


@dataclass(frozen=True)
class LayerCycles:
    """Where the time of one layer goes.

    Attributes:
        stamp: Number of the job.
        begin: Cycle at which the layer before it was stored.
        end: Cycle at which its last result was stored.
        conv: Steps of the array.
        vec: Steps of the vector unit.
        read: Beats and fills of LOAD.
        write: Beats of STORE.
    """

    stamp: int
    begin: int
    end: int
    conv: int
    vec: int
    read: int
    write: int

    @property
    def cycles(self) -> int:
        """Cycles between the end of the layer before and its own."""
        return self.end - self.begin

    @property
    def bound(self) -> str:
        """What the layer mostly waits for."""
        parts = {"array": self.conv, "vector": self.vec, "load": self.read, "store": self.write}
        name = max(parts, key=lambda n: parts[n])
        return name if parts[name] * 2 > self.cycles else "latency"


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


@dataclass
class _Clock:
    """State of the machine while going over the program."""

    config: ProcessorConfig
    tokens: list[deque[int]] = field(default_factory=lambda: [deque() for _ in range(TOKENS)])
    ready: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys(Unit, 0))
    started: dict[Unit, deque[int]] = field(default_factory=lambda: {u: deque() for u in Unit})
    handed: deque[int] = field(default_factory=deque)
    fetched: int = 0
    read_free: int = 0
    back_ends: deque[int] = field(default_factory=deque)
    back_free: int = 0
    write_free: int = 0
    busy: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys(Unit, 0))


def steps(instruction: Conv | Vec) -> int:
    """Steps of the array or taps of the vector unit; an instruction of nothing takes one."""
    taps = instruction.kh * instruction.kw
    if isinstance(instruction, Conv):
        return max(instruction.ocs * instruction.groups * instruction.xs * taps * instruction.ics, 1)
    return max(instruction.groups * instruction.xs * instruction.cs * taps, 1)


def simulate(
    config: ProcessorConfig, instructions: Iterable[Instruction]
) -> tuple[int, dict[int, int], dict[Unit, int]]:
    """Time of one segment.

    Returns:
        Cycles, the end of each stamp's last STORE, and the cycles in which each queue worked.
    """
    clock = _Clock(config)
    ends: dict[int, int] = {}
    final = 0
    for instruction in instructions:
        unit = instruction.unit
        arrival = _fetch(clock, unit)
        start = max(arrival, clock.ready[unit])
        for token in range(TOKENS):
            if instruction.wait >> token & 1:
                start = max(start, clock.tokens[token].popleft())
        clock.started[unit].append(start)
        match instruction:
            case Load():
                post = _load(clock, instruction, start)
            case Conv():
                post = start + steps(instruction) + CONV_DRAIN
                clock.ready[unit] = post
                clock.busy[unit] += post - start
            case Vec():
                post = start + steps(instruction) + VEC_DRAIN
                clock.ready[unit] = post
                clock.busy[unit] += post - start
            case Store():
                post = _store(clock, instruction, start)
                ends[instruction.stamp] = post
        for token in range(TOKENS):
            if instruction.post >> token & 1:
                clock.tokens[token].append(post)
        final = max(final, post)
    return final + 1, ends, clock.busy


def _fetch(clock: _Clock, unit: Unit) -> int:
    """When the next instruction is at the head of its queue."""
    beats = INSTRUCTION_BYTES // clock.config.bus.bytes
    asked = clock.fetched + 1
    if len(clock.handed) >= FETCH_AHEAD:
        asked = max(asked, clock.handed[-FETCH_AHEAD] + 1)
    clock.fetched = asked
    # The read channel goes to instructions as well; LOAD gets what is left.
    arrived = asked + clock.config.bus.latency_cycles + beats
    if clock.handed:
        arrived = max(arrived, clock.handed[-1] + beats)
    clock.read_free += beats
    handed = arrived + 1
    queue = clock.started[unit]
    if len(queue) >= clock.config.queue:
        handed = max(handed, queue[-clock.config.queue] + 1)
    clock.handed.append(handed)
    return handed + QUEUE_DELAY


def _load(clock: _Clock, i: Load, start: int) -> int:
    """Bursts are asked for from the start; words are written one after the other."""
    config = clock.config
    latency = config.bus.latency_cycles
    if len(clock.back_ends) >= LOAD_AHEAD:
        start = max(start, clock.back_ends[-LOAD_AHEAD])
    rows = i.above + i.rows + i.below
    data_words = i.rows * i.runs * i.words
    beats = data_words * config.beats_per_word
    bursts = 0
    if data_words:
        run = i.words * config.beats_per_word
        size = config.bus.burst_beats
        offset = i.address // config.bus.bytes % size
        bursts = i.rows * i.runs * (-(-(run + (offset if run > 1 else 0)) // size))
    back = max(clock.back_free + 1, start + 3)
    fill = rows * i.width - data_words
    # Short bursts cannot keep the channel full: only so many may be on their way.
    pace = max(beats, bursts * (latency + 1) // config.bus.outstanding)
    first = max(start + 1 + latency, clock.read_free) if data_words else back
    end = max(back + fill + beats, max(first, back) + pace + (fill if not data_words else i.below * i.width))
    end = end if rows * i.width else back + 1
    clock.ready[Unit.LOAD] = start + 1 + bursts
    clock.read_free = max(clock.read_free, end if data_words else 0)
    clock.back_free = end
    clock.back_ends.append(end)
    clock.busy[Unit.LOAD] += max(fill + beats, 1)
    return end + 1


def _store(clock: _Clock, i: Store, start: int) -> int:
    config = clock.config
    words = i.rows * i.xs * i.words
    beats = words * config.beats_per_word
    run = i.run_words * config.beats_per_word
    bursts = i.rows * i.runs * -(-run // config.bus.burst_beats)
    begin = max(start + 1, clock.write_free - 8 * config.beats_per_word)
    read = max(begin + words, clock.write_free + beats - 8 * config.beats_per_word, start + 1 + bursts)
    written = max(clock.write_free, start + 4) + max(beats, bursts)
    clock.write_free = written
    done = written + config.bus.latency_cycles + 1 if i.fence else read
    post = done + 1
    clock.ready[Unit.STORE] = post
    clock.busy[Unit.STORE] += post - start
    return post


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
            conv, vec, read, write = sums.get(number, (0, 0, 0, 0))
            end = ends.get(number, begin)
            layers.append(LayerCycles(number, total + begin, total + end, conv, vec, read, write))
            begin = end
        total += cycles
        segments.append(cycles)
        for unit, value in worked.items():
            busy[unit] += value
    return Timing(total, tuple(segments), tuple(layers), busy)


def _sums(config: ProcessorConfig, instructions: Iterable[Instruction]) -> dict[int, tuple[int, int, int, int]]:
    found: dict[int, list[int]] = {}
    for i in instructions:
        one = found.setdefault(i.stamp, [0, 0, 0, 0])
        match i:
            case Conv():
                one[0] += i.ocs * i.groups * i.xs * i.kh * i.kw * i.ics
            case Vec():
                one[1] += i.groups * i.xs * i.cs * i.kh * i.kw
            case Load():
                data = i.rows * i.runs * i.words
                one[2] += (i.above + i.rows + i.below) * i.width - data + data * config.beats_per_word
            case Store():
                one[3] += i.rows * i.xs * i.words * config.beats_per_word
    return {stamp: (a, b, c, d) for stamp, (a, b, c, d) in found.items()}
