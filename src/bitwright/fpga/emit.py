"""Jobs → instructions and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.emit_conv import conv_passes
from bitwright.fpga.emit_fused import fused_passes
from bitwright.fpga.emit_vec import vec_passes
from bitwright.fpga.isa import Store
from bitwright.fpga.jobs import ConvJob, VecJob
from bitwright.fpga.stream import (
    Item,
    Pass,
    Relative,
    Stream,
    Token,
    arrange,
    post,
    wait,
)


def emit(config: ProcessorConfig, jobs: Sequence[tuple[int, ConvJob | VecJob]]) -> Stream:
    """Instructions and parameters of jobs that run one after the other, ``(number, job)``.

    A job that reads what an earlier one wrote waits until that is in external memory; others are loaded ahead.  Memory
    that is used again needs no waiting: loads are done in order, and what is stored was computed from loads that come
    after all earlier ones.
    """
    stream = Stream(config)
    pieces = [(number, piece) for number, job in jobs for piece in job.pieces]
    needs = _needs([piece for _, piece in pieces])
    awaited = set(needs) - {None}
    passes: list[Pass] = []
    for at, (number, job) in enumerate(pieces):
        if isinstance(job, VecJob):
            made = vec_passes(stream, job)
        else:
            made = (conv_passes if job.pool is None else fused_passes)(stream, job)
        if needs[at] is not None:
            # What was written must be in external memory before anything of it is read.
            made[0].waits = True
            loads = made[0].tiles[0].loads
            loads[0] = wait(loads[0], Token.STORED)
        if at in awaited:
            final = made[-1].tiles[-1].rest[-1]
            assert isinstance(final, Relative)
            assert isinstance(final.instruction, Store)
            fenced = Relative(replace(final.instruction, fence=1), final.storage)
            made[-1].tiles[-1].rest[-1] = post(fenced, Token.STORED)
        for one in made:
            one.parameters = [_stamp(item, number) for item in one.parameters]
            for tile in one.tiles:
                tile.loads = [_stamp(item, number) for item in tile.loads]
                tile.rest = [_stamp(item, number) for item in tile.rest]
        passes += made
    stream.items = arrange(passes)
    last = stream.items[-1]
    assert isinstance(last, Relative)
    assert isinstance(last.instruction, Store)
    stream.items[-1] = Relative(replace(last.instruction, last=1, fence=1), last.storage)
    return stream


def _needs(pieces: Sequence[ConvJob | VecJob]) -> list[int | None]:
    """For each piece the one whose results it has to wait for, if none before it has."""
    writer: dict[str, int] = {}
    found: list[int | None] = []
    done = -1
    for at, piece in enumerate(pieces):
        latest = max((writer.get(place.storage, -1) for place in piece.sources), default=-1)
        if at and _apart(pieces[at - 1], piece):
            latest = at - 1
        found.append(latest if latest > done else None)
        done = max(done, latest)
        writer.update(dict.fromkeys((place.storage for place in piece.written), at))
    return found


def _apart(one: ConvJob | VecJob, other: ConvJob | VecJob) -> bool:
    """Whether two pieces may not overlap: one unit writes ``out`` at a time, and a ring has ``mid`` for itself."""
    rings = [isinstance(piece, ConvJob) and piece.pool is not None for piece in (one, other)]
    return any(rings) or isinstance(one, VecJob) != isinstance(other, VecJob)


def _stamp(item: Item, number: int) -> Item:
    if isinstance(item, Relative):
        return Relative(replace(item.instruction, stamp=number), item.storage)
    return replace(item, stamp=number)
