"""A convolution and the maximum over windows that follows → instructions.

Rows of results go into a ring in ``mid``; the vector unit reads them there while the array computes the next ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bitwright.fpga.emit_conv import align_weights, conv_instructions, conv_parameters, stored_words
from bitwright.fpga.isa import Dest, Mode, Vec
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
    pool_groups,
    tile_conv,
)


@dataclass
class _Fused:
    """A convolution whose results go through a ring of rows into a maximum."""

    stream: Stream
    job: ConvJob
    tiling: ConvTiling
    found: Kernel

    def passes(self) -> list[Pass]:
        """The passes of the job."""
        job, config, tiling = self.job, self.stream.config, self.tiling
        assert job.pool is not None
        pool_total = -(-job.out.layout.height // config.pp)
        spans = [pool_groups(job.pool, config.pp, q) for q in range(pool_total)]
        conv_total = -(-job.pool_of[0] // config.pp)
        spans = [(a, min(b, conv_total - 1)) for a, b in spans]
        needed = spans[-1][1] + 1  # rows of the convolution that no maximum reads are not computed
        order = [(s, c) for s in tiling.strips for c in tiling.chunks]
        # Groups of the convolution and of the maximum are counted over all passes: the ring goes on turning.
        freed: list[int] = []
        for at in range(len(order)):
            for q in range(pool_total):
                until = spans[q + 1][0] if q + 1 < pool_total else needed
                freed += [at * pool_total + q] * (until - spans[q][0])
        waits: dict[int, list[int]] = {}
        last_event = -1
        for n in range(tiling.ring, needed * len(order)):
            event = freed[n - tiling.ring]
            if event > last_event:
                waits[n] = [event]
                last_event = event
        events = {event for some in waits.values() for event in some}
        return [self._one(at, strip, chunk, spans, needed, waits, events) for at, (strip, chunk) in enumerate(order)]

    def _one(
        self, at: int, strip: Strip, chunk: tuple[int, int], spans: list[tuple[int, int]], needed: int,
        waits: dict[int, list[int]], events: set[int],
    ) -> Pass:  # fmt: skip
        stream, job, tiling, config = self.stream, self.job, self.tiling, self.stream.config
        assert job.pool is not None
        axis = job.pool.columns
        conv_strip = Strip(
            strip.first * axis.stride, (strip.count - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1
        )
        rows = Rows(config.pp, job.window.rows)
        columns = conv_strip.reads(job.window.columns)
        pitch = columns[1] * job.source.layout.words
        x_step = chunk_words(config, chunk[1] - chunk[0])
        slot_words = self._slot_words()
        entries = b"".join(entry_bytes(config, *rows.entry(tap, pitch)) for tap in range(job.window.rows.taps))
        table: dict[bytes, int] = {}
        before = align_weights(stream, tiling)
        half = stream.half(Token.WEIGHT_FREE)
        vectors = [
            self._maximum(q, at * needed, slot_words, table, half * (config.memory.rows // 4), strip, x_step)
            for q in range(len(spans))
        ]
        if sum(len(block) for block in table) > config.memory.rows // 4 * config.row_entry_words * config.icp:
            raise AssertionError("the row table of a fused maximum is larger than the ring was made for")
        parameters, half = conv_parameters(stream, job, tiling, self.found, chunk, entries, b"".join(table))
        tiles: list[Tile] = []
        done = 0
        for g in range(needed):
            n = at * needed + g
            act_half, act_free = stream.fill(Token.ACT_FREE)
            act = act_half * (config.memory.act // 2)
            first_row = g * config.pp * job.window.rows.stride - job.window.rows.before
            load = load_rows(job.source, Dest.ACT, act, (first_row, rows.count(1)), columns,
                                   (0, job.source.layout.words), rows)  # fmt: skip
            convs = conv_instructions(stream, job, self.found, chunk, half, act, conv_strip, 1, pitch,
                                       (0, n % tiling.ring * slot_words, slot_words, x_step))  # fmt: skip
            convs[0] = waiting(convs[0], Token.ACT_READY)
            if g == 0:
                convs[0] = waiting(convs[0], Token.WEIGHT_READY)
            if n in waits:
                convs[0] = waiting(convs[0], Token.RING_FREE)
            convs[-1] = posting(convs[-1], Token.ACT_FREE)
            rest: list[Item] = [*convs]
            ready = [q for q in range(done, len(spans)) if spans[q][1] == g]
            if ready:
                rest[-1] = post(rest[-1], Token.RING_READY)
            for q in ready:
                rest += self._finish(at, q, q == ready[0], vectors[q], strip, chunk, x_step, events, len(spans))
                done = q + 1
            tiles.append(Tile([post(wait(load, *act_free), Token.ACT_READY)], rest))
        return Pass([*before, *parameters], tiles, early=True, whole=tiling.whole_weights)

    def _slot_words(self) -> int:
        """Words of a slot: the largest pass's, for slots of one pass must not lie across those of another."""
        job, config = self.job, self.stream.config
        assert job.pool is not None
        axis = job.pool.columns
        widest = max(strip.count for strip in self.tiling.strips)
        columns = (widest - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1
        return columns * max(chunk_words(config, b - a) for a, b in self.tiling.chunks)

    def _maximum(
        self, q: int, ring_at: int, slot_words: int, table: dict[bytes, int], table_at: int, strip: Strip, x_step: int
    ) -> list[Vec]:
        """The instructions of group ``q`` of the maximum, without tokens and output."""
        job, config, ring = self.job, self.stream.config, self.tiling.ring
        assert job.pool is not None
        assert job.pool_finish is not None
        axis = job.pool.rows
        size = job.pool_of[0]
        valid = [lane for lane in range(config.pp) if q * config.pp + lane < job.out.layout.height]

        def at(lane: int, tap: int) -> tuple[int, int]:
            row = min((q * config.pp + lane) * axis.stride + tap * axis.dilation, size - 1)
            return row % config.pp, (ring_at + row // config.pp) % ring * slot_words

        apart = all(len({at(lane, tap)[0] for lane in valid}) == len(valid) for tap in range(axis.taps))
        made: list[Vec] = []
        for lanes in [valid] if apart else [[lane] for lane in valid]:
            block = b""
            for tap in range(axis.taps):
                offsets, banks = [0] * config.pp, [at(lanes[0], tap)[0]] * config.pp
                for lane in lanes:
                    bank, offset = at(lane, tap)
                    offsets[bank], banks[lane] = offset, bank
                block += entry_bytes(config, offsets, banks)
            size_bytes = config.row_entry_words * config.icp
            if block not in table:
                table[block] = sum(len(b) for b in table) // size_bytes
            columns = job.pool.columns
            made.append(
                Vec(
                    mode=Mode.MAX,
                    groups=1,
                    xs=strip.count,
                    cs=x_step,
                    kh=axis.taps,
                    kw=columns.taps,
                    base=0,
                    x_step=columns.stride * x_step,
                    k_step=columns.dilation * x_step,
                    rows=table_at + table[block],
                    lo=job.pool_finish.lo,
                    hi=job.pool_finish.hi,
                    lanes=sum(1 << lane for lane in lanes),
                    out_base=0,
                    out_x_step=x_step,
                )
            )
        return made

    def _finish(
        self, at: int, q: int, first: bool, vectors: list[Vec], strip: Strip, chunk: tuple[int, int], x_step: int,
        events: set[int], total: int,
    ) -> list[Item]:  # fmt: skip
        stream, job, config = self.stream, self.job, self.stream.config
        out_half, out_free = stream.fill(Token.OUT_FREE)
        out = out_half * (config.memory.out // 2)
        made = [replace(v, out_base=out) for v in vectors]
        if first:
            made[0] = waiting(made[0], Token.RING_READY)
        made[0] = waiting(made[0], *out_free)
        made[-1] = posting(made[-1], Token.OUT_READY)
        if at * total + q in events:
            made[-1] = posting(made[-1], Token.RING_FREE)
        rest: list[Item] = []
        if q == total - 1:
            made[-1] = posting(made[-1], Token.WEIGHT_FREE)
            if self.tiling.whole_weights:
                rest.append(posting(replace(made[-1], groups=0, wait=0, post=0), Token.WEIGHT_FREE))
        start = q * config.pp
        count = min(config.pp, job.out.layout.height - start)
        store = store_tile(
            job.out, out, (start, count), strip, stored_words(job.result_words, config, chunk), 0, x_step
        )
        return [*made, *rest, post(wait(store, Token.OUT_READY), Token.OUT_FREE)]


def fused_passes(stream: Stream, job: ConvJob) -> list[Pass]:
    """The passes of a convolution with a fused maximum."""
    return _Fused(stream, job, tile_conv(job, stream.config), kernel(job, stream.config)).passes()
