"""A job of the vector unit → instructions."""

from __future__ import annotations

import numpy as np

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Dest, Mode, Vec
from bitwright.fpga.jobs import VecJob
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
    Rows,
    Strip,
    VecTiling,
    tile_vec,
)


def vec_passes(stream: Stream, job: VecJob) -> list[Pass]:
    """The passes of a job of the vector unit."""
    tiling = tile_vec(job, stream.config)
    made: list[Pass] = []
    order = [(s, c) for c in tiling.chunks for s in tiling.strips]
    for at, (strip, chunk) in enumerate(order):
        fresh = at == 0 or order[at - 1][1] != chunk or order[at - 1][0].count != strip.count
        ends = at + 1 == len(order) or order[at + 1][1] != chunk or order[at + 1][0].count != strip.count
        made.append(_vec_pass(stream, job, tiling, strip, chunk, fresh, ends))
    return made


def _vec_parameters(stream: Stream, job: VecJob, chunk: tuple[int, int], entries: bytes) -> list[Item]:
    config = stream.config
    icp, taps = config.icp, job.window.rows.taps * job.window.columns.taps
    parts: list[tuple[Dest, int, bytes]] = [(Dest.VECTOR_ROWS, config.memory.rows // 2, entries)]
    if job.weights is not None and job.bias is not None:
        bytes_of = slice(chunk[0] * icp, chunk[1] * icp)
        weights = job.weights[:, :, bytes_of].reshape(taps, -1, icp).transpose(1, 0, 2)
        parts.append((Dest.VECTOR_WEIGHT, 0, np.ascontiguousarray(weights).tobytes()))
        parts.append((Dest.VECTOR_BIAS, 0, job.bias[bytes_of].astype(np.int32).tobytes()))
    if job.table is not None:
        spread = np.zeros((256, icp), np.int8)
        spread[:, 0] = job.table
        parts.append((Dest.TABLE, 0, spread.tobytes()))
    items = stream.load_parameters(job.name, False, parts)
    if stream.fills[Token.PARAMETERS_FREE]:
        items[0] = wait(items[0], Token.PARAMETERS_FREE)
    stream.fills[Token.PARAMETERS_FREE] += 1
    return items


def _entries(config: ProcessorConfig, job: VecJob, rows: Rows, pitch: int, region: int) -> bytes:
    """The row table: an entry for each row of the window, or for each of two tensors, ``region`` words apart."""
    if len(job.sources) > 1:
        offsets, banks = rows.entry(0, pitch)
        return b"".join(
            entry_bytes(config, [offset + at * region for offset in offsets], banks, coefficient)
            for at, coefficient in enumerate(job.coefficients)
        )
    coefficients = job.coefficients if job.mode is Mode.ROW else (0,) * job.window.rows.taps
    return b"".join(entry_bytes(config, *rows.entry(tap, pitch), c) for tap, c in enumerate(coefficients))


def _vec_pass(
    stream: Stream, job: VecJob, tiling: VecTiling, strip: Strip, chunk: tuple[int, int], fresh: bool, ends: bool
) -> Pass:  # fmt: skip
    config = stream.config
    rows = Rows(config.pp, job.window.rows)
    columns = strip.reads(job.window.columns)
    words = chunk[1] - chunk[0]
    pitch = columns[1] * words
    slots = rows.slots(tiling.tile_groups)
    region = slots * pitch
    entries = _entries(config, job, rows, pitch, region)
    parameters = _vec_parameters(stream, job, chunk, entries) if fresh else []
    height = job.out.layout.height
    per_tile = tiling.tile_groups * config.pp
    starts = range(0, height, per_tile)
    tiles: list[Tile] = []
    for start in starts:
        count = min(per_tile, height - start)
        groups = -(-count // config.pp)
        mid_half, mid_free = stream.fill(Token.MID_FREE)
        mid = mid_half * (config.memory.mid // 2)
        first_row = start * job.window.rows.stride - job.window.rows.before
        loads: list[Item] = []
        for at, place in enumerate(job.sources):
            loads.append(
                load_rows(
                    place, Dest.MID, mid + at * region, (first_row, rows.read(count)), columns, chunk, rows, job.fill
                )
            )
        loads[0] = wait(loads[0], *mid_free)
        loads[-1] = post(loads[-1], Token.MID_READY)
        out_half, out_free = stream.fill(Token.OUT_FREE)
        out = out_half * (config.memory.out // 2)
        vec = Vec(
            mode=job.mode,
            groups=groups,
            xs=strip.count,
            cs=words,
            kh=len(job.sources) if len(job.sources) > 1 else job.window.rows.taps,
            kw=job.window.columns.taps,
            base=mid,
            g_step=rows.step(pitch),
            x_step=job.window.columns.stride * words,
            k_step=job.window.columns.dilation * words,
            rows=config.memory.rows // 2,
            per_channel=int(job.bias is not None),
            add=job.finish.add,
            scale=job.finish.scale,
            shift=job.finish.shift,
            lo=job.finish.lo,
            hi=job.finish.hi,
            table=int(job.table is not None),
            out_base=out,
            out_g_step=strip.count * words,
            out_x_step=words,
        )
        vec = posting(waiting(vec, Token.MID_READY, *out_free), Token.MID_FREE, Token.OUT_READY)
        if ends and start == starts[-1]:
            vec = posting(vec, Token.PARAMETERS_FREE)
        stores: list[Item] = [
            store_tile(place, out, (start, count), strip, chunk, strip.count * words, words) for place in job.written
        ]
        stores[0] = wait(stores[0], Token.OUT_READY)
        stores[-1] = post(stores[-1], Token.OUT_FREE)
        tiles.append(Tile(loads, [vec, *stores]))
    return Pass(parameters, tiles, early=False)
