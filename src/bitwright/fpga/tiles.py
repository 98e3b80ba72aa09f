"""How a job is cut to fit the buffers: strips of columns, chunks of output channels, tiles of rows.

A pass is one strip and one chunk; its weights are loaded once, then rows stream through in tiles.  Two tiles are in each
buffer at a time, so that loading, computing and storing overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import DoesNotFit, printable
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.jobs import ConvJob, VecJob, Window
from bitwright.fpga.packing import exact
from bitwright.program.forms import Axis

WORTHWHILE_CYCLES = 1024
"""Tiles are not made smaller than this without need: starting one costs some twenty cycles."""


@dataclass(frozen=True)
class Rows:
    """Where the rows of a tile are in the banks.

    Attributes:
        pp: Banks.
        axis: Window along the rows.
        spread: Neighboring rows in one bank: 1 where that gives every lane a bank of its own, else the stride.
    """

    pp: int
    axis: Axis

    @property
    def spread(self) -> int:
        """Neighboring rows in one bank."""
        return 1 if gcd(self.axis.stride, self.pp) == 1 else self.axis.stride

    def count(self, groups: int) -> int:
        """Rows that ``groups`` groups of outputs read."""
        return (groups * self.pp - 1) * self.axis.stride + (self.axis.taps - 1) * self.axis.dilation + 1

    def read(self, outputs: int) -> int:
        """Rows that ``outputs`` rows of outputs read; what lanes beyond them compute is not stored."""
        return (outputs - 1) * self.axis.stride + (self.axis.taps - 1) * self.axis.dilation + 1

    def slots(self, groups: int) -> int:
        """Rows in the fullest bank."""
        return -(-self.count(groups) // (self.spread * self.pp)) * self.spread

    def where(self, row: int) -> tuple[int, int]:
        """Bank and slot of a row, counted from the first of the tile."""
        run = row // self.spread
        return run % self.pp, run // self.pp * self.spread + row % self.spread

    def entry(self, tap: int, pitch: int) -> tuple[list[int], list[int]]:
        """Offset of each bank and bank of each lane for tap ``tap`` of the first group."""
        offsets, banks = [0] * self.pp, [0] * self.pp
        for lane in range(self.pp):
            bank, slot = self.where(lane * self.axis.stride + tap * self.axis.dilation)
            offsets[bank], banks[lane] = slot * pitch, bank
        return offsets, banks

    def step(self, pitch: int) -> int:
        """Words from one group of outputs to the next."""
        return self.axis.stride * pitch


@dataclass(frozen=True)
class Strip:
    """Neighboring output columns.

    Attributes:
        first: First one.
        count: How many.
    """

    first: int
    count: int

    def reads(self, axis: Axis) -> tuple[int, int]:
        """First input column (negative: padding) and number of input columns."""
        return self.first * axis.stride - axis.before, (self.count - 1) * axis.stride + (
            axis.taps - 1
        ) * axis.dilation + 1


def strips(total: int, each: int) -> list[Strip]:
    """``total`` columns in strips of at most ``each``, as even as can be."""
    count = -(-total // each)
    edges = [round(i * total / count) for i in range(count + 1)]
    return [Strip(a, b - a) for a, b in pairwise(edges)]


@dataclass(frozen=True)
class Run:
    """Neighboring groups of output channels that read the same words of the input.

    Attributes:
        first: First group.
        count: Groups.
        low: First input word.
        words: Input words.
    """

    first: int
    count: int
    low: int
    words: int


@dataclass(frozen=True)
class Kernel:
    """Weights in the order of the array: ``[groups, ocp, kh, kw, words, icp]``."""

    values: NDArray[np.int8]

    @property
    def groups(self) -> int:
        """Groups of ``ocp`` output channels."""
        return int(self.values.shape[0])

    @property
    def taps(self) -> int:
        """Rows times columns of the window."""
        return int(self.values.shape[2] * self.values.shape[3])

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Which words each group needs; words that are zero for a whole group are left out where that pays."""
        words = self.values.shape[4]
        used = np.asarray(self.values.any(axis=(1, 2, 3, 5)))
        ranges: list[tuple[int, int]] = []
        for row in used:
            filled = np.flatnonzero(row).tolist()
            ranges.append((filled[0], filled[-1] + 1) if filled else (0, 1))
        if sum(b - a for a, b in ranges) * 4 > 3 * len(ranges) * words:
            return (Run(0, self.groups, 0, words),)
        found: list[Run] = []
        for at, (low, high) in enumerate(ranges):
            last = found[-1] if found else None
            if last is not None and (last.low, last.words) == (low, high - low):
                found[-1] = Run(last.first, last.count + 1, low, high - low)
            else:
                found.append(Run(at, 1, low, high - low))
        return tuple(found)

    def within(self, first: int, end: int) -> list[Run]:
        """The runs of groups ``first .. end - 1``."""
        cut = ((max(run.first, first), min(run.first + run.count, end), run) for run in self.runs)
        return [Run(a, b - a, run.low, run.words) for a, b, run in cut if a < b]

    def words(self, first: int, end: int) -> int:
        """Weight words of groups ``first .. end - 1``."""
        return sum(run.count * run.words for run in self.within(first, end)) * self.taps

    def data(self, run: Run) -> NDArray[np.int8]:
        """The bytes of a run in the order of loading."""
        part = self.values[run.first : run.first + run.count, :, :, :, run.low : run.low + run.words]
        return np.ascontiguousarray(part.transpose(0, 2, 3, 4, 1, 5))


