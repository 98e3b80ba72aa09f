"""The whole processor, with two plain channels to external memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Dest, Unit
from bitwright.fpga.limits import STAMP_BITS, beat_bits, pieces
from bitwright.fpga.rtl.conv import Conv
from bitwright.fpga.rtl.fetch import Fetch
from bitwright.fpga.rtl.load import Load
from bitwright.fpga.rtl.memories import UNWATCHED, Banks, Pieces
from bitwright.fpga.rtl.ports import Beats, Requests, fields
from bitwright.fpga.rtl.store import Store
from bitwright.fpga.rtl.tokens import Tokens
from bitwright.fpga.rtl.vec import Vec
from bitwright.fpga.rtl.window import Window

STAMPS = 1 << STAMP_BITS


class Processor(Elaboratable):
    """Queues, units, buffers.

    Attributes:
        start: Run the program at ``address``.
        address: Its first byte.
        busy: It runs.
        fingerprint: Of the configuration.
        cycles: Cycles since the start.
        profile_address: Number of a layer.
        profile_data: Cycle at which its last STORE so far was done, one cycle later.
        read_request: Burst requests for reading.
        read_data: Their data, in order.
        write_request: Burst requests for writing.
        write_data: Their data, in order.
        write_answer: A written burst is in memory.
        conv_busy: CONV works.
        vec_busy: VEC works.
        load_busy: LOAD works.
        store_busy: STORE works.
    """

    def __init__(self, config: ProcessorConfig) -> None:
        self.config = config
        width = 8 * config.bus.bytes
        self.start = Signal()
        self.address = Signal((config.bus.memory_bytes - 1).bit_length())
        self.busy = Signal()
        self.fingerprint = Signal(32)
        self.cycles = Signal(40)
        self.profile_address = Signal(8)
        self.profile_data = Signal(32)
        self.read_request = Requests("ar", beat_bits(config))
        self.read_data = Beats("r", width)
        self.write_request = Requests("aw", beat_bits(config))
        self.write_data = Beats("w", width)
        self.write_answer = Signal()
        self.conv_busy, self.vec_busy, self.load_busy, self.store_busy = (
            Signal(name=f"{unit}_is_busy") for unit in ("conv", "vec", "load", "store")
        )

    def ports(self) -> list[Signal]:
        """All signals that leave the processor."""
        channels = [
            *(s for c in (self.read_request, self.write_request) for s in (c.valid, c.ready, c.address, c.beats)),
            *(s for c in (self.read_data, self.write_data) for s in (c.valid, c.ready, c.data)),
        ]
        plain = [self.start, self.address, self.busy, self.fingerprint, self.cycles, self.write_answer]
        profile = [self.profile_address, self.profile_data]
        return [*plain, *profile, *channels, self.conv_busy, self.vec_busy, self.load_busy, self.store_busy]

    def elaborate(self, platform: Any) -> Module:
        """Wires everything."""
        m = Module()
        config = self.config
        memory = config.memory
        fetch = Window(config) if config.control == "small" else Fetch(config)
        heads = {head.unit: head for head in fetch.heads}
        load, store = Load(config, heads[Unit.LOAD]), Store(config, heads[Unit.STORE])
        conv, vec = Conv(config, heads[Unit.CONV]), Vec(config, heads[Unit.VEC])
        tokens = Tokens(config, fetch.heads)
        columns, word = config.granules_per_word, 8 * config.icp
        act = Banks("act", config.pp, memory.act, 1, word)
        mid = Banks("mid", config.pp, memory.mid, columns, word)
        out = Banks("out", config.pp, memory.out, columns, word)
        many = pieces(config)
        # What a row table's entry is read for: where each row is, and a coefficient where there are products.
        plain = (config.memory.act - 1).bit_length() if config.pp == 1 else 24 * config.pp
        vector = 24 * config.pp + 16 if config.units.multiply else max(plain, (config.memory.mid - 1).bit_length())
        wide = {
            Dest.WEIGHT: Pieces("weight", memory.weight, many[Dest.WEIGHT], word),
            Dest.BIAS: Pieces("bias", memory.bias, many[Dest.BIAS], word),
            Dest.CONV_ROWS: Pieces("conv_rows", memory.rows, many[Dest.CONV_ROWS], word, plain),
            Dest.VECTOR_ROWS: Pieces("vector_rows", memory.rows, many[Dest.VECTOR_ROWS], word, vector),
        }
        if config.units.multiply:
            wide[Dest.VECTOR_WEIGHT] = Pieces("vector_weight", memory.vector_weight, 1, word)
            wide[Dest.VECTOR_BIAS] = Pieces("vector_bias", memory.vector_bias, many[Dest.VECTOR_BIAS], word)
        parts = {"fetch": fetch, "load": load, "store": store, "conv": conv, "vec": vec, "tokens": tokens,
                 "act": act, "mid": mid, "out": out, **{d.name.lower(): memory for d, memory in wide.items()}}  # fmt: skip
        for name, part in parts.items():
            m.submodules[name] = part
        self._read(m, fetch, load)
        self._loading(m, load, vec, act, wide)
        # mid: results of CONV come first, words of LOAD wait.
        conv_to_mid = conv.to_mid
        to_out = conv.to_out & conv.writing
        m.d.comb += load.hold.eq(load.to_mid & conv_to_mid)
        for b in range(config.pp):
            loaded = load.valid & (load.dest == int(Dest.MID)) & (load.bank == b)
            with m.If(conv_to_mid):
                m.d.comb += [mid.write.enable[b].eq(conv.write.enable[b]), mid.write.data[b].eq(conv.write.data[b])]
            with m.Else():
                m.d.comb += [mid.write.enable[b].eq(Mux(loaded, ~0, 0)), mid.write.data[b].eq(load.data)]
            with m.If(to_out):
                m.d.comb += [out.write.enable[b].eq(conv.write.enable[b]), out.write.data[b].eq(conv.write.data[b])]
            with m.Else():
                m.d.comb += [out.write.enable[b].eq(vec.write.enable[b]), out.write.data[b].eq(vec.write.data[b])]
            m.d.comb += [
                act.read_address[b].eq(conv.act_address[b]),
                conv.act_data[b].eq(act.read_data[b]),
                mid.read_address[b].eq(vec.mid_address[b]),
                vec.mid_data[b].eq(mid.read_data[b]),
                out.read_address[b].eq(store.read_address),
                store.read_data[b].eq(out.read_data[b]),
            ]
        for c in range(columns):
            m.d.comb += [
                mid.write.address[c].eq(Mux(conv_to_mid, conv.write.address[c], load.address)),
                out.write.address[c].eq(Mux(to_out, conv.write.address[c], vec.write.address[c])),
            ]
        for table, address, data in (
            (Dest.WEIGHT, conv.weight_address, conv.weight_data),
            (Dest.BIAS, conv.bias_address, conv.bias_data),
            (Dest.CONV_ROWS, conv.row_address, conv.row_data),
            (Dest.VECTOR_WEIGHT, vec.weight_address, vec.weight_data),
            (Dest.VECTOR_BIAS, vec.bias_address, vec.bias_data),
            (Dest.VECTOR_ROWS, vec.row_address, vec.row_data),
        ):
            if table in wide:
                m.d.comb += [wide[table].read_address.eq(address), data.eq(wide[table].read_data)]
        self._write(m, store)
        self._control(m, fetch, tokens, {Unit.LOAD: load, Unit.CONV: conv, Unit.VEC: vec, Unit.STORE: store})
        return m

    def _read(self, m: Module, fetch: Fetch | Window, load: Load) -> None:
        """Requests of FETCH before those of LOAD; data to who asked, in order."""
        config = self.config
        # Where runs are not split, who asked knows its last beat; else the length of each burst is kept.
        knows = not config.bus.splits and isinstance(fetch, Window)
        bits = 0 if knows else len(self.read_request.beats)
        owners = SyncFIFOBuffered(width=bits + 1, depth=max(config.bus.outstanding, 3))
        m.submodules.owners = owners
        ours = fetch.request.valid
        request = self.read_request
        m.d.comb += [
            request.valid.eq((fetch.request.valid | load.bursts.request.valid) & owners.w_rdy),
            request.address.eq(Mux(ours, fetch.request.address, load.bursts.request.address)),
            request.beats.eq(Mux(ours, fetch.request.beats, load.bursts.request.beats)),
            fetch.request.ready.eq(request.ready & owners.w_rdy),
            load.bursts.request.ready.eq(request.ready & owners.w_rdy & ~ours),
            owners.w_en.eq(request.valid & request.ready),
            owners.w_data.eq(Cat(ours, request.beats)),
        ]
        to_fetch = owners.r_data[0]
        data = self.read_data
        m.d.comb += [
            fetch.beats.data.eq(data.data),
            load.beats.data.eq(data.data),
            fetch.beats.valid.eq(data.valid & owners.r_rdy & to_fetch),
            load.beats.valid.eq(data.valid & owners.r_rdy & ~to_fetch),
            data.ready.eq(owners.r_rdy & Mux(to_fetch, fetch.beats.ready, load.beats.ready)),
        ]
        if isinstance(fetch, Window) and knows:
            m.d.comb += owners.r_en.eq(data.valid & data.ready & Mux(to_fetch, fetch.complete, load.run_ends))
            return
        beat, following = Signal(bits), Signal(bits)
        m.d.comb += following.eq(beat + 1)
        with m.If(data.valid & data.ready):
            with m.If(following == owners.r_data[1:]):
                m.d.sync += beat.eq(0)
                m.d.comb += owners.r_en.eq(1)
            with m.Else():
                m.d.sync += beat.eq(following)

    def _loading(self, m: Module, load: Load, vec: Vec, act: Banks, wide: dict[Dest, Pieces]) -> None:
        """Words of LOAD to their buffers."""
        for b in range(self.config.pp):
            m.d.comb += [
                act.write.enable[b].eq(load.valid & (load.dest == int(Dest.ACT)) & (load.bank == b)),
                act.write.data[b].eq(load.data),
            ]
        m.d.comb += act.write.address[0].eq(load.address)
        for dest, memory in wide.items():
            m.d.comb += [
                memory.write_enable.eq(load.valid & (load.dest == int(dest))),
                memory.write_address.eq(load.address),
                memory.write_piece.eq(load.piece),
                memory.write_data.eq(load.data),
            ]
        m.d.comb += [
            vec.table_enable.eq(load.valid & (load.dest == int(Dest.TABLE))),
            vec.table_address.eq(load.address),
            vec.table_value.eq(load.data[:8]),
        ]

    def _write(self, m: Module, store: Store) -> None:
        request, data = self.write_request, self.write_data
        m.d.comb += [
            request.valid.eq(store.bursts.request.valid),
            request.address.eq(store.bursts.request.address),
            request.beats.eq(store.bursts.request.beats),
            store.bursts.request.ready.eq(request.ready),
            data.valid.eq(store.beats.valid),
            data.data.eq(store.beats.data),
            store.beats.ready.eq(data.ready),
            store.answered.eq(self.write_answer),
        ]

    def _control(self, m: Module, fetch: Fetch | Window, tokens: Tokens, units: dict[Unit, Any]) -> None:
        """Start, end, cycles and the profile."""
        m.d.comb += [
            self.fingerprint.eq(self.config.fingerprint),
            fetch.start.eq(self.start & ~self.busy),
            fetch.address.eq(self.address),
            tokens.clear.eq(self.start & ~self.busy),
            self.load_busy.eq(units[Unit.LOAD].head.busy),
            self.conv_busy.eq(units[Unit.CONV].head.busy),
            self.vec_busy.eq(units[Unit.VEC].head.busy),
            self.store_busy.eq(units[Unit.STORE].head.busy),
        ]
        finished = Signal()
        done = Signal()
        any_done = units[Unit.LOAD].head.done
        for unit in (Unit.CONV, Unit.VEC, Unit.STORE):
            any_done = any_done | units[unit].head.done
        m.d.comb += [finished.eq(done & ~fetch.active)]
        with m.If(any_done):
            m.d.sync += done.eq(1)
        with m.If(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        with m.If(finished):
            m.d.sync += [self.busy.eq(0), done.eq(0)]
        with m.If(self.start & ~self.busy):
            m.d.sync += [self.busy.eq(1), self.cycles.eq(0), done.eq(0)]
        profile = Memory(shape=32, depth=STAMPS, init=[], attrs=UNWATCHED)
        m.submodules.profile = profile
        read, write = profile.read_port(domain="sync"), profile.write_port()
        stamp = Signal(STAMP_BITS)
        store = units[Unit.STORE]
        with m.If(store.head.start):
            m.d.sync += stamp.eq(fields(Unit.STORE, store.head.word, self.config)["stamp"])
        m.d.comb += [
            read.addr.eq(self.profile_address),
            read.en.eq(1),
            self.profile_data.eq(read.data),
            write.addr.eq(stamp),
            write.data.eq(self.cycles),
            write.en.eq(store.finishing),
        ]
