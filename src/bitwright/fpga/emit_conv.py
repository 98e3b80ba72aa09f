"""A convolution → instructions."""

from __future__ import annotations

import numpy as np

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Conv, Dest, Load
from bitwright.fpga.jobs import ConvJob, Place
from bitwright.fpga.stream import (
    Item,
    Pass,
    Relative,
    Stream,
    Tile,
    Token,
    entry_bytes,
    load_rows,
    post,
    posting,
    store_tile,
    wait,
    waiting,
)
from bitwright.fpga.tiles import (
    ConvTiling,
    Kernel,
    Rows,
    Strip,
    chunk_words,
    kernel,
    tile_conv,
)


def conv_passes(stream: Stream, number: int, job: ConvJob) -> list[Pass]:
    """The passes of a convolution without a fused maximum."""
    tiling = tile_conv(job, stream.config)
    found = kernel(job, stream.config)
    return [_conv_pass(stream, number, job, tiling, found, s, c) for s in tiling.strips for c in tiling.chunks]


def conv_parameters(
    stream: Stream, job: ConvJob, tiling: ConvTiling, found: Kernel, chunk: tuple[int, int], entries: bytes,
    pool_entries: bytes = b"",
) -> tuple[list[Item], int]:  # fmt: skip
    """Loads of a chunk's weights, biases and tables, and which half of the buffers they go to."""
    config = stream.config
    memory = config.memory
    if tiling.whole_weights and stream.weight_fills % 2:
        raise AssertionError("a chunk that needs both halves starts at the first")
    half = stream.weight_fills % 2
    weights = b"".join(found.data(run).tobytes() for run in found.within(*chunk))
    first, end = chunk
    bias = np.zeros((end - first) * config.ocp, np.int32)
    mine = job.bias[first * config.ocp : end * config.ocp]
    bias[: len(mine)] = mine
    parts: list[tuple[Dest, int, bytes]] = [
        (Dest.WEIGHT, half * (memory.weight // 2), weights),
        (Dest.BIAS, half * (memory.bias // 2), bias.tobytes()),
        (Dest.CONV_ROWS, half * (memory.rows // 2), entries),
    ]
    if pool_entries:
        parts.append((Dest.VECTOR_ROWS, half * (memory.rows // 4), pool_entries))
    index = stream.add_data(job.name, job.dense, b"".join(values for _, _, values in parts))
    items: list[Item] = []
    at = 0
    for dest, base, values in parts:
        count = len(values) // config.icp
        load = Load(dest=dest, address=at, base=base, words=count, width=count)
        items.append(Relative(load, index))
        at += len(values)
    fills = 2 if tiling.whole_weights else 1
    for extra in range(fills):
        if stream.weight_fills + extra >= 2:
            if extra == 0:
                items[0] = wait(items[0], Token.WEIGHT_FREE)
            else:
                items.insert(0, waiting(nothing_loaded(), Token.WEIGHT_FREE))
    stream.weight_fills += fills
    items[-1] = post(items[-1], Token.WEIGHT_READY)
    return items, half


def nothing_loaded() -> Load:
    """A load of nothing, to carry tokens."""
    return Load(dest=Dest.ACT, address=0, base=0, rows=0, words=0, width=0)


def align_weights(stream: Stream, tiling: ConvTiling) -> list[Item]:
    """A chunk that needs both halves must start at the first: an empty fill takes and gives the second."""
    if not tiling.whole_weights or stream.weight_fills % 2 == 0:
        return []
    take = nothing_loaded()
    if stream.weight_fills >= 2:
        take = waiting(take, Token.WEIGHT_FREE)
    stream.weight_fills += 1
    return [posting(take, Token.WEIGHT_READY), posting(waiting(nothing_convolved(), Token.WEIGHT_READY),
                                                       Token.WEIGHT_FREE)]  # fmt: skip


def nothing_convolved() -> Conv:
    """A convolution of nothing, to carry tokens."""
    return Conv(
        ocs=0,
        groups=0,
        xs=0,
        kh=0,
        kw=0,
        ics=0,
        base=0,
        rows=0,
        weight=0,
        bias=0,
        shift=0,
        lo=0,
        hi=0,
        to_out=0,
        out_base=0,
    )


def conv_instructions(
    stream: Stream, job: ConvJob, found: Kernel, chunk: tuple[int, int], half: int, base: int, strip: Strip, groups: int,
    pitch: int, out: tuple[int, int, int, int],
) -> list[Conv]:  # fmt: skip
    """The instructions of one tile, without tokens; ``out`` is (to_out, base, g_step, x_step)."""
    config = stream.config
    memory = config.memory
    words = job.source.layout.words
    axis = job.window.columns
    rows = Rows(config.pp, job.window.rows)
    weight = half * (memory.weight // 2)
    made: list[Conv] = []
    for run in found.within(*chunk):
        made.append(
            Conv(
                ocs=run.count,
                groups=groups,
                xs=strip.count,
                kh=job.window.rows.taps,
                kw=job.weights.shape[2],
                ics=run.words,
                base=base + run.low,
                g_step=rows.step(pitch),
                x_step=axis.stride * words,
                k_step=axis.dilation * words,
                rows=half * (memory.rows // 2),
                weight=weight,
                bias=half * (memory.bias // 2) + run.first - chunk[0],
                shift=job.finish.shift,
                lo=job.finish.lo,
                hi=job.finish.hi,
                to_out=out[0],
                out_base=out[1],
                out_g_step=out[2],
                out_x_step=out[3],
                granule=(run.first - chunk[0]) * config.granules_per_result,
            )
        )
        weight += run.count * run.words * found.taps
    return made


def _conv_pass(
    stream: Stream, number: int, job: ConvJob, tiling: ConvTiling, found: Kernel, strip: Strip, chunk: tuple[int, int]
) -> Pass:
    config = stream.config
    rows = Rows(config.pp, job.window.rows)
    columns = strip.reads(job.window.columns)
    pitch = columns[1] * job.source.layout.words
    entries = b"".join(entry_bytes(config, *rows.entry(tap, pitch)) for tap in range(job.window.rows.taps))
    before = align_weights(stream, tiling)
    parameters, half = conv_parameters(stream, job, tiling, found, chunk, entries)
    height = job.out.layout.height
    per_tile = tiling.tile_groups * config.pp
    x_step = chunk_words(config, chunk[1] - chunk[0])
    words = stored_words(job.out, config, chunk)
    starts = range(0, height, per_tile)
    tiles: list[Tile] = []
    for start in starts:
        groups = -(-min(per_tile, height - start) // config.pp)
        act = stream.act_fills % 2 * (config.memory.act // 2)
        first_row = start * job.window.rows.stride - job.window.rows.before
        load: Item = load_rows(job.source, Dest.ACT, act, (first_row, rows.count(groups)), columns,
                               (0, job.source.layout.words), rows)  # fmt: skip
        if stream.act_fills >= 2:
            load = wait(load, Token.ACT_FREE)
        stream.act_fills += 1
        out = stream.out_fills % 2 * (config.memory.out // 2)
        convs = conv_instructions(stream, job, found, chunk, half, act, strip, groups, pitch,
                                   (1, out, strip.count * x_step, x_step))  # fmt: skip
        convs[0] = waiting(convs[0], Token.ACT_READY)
        if start == 0:
            convs[0] = waiting(convs[0], Token.WEIGHT_READY)
        if stream.out_fills >= 2:
            convs[0] = waiting(convs[0], Token.OUT_FREE)
        stream.out_fills += 1
        convs[-1] = posting(convs[-1], Token.ACT_FREE, Token.OUT_READY)
        if start == starts[-1]:
            convs[-1] = posting(convs[-1], Token.WEIGHT_FREE)
        rest: list[Item] = [*convs]
        if start == starts[-1] and tiling.whole_weights:
            rest.append(posting(nothing_convolved(), Token.WEIGHT_FREE))
        count = min(per_tile, height - start)
        store = store_tile(job.out, out, (start, count), strip, words, strip.count * x_step, x_step)
        rest.append(post(wait(store, Token.OUT_READY), Token.OUT_FREE))
        tiles.append(Tile([post(load, Token.ACT_READY)], rest))
    return Pass(number, [*before, *parameters], tiles, early=True, whole=tiling.whole_weights)


def stored_words(place: Place, config: ProcessorConfig, chunk: tuple[int, int]) -> tuple[int, int]:
    """Words of an output pixel that a chunk fills."""
    first = chunk[0] * config.ocp // config.icp
    return first, min(-(-chunk[1] * config.ocp // config.icp), place.layout.words)
