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
    """Instructions and parameters of jobs that run one after the other, ``(number, job)``."""
    stream = Stream(config)
    passes: list[Pass] = []
    for at, (number, job) in enumerate(jobs):
        if isinstance(job, VecJob):
            made = vec_passes(stream, number, job)
        else:
            made = (conv_passes if job.pool is None else fused_passes)(stream, number, job)
        if at:
            # What the job before wrote must be in external memory before anything of it is read.
            target = made[0].tiles[0].loads if not isinstance(job, VecJob) else made[0].parameters
            target[0] = wait(target[0], Token.STORED)
        if at + 1 < len(jobs):
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


def _stamp(item: Item, number: int) -> Item:
    if isinstance(item, Relative):
        return Relative(replace(item.instruction, stamp=number), item.storage)
    return replace(item, stamp=number)