def kernel(job: ConvJob, config: ProcessorConfig) -> Kernel:
    """The weights of a job, padded to whole groups."""
    outputs, kh, kw, size = job.weights.shape
    groups = -(-outputs // config.ocp)
    full = np.zeros((groups * config.ocp, kh, kw, size), np.int8)
    full[:outputs] = job.weights
    if not exact(full.reshape(len(full), -1), config):
        raise AssertionError(f"{job.name} has weights whose products two by two are not exact")
    return Kernel(full.reshape(groups, config.ocp, kh, kw, size // config.icp, config.icp))


@dataclass(frozen=True, kw_only=True)
class ConvTiling:
    """How a convolution is cut.

    Attributes:
        strips: Strips of output columns (of the maximum, where one is fused).
        chunks: Groups of output channels ``(first, end)``.
        tile_groups: Groups of ``pp`` rows in a tile.
        ring: Slots of ``mid`` for a fused maximum, else 0.
        whole_weights: A chunk needs both halves of the weight buffer.
    """

    strips: tuple[Strip, ...]
    chunks: tuple[tuple[int, int], ...]
    tile_groups: int
    ring: int
    whole_weights: bool


def chunk_words(config: ProcessorConfig, groups: int) -> int:
    """Words of a pixel that ``groups`` groups of output channels touch."""
    return -(-groups * config.ocp // config.icp)


def _fits(config: ProcessorConfig, layer: str, memory: str, what: str, need: int, word: int) -> DoesNotFit:
    """``need`` words of ``word`` bytes of a buffer are more than it has."""
    have = getattr(config.memory, memory)
    return DoesNotFit(
        f'Layer "{printable(layer)}" does not fit the processor {printable(config.name)}: {what} needs {need} words '
        f"({need * word} bytes) of memory.{memory}, which has {have} ({have * word} bytes), {need - have} too few. Give a "
        f"configuration of your own with memory.{memory} = {1 << (need - 1).bit_length()}, let bitwright estimate --fit "
        "find one, or take a network with fewer channels in this layer.",
        need_bytes=need * word,
        have_bytes=have * word,
    )


def tile_conv(job: ConvJob, config: ProcessorConfig) -> ConvTiling:
    """The cut of a convolution with the fewest strips, then the fewest chunks.

    Raises:
        DoesNotFit: if even one column and one group of channels does not fit.
    """
    found = kernel(job, config)
    memory = config.memory
    unit = min(lcm(config.ocp, config.icp) // config.ocp, found.groups)
    widest = max(found.words(a, min(a + unit, found.groups)) for a in range(0, found.groups, unit))
    if widest > memory.weight:
        raise _fits(config, job.layer, "weight", "its smallest chunk of weights", widest, config.icp * config.ocp)
    whole = widest > memory.weight // 2
    width = job.out.layout.width
    for count in range(1, width + 1):
        each = -(-width // count)
        if -(-width // each) != count:
            continue
        largest = _chunk(job, config, found, unit, each, whole)
        if largest is None:
            continue
        groups, ring = largest
        chunks = _even(found, groups, unit, memory.weight if whole else memory.weight // 2)
        tile_groups = 1 if job.pool is not None else _tile_groups(job, config, found, chunks, each)
        return ConvTiling(
            strips=tuple(strips(width, each)),
            chunks=chunks,
            tile_groups=tile_groups,
            ring=ring,
            whole_weights=whole,
        )
    rows = Rows(config.pp, job.window.rows)
    need = rows.slots(1) * job.source.layout.words * ((job.window.columns.taps - 1) * job.window.columns.dilation + 1)
    if 2 * need > memory.act:
        raise _fits(config, job.layer, "act", "twice the window of one output column", 2 * need, config.icp)
    words = 2 * chunk_words(config, unit)
    if words > memory.out:
        raise _fits(config, job.layer, "out", "twice one pixel of results", words, config.icp)
    raise _fits(config, job.layer, "mid", "the rows that the maximum after it reads", memory.mid + 1, config.icp)


def _conv_columns(job: ConvJob, each: int) -> int:
    """Columns of the convolution for ``each`` columns of what is stored."""
    if job.pool is None:
        return each
    axis = job.pool.columns
    return (each - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1


def _chunk(
    job: ConvJob, config: ProcessorConfig, found: Kernel, unit: int, each: int, whole: bool
) -> tuple[int, int] | None:
    """The largest number of groups of channels for strips of ``each`` columns, and the slots of the ring."""
    memory = config.memory
    rows = Rows(config.pp, job.window.rows)
    columns = _conv_columns(job, each)
    reads = Strip(0, columns).reads(job.window.columns)[1]
    if rows.slots(1) * reads * job.source.layout.words > memory.act // 2:
        return None
    limit = min(found.groups, memory.bias // 2)
    best: tuple[int, int] | None = None
    for groups in sorted({*range(unit, limit + 1, unit), *([limit] if limit == found.groups else [])}):
        words = chunk_words(config, groups)
        span = max(found.words(a, min(a + groups, found.groups)) for a in range(0, found.groups, groups))
        if span > (memory.weight if whole else memory.weight // 2) or each * words > memory.out // 2:
            break
        ring = 0
        if job.pool is not None:
            ring = _ring(job.pool, config, columns * words)
            if not ring:
                break
        best = groups, ring
    return best


def pool_groups(pool: Window, pp: int, group: int) -> tuple[int, int]:
    """First and last group of rows of the convolution that group ``group`` of the maximum reads."""
    axis = pool.rows
    first = group * pp * axis.stride
    last = ((group + 1) * pp - 1) * axis.stride + (axis.taps - 1) * axis.dilation
    return first // pp, last // pp


def _ring(pool: Window, config: ProcessorConfig, slot_words: int) -> int:
    """Slots of ``mid`` for a fused maximum; 0 if there is no room for one group more than a maximum reads."""
    first, last = pool_groups(pool, config.pp, 0)
    stride, taps = pool.rows.stride, pool.rows.taps
    lanes = 1 if gcd(stride, config.pp) == 1 else config.pp
    # Entries of the row table repeat with the phase of the ring; the last group may need some of its own.
    most = max((config.memory.rows // 4 - taps * lanes) // (taps * lanes), 0) * stride
    slots = min(config.memory.mid // slot_words, most)
    slots -= slots % stride
    return slots if slots >= last - first + 2 else 0


def _even(found: Kernel, groups: int, unit: int, room: int) -> tuple[tuple[int, int], ...]:
    """Chunks of at most ``groups`` groups, as even as whole words allow."""
    count = -(-found.groups // groups)
    even = -(-found.groups // count)
    each = min(-(-even // unit) * unit, groups)
    chunks = [(a, min(a + each, found.groups)) for a in range(0, found.groups, each)]
    if any(found.words(a, b) > room for a, b in chunks):
        chunks = [(a, min(a + groups, found.groups)) for a in range(0, found.groups, groups)]
    return tuple(chunks)


def _tile_groups(
    job: ConvJob, config: ProcessorConfig, found: Kernel, chunks: tuple[tuple[int, int], ...], each: int
) -> int:
    """Groups of rows in a tile: as few as make a tile worth starting."""
    rows = Rows(config.pp, job.window.rows)
    reads = Strip(0, each).reads(job.window.columns)[1] * job.source.layout.words
    words = max(chunk_words(config, b - a) for a, b in chunks)
    cycles = min(found.words(a, b) for a, b in chunks) * each
    total = -(-job.out.layout.height // config.pp)
    groups = 1
    while (
        groups < total
        and cycles * groups < WORTHWHILE_CYCLES
        and rows.slots(groups + 1) * reads <= config.memory.act // 2
        and (groups + 1) * each * words <= config.memory.out // 2
    ):
        groups += 1
    return groups


@dataclass(frozen=True, kw_only=True)
class VecTiling:
    """How a job of the vector unit is cut.

    Attributes:
        strips: Strips of output columns.
        chunks: Words of a pixel ``(first, end)``.
        tile_groups: Groups of ``pp`` rows in a tile.
    """

    strips: tuple[Strip, ...]
    chunks: tuple[tuple[int, int], ...]
    tile_groups: int


def tile_vec(job: VecJob, config: ProcessorConfig) -> VecTiling:
    """The cut with the fewest strips, then the fewest chunks.

    Raises:
        DoesNotFit: if one column and one word does not fit.
    """
    memory = config.memory
    rows = Rows(config.pp, job.window.rows)
    words, width = job.out.layout.words, job.out.layout.width
    taps = job.window.rows.taps * job.window.columns.taps

    def fits(each: int, chunk: int, groups: int) -> bool:
        reads = Strip(0, each).reads(job.window.columns)[1]
        parameters = chunk * taps <= memory.vector_weight and chunk <= memory.vector_bias
        return (
            len(job.sources) * rows.slots(groups) * reads * chunk <= memory.mid // 2
            and groups * each * chunk <= memory.out // 2
            and (job.weights is None or parameters)
        )

    for count in range(1, width + 1):
        each = -(-width // count)
        # A chunk of few words makes short bursts; strips are the better cut.
        smallest = words if count < 8 and each > 8 else 1
        chunk = next((c for c in range(words, smallest - 1, -1) if fits(each, c, 1)), 0)
        if not chunk:
            continue
        parts = -(-words // chunk)
        chunk = -(-words // parts)
        total = -(-job.out.layout.height // config.pp)
        groups = 1
        while groups < total and groups * each * chunk * taps < WORTHWHILE_CYCLES and fits(each, chunk, groups + 1):
            groups += 1
        return VecTiling(
            strips=tuple(strips(width, each)),
            chunks=tuple((a, min(a + chunk, words)) for a in range(0, words, chunk)),
            tile_groups=groups,
        )
    one = Strip(0, 1).reads(job.window.columns)[1]
    need = 2 * len(job.sources) * rows.slots(1) * one
    if need > memory.mid:
        raise _fits(config, job.layer, "mid", "twice the window of one output column", need, config.icp)
    if taps > memory.vector_weight:
        raise _fits(config, job.layer, "vector_weight", "the window of one word of channels", taps, config.icp)
    raise _fits(config, job.layer, "out", "twice one word of results", 2, config.icp)
