"""The VEC queue: windows of ``mid``, ``pp`` rows × ``icp`` channels at once."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib.memory import Memory

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Mode, Unit
from bitwright.fpga.rtl.ports import BankWrite, Head, delayed, fields, instruction_bits
from bitwright.fpga.rtl.requantizer import clamped, rounded

# Clock edges from a tap's counters to each stage of the pipeline.
ADDRESS = 2
"""Addresses are at the buffer."""
DATA = 4
"""Elements are at their lanes, weights beside them."""
TOTAL = 6
"""The window's sum, maximum or product."""
RESULT = 12
"""The byte, looked up."""
TOTAL_BITS = 48


class Vec(Elaboratable):
    """One tap of all lanes a cycle.

    Attributes:
        head: The oldest instruction.
        row_address: Entry of the row table.
        row_data: The entry, one cycle later.
        mid_address: Word of each bank.
        mid_data: Words, one cycle later.
        weight_address: Word of weights.
        weight_data: The word, one cycle later.
        bias_address: Group of biases.
        bias_data: The group, one cycle later.
        table_enable: An entry of the table is written.
        table_address: Which.
        table_value: Its value.
        write: Results, for ``out``.
    """

    def __init__(self, config: ProcessorConfig, head: Head) -> None:
        self.config, self.head = config, head
        self.row_address = Signal(16, name="vec_row_address")
        self.row_data = Signal(8 * config.icp * config.row_entry_words, name="vec_row_data")
        self.mid_address = [Signal(16, name=f"mid_address{b}") for b in range(config.pp)]
        self.mid_data = [Signal(8 * config.icp, name=f"mid_data{b}") for b in range(config.pp)]
        self.weight_address = Signal(16, name="vec_weight_address")
        self.weight_data = Signal(8 * config.icp, name="vec_weight_data")
        self.bias_address = Signal(16, name="vec_bias_address")
        self.bias_data = Signal(32 * config.icp, name="vec_bias_data")
        self.table_enable = Signal()
        self.table_address = Signal(8)
        self.table_value = Signal(8)
        self.write = BankWrite("vec_write", config.pp, config.granules_per_word, 8 * config.icp)

    def elaborate(self, platform: Any) -> Module:
        """Counters, then the pipeline."""
        m = Module()
        config, head = self.config, self.head
        now = Signal(instruction_bits(Unit.VEC))
        i = fields(Unit.VEC, now)
        step = self._counters(m, now, i)
        address = Signal(16)
        m.d.sync += address.eq(step["address"])
        pp, icp = config.pp, config.icp
        lanes = []
        for b in range(pp):
            m.d.sync += self.mid_address[b].eq(address + self.row_data.word_select(b, 16))
            lanes.append(self.row_data[16 * pp + 8 * b : 16 * pp + 8 * b + 8])
        coefficient = delayed(m, self.row_data[24 * pp : 24 * pp + 16].as_signed(), 3, "coefficient")
        chosen = [delayed(m, lane, 2, f"vec_lane{p}") for p, lane in enumerate(lanes)]
        rows = []
        for p in range(pp):
            row = Signal(8 * icp, name=f"vec_row{p}")
            m.d.sync += row.eq(Array(self.mid_data)[chosen[p][: max((pp - 1).bit_length(), 1)]])
            rows.append(row)
        m.d.comb += self.weight_address.eq(delayed(m, step["weight"], ADDRESS, "vec_weight_at"))
        weights = delayed(m, self.weight_data, 1, "vec_weights")
        first = delayed(m, step["first"], DATA, "vec_first")
        totals = [
            [self._total(m, i, rows[p], weights, coefficient, first, p, c) for c in range(icp)] for p in range(pp)
        ]
        self._results(m, i, step, totals)
        m.d.comb += head.busy.eq(step["busy"])
        return m

    def _counters(self, m: Module, now: Any, i: dict[str, Any]) -> dict[str, Any]:
        head = self.head
        active, empty, waiting = Signal(), Signal(), Signal()
        g, x, c, r, k = (Signal(12, name=f"vec_{n}") for n in ("g", "x", "c", "r", "k"))
        at_g, at_x, tap, weight = (Signal(16, name=f"vec_at_{n}") for n in ("g", "x", "tap", "weight"))
        out_g, out_x = Signal(16), Signal(16)
        last_k, last_r, last_c = k == i["kw"] - 1, r == i["kh"] - 1, c == i["cs"] - 1
        last_tap, last_word = Signal(), Signal()
        ends = Signal()
        m.d.comb += [
            last_tap.eq(last_k & last_r),
            last_word.eq(last_c & (x == i["xs"] - 1) & (g == i["groups"] - 1)),
            ends.eq(active & (empty | (last_tap & last_word))),
            self.row_address.eq(i["rows"] + r),
        ]
        leaving = delayed(m, ends, RESULT + 1, "vec_ends")
        m.d.comb += [
            head.ready.eq(~active & ~waiting),
            head.post.eq(Mux(leaving, i["post"], 0)),
            head.done.eq(leaving & i["last"]),
        ]
        with m.If(leaving):
            m.d.sync += waiting.eq(0)
        with m.If(active & ~empty):
            m.d.sync += [k.eq(k + 1), tap.eq(tap + i["k_step"]), weight.eq(weight + 1)]
            with m.If(last_k):
                m.d.sync += [k.eq(0), r.eq(r + 1), tap.eq(0)]
            with m.If(last_tap):
                m.d.sync += [r.eq(0), c.eq(c + 1)]
                with m.If(last_c):
                    m.d.sync += [c.eq(0), x.eq(x + 1), weight.eq(i["weight"])]
                    m.d.sync += [at_x.eq(at_x + i["x_step"]), out_x.eq(out_x + i["out_x_step"])]
                    with m.If(x == i["xs"] - 1):
                        m.d.sync += [x.eq(0), g.eq(g + 1), at_g.eq(at_g + i["g_step"]), at_x.eq(at_g + i["g_step"])]
                        m.d.sync += [out_g.eq(out_g + i["out_g_step"]), out_x.eq(out_g + i["out_g_step"])]
        with m.If(ends):
            m.d.sync += [active.eq(0), waiting.eq(1)]
        with m.If(head.start):
            coming = fields(Unit.VEC, head.word)
            m.d.sync += [
                now.eq(head.word),
                active.eq(1),
                empty.eq((coming["groups"] == 0) | (coming["xs"] == 0) | (coming["cs"] == 0)),
                at_g.eq(coming["base"]),
                at_x.eq(coming["base"]),
                out_g.eq(coming["out_base"]),
                out_x.eq(coming["out_base"]),
                weight.eq(coming["weight"]),
                *[s.eq(0) for s in (g, x, c, r, k, tap)],
            ]
        return {
            "address": at_x + tap + c,
            "weight": weight,
            "first": (k == 0) & (r == 0),
            "result": active & ~empty & last_tap,
            "bias": i["bias"] + c,
            "out": out_x + c,
            "busy": active | waiting,
        }

    def _total(
        self, m: Module, i: dict[str, Any], row: Any, weights: Any, coefficient: Any, first: Any, p: int, c: int
    ) -> Any:
        """What the taps of one lane combine to, at stage ``TOTAL``."""
        x = row.word_select(c, 8).as_signed()
        first_later = delayed(m, first, 1, f"vec_first_later{p}_{c}") if (p, c) == (0, 0) else None
        if first_later is not None:
            self._first_later = first_later
        total = Signal(signed(32), name=f"vec_total{p}_{c}")
        plain = Signal(signed(8), name=f"vec_plain{p}_{c}")
        m.d.sync += plain.eq(x)
        largest = Mux(self._first_later | (plain > total), plain, total)
        if not self.config.units.multiply:
            m.d.sync += total.eq(largest)
            return total
        before = Signal(signed(8), name=f"vec_before{p}_{c}")
        m.d.sync += before.eq(x)
        by = Signal(signed(16), name=f"vec_by{p}_{c}")
        with m.Switch(i["mode"]):
            with m.Case(int(Mode.CHANNEL)):
                m.d.comb += by.eq(weights.word_select(c, 8).as_signed())
            with m.Case(int(Mode.ROW)):
                m.d.comb += by.eq(coefficient)
            with m.Default():
                m.d.comb += by.eq(Mux(first, 0, before))
        product = Signal(signed(24), name=f"vec_product{p}_{c}")
        m.d.sync += product.eq(x * by)
        added = Mux(self._first_later, product, total + product)
        m.d.sync += total.eq(Mux(i["mode"] == int(Mode.MAX), largest, added))
        return total

    def _results(self, m: Module, i: dict[str, Any], step: dict[str, Any], totals: list[list[Any]]) -> None:
        config = self.config
        m.d.comb += self.bias_address.eq(delayed(m, step["bias"], TOTAL, "vec_bias_at"))
        result = delayed(m, step["result"], RESULT, "vec_result")
        out = delayed(m, step["out"], RESULT, "vec_out")
        for p, row in enumerate(totals):
            found = []
            for c, total in enumerate(row):
                name = f"{p}_{c}"
                scaled = Signal(signed(TOTAL_BITS), name=f"vec_scaled{name}")
                m.d.sync += scaled.eq(total * i["scale"] if config.units.scale else total)
                own = self.bias_data.word_select(c, 32).as_signed()
                biased = Signal(signed(TOTAL_BITS), name=f"vec_biased{name}")
                m.d.sync += biased.eq(scaled + Mux(i["per_channel"], own, i["add"]))
                shifted = rounded(config.rounding, biased, i["shift"])
                short = Signal(signed(len(shifted)), name=f"vec_short{name}")
                m.d.sync += short.eq(shifted)
                byte = Signal(8, name=f"vec_byte{name}")
                m.d.sync += byte.eq(clamped(short, i["lo"], i["hi"]))
                found.append(self._looked_up(m, i, byte, name))
            enable = result & i["lanes"][p]
            m.d.comb += [
                self.write.enable[p].eq(Cat(*([enable] * config.granules_per_word))),
                self.write.data[p].eq(Cat(*found)),
            ]
        m.d.comb += [address.eq(out) for address in self.write.address]

    def _looked_up(self, m: Module, i: dict[str, Any], byte: Any, name: str) -> Any:
        """The byte, or its entry in the table, two stages later."""
        later = delayed(m, byte, 1, f"vec_later{name}")
        final = Signal(8, name=f"vec_final{name}")
        if not self.config.units.table:
            m.d.sync += final.eq(later)
            return final
        memory = Memory(shape=8, depth=256, init=[])
        m.submodules[f"table{name}"] = memory
        read, write = memory.read_port(domain="sync"), memory.write_port()
        m.d.comb += [
            read.addr.eq(byte),
            read.en.eq(1),
            write.addr.eq(self.table_address),
            write.data.eq(self.table_value),
            write.en.eq(self.table_enable),
        ]
        m.d.sync += final.eq(Mux(i["table"], read.data, later))
        return final
