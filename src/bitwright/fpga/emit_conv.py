"""A convolution → instructions."""

from __future__ import annotations

import numpy as np

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Conv, Dest, Load
from bitwright.fpga.jobs import ConvJob
from bitwright.fpga.stream import (
    Item,
    Pass,
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


def conv_passes(stream: Stream, job: ConvJob) -> list[Pass]:
    """The passes of a convolution without a fused maximum."""
    tiling = tile_conv(job, stream.config)
    found = kernel(job, stream.config)
    return [
        _conv_pass(stream, job, tiling, found, strip, chunk, (at == 0, at + 1 == len(tiling.chunks)))
        for strip in tiling.strips
        for at, chunk in enumerate(tiling.chunks)
    ]


def conv_parameters(
    stream: Stream, job: ConvJob, tiling: ConvTiling, found: Kernel, chunk: tuple[int, int], entries: bytes,
    pool_entries: bytes = b"",
) -> tuple[list[Item], int]:  # fmt: skip
    """Loads of a chunk's weights, biases and tables, and which half of the buffers they go to."""
    config = stream.config
    memory = config.memory
    half = stream.half(Token.WEIGHT_FREE)
    if tiling.whole_weights and half:
        raise AssertionError("a chunk that needs both halves starts at the first")
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
    items = stream.load_parameters(job.name, job.dense, parts)
    _, first_free = stream.fill(Token.WEIGHT_FREE)
    items[0] = wait(items[0], *first_free)
    if tiling.whole_weights:
        _, second_free = stream.fill(Token.WEIGHT_FREE)
        if second_free:
            items.insert(0, waiting(nothing_loaded(), *second_free))
    items[-1] = post(items[-1], Token.WEIGHT_READY)
    return items, half


def nothing_loaded() -> Load:
    """A load of nothing, to carry tokens."""
    return Load(dest=Dest.ACT, address=0, base=0, rows=0, words=0, width=0)


def align_weights(stream: Stream, tiling: ConvTiling) -> list[Item]:
    """A chunk that needs both halves must start at the first: an empty fill takes and gives the second."""
    if not tiling.whole_weights or stream.half(Token.WEIGHT_FREE) == 0:
        return []
    _, free = stream.fill(Token.WEIGHT_FREE)
    take = waiting(nothing_loaded(), *free)
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
    stream: Stream, job: ConvJob, tiling: ConvTiling, found: Kernel, strip: Strip, chunk: tuple[int, int],
    ends: tuple[bool, bool],
) -> Pass:  # fmt: skip
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
    starts = range(0, height, per_tile)
    # All that is read in one tile stays for all chunks of output channels.
    first, last = ends if len(starts) == 1 else (True, True)
    tiles: list[Tile] = []
    for start in starts:
        count = min(per_tile, height - start)
        groups = -(-count // config.pp)
        loads: list[Item] = []
        if first:
            act_half, act_free = stream.fill(Token.ACT_FREE)
        else:
            act_half, act_free = 1 - stream.half(Token.ACT_FREE), ()
        act = act_half * (config.memory.act // 2)
        if first:
            first_row = start * job.window.rows.stride - job.window.rows.before
            load = load_rows(job.source, Dest.ACT, act, (first_row, rows.read(count)), columns,
                             (0, job.source.layout.words), rows)  # fmt: skip
            loads.append(post(wait(load, *act_free), Token.ACT_READY))
        out_half, out_free = stream.fill(Token.OUT_FREE)
        out = out_half * (config.memory.out // 2)
        convs = conv_instructions(stream, job, found, chunk, half, act, strip, groups, pitch,
                                   (1, out, strip.count * x_step, x_step))  # fmt: skip
        convs[0] = waiting(convs[0], *([Token.ACT_READY] if first else []), *out_free)
        if start == 0:
            convs[0] = waiting(convs[0], Token.WEIGHT_READY)
        convs[-1] = posting(convs[-1], *([Token.ACT_FREE] if last else []), Token.OUT_READY)
        if start == starts[-1]:
            convs[-1] = posting(convs[-1], Token.WEIGHT_FREE)
        rest: list[Item] = [*convs]
        if start == starts[-1] and tiling.whole_weights:
            rest.append(posting(nothing_convolved(), Token.WEIGHT_FREE))
        stores = _stores(job, config, chunk, out, (start, count), strip, x_step)
        stores[0] = wait(stores[0], Token.OUT_READY)
        stores[-1] = post(stores[-1], Token.OUT_FREE)
        rest += stores
        tiles.append(Tile(loads, rest))
    return Pass([*before, *parameters], tiles, early=True, whole=tiling.whole_weights)


def _stores(
    job: ConvJob, config: ProcessorConfig, chunk: tuple[int, int], out: int, rows: tuple[int, int], strip: Strip, x_step: int
) -> list[Item]:  # fmt: skip
    """The stores of one tile: a chunk's words to wherever their shares go."""
    first, end = stored_words(job.result_words, config, chunk)
    made: list[Item] = []
    at = 0
    for place in job.written:
        a, b = max(first, at), min(end, at + place.layout.words)
        if a < b:
            made.append(store_tile(place, out + a - first, rows, strip, (a - at, b - at), strip.count * x_step, x_step))
        at += place.layout.words
    return made


def stored_words(words: int, config: ProcessorConfig, chunk: tuple[int, int]) -> tuple[int, int]:
    """Which of the ``words`` words of an output pixel a chunk fills."""
    first = chunk[0] * config.ocp // config.icp
    return first, min(-(-chunk[1] * config.ocp // config.icp), words)
