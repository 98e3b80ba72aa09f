"""The VEC queue: windows of ``mid``, ``pp`` rows × ``icp`` channels at once."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib.memory import Memory

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Mode
from bitwright.fpga.rtl.memories import UNWATCHED
from bitwright.fpga.rtl.ports import BankWrite, Head, Loop, delayed, held
from bitwright.fpga.rtl.requantizer import clamped, rounded
from bitwright.fpga.stages import DATA, vec_stages

ADDRESS = 2
"""Clock edges from a tap's counters until addresses are at the buffer."""
LIMITS = {"g": "groups", "x": "xs", "c": "cs", "r": "kh", "k": "kw"}
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
        i, coming = held(m, head, config)
        step = self._counters(m, i, coming)
        address = Signal(16)
        m.d.sync += address.eq(step["address"])
        pp, icp = config.pp, config.icp
        rows = []
        for b in range(pp):
            m.d.sync += self.mid_address[b].eq(address + self.row_data.word_select(b, 16))
            bank = 16 * pp + 8 * b
            lane = self.row_data[bank : bank + (pp - 1).bit_length()]
            row = Signal(8 * icp, name=f"vec_row{b}")
            found = Array(self.mid_data)[delayed(m, lane, 2, f"vec_lane{b}")] if pp > 1 else self.mid_data[0]
            m.d["comb" if config.control == "small" and not config.units.multiply else "sync"] += row.eq(found)
            rows.append(row)
        coefficient = delayed(m, self.row_data[24 * pp : 24 * pp + 16].as_signed(), 3, "coefficient")
        m.d.comb += self.weight_address.eq(delayed(m, step["weight"], ADDRESS, "vec_weight_at"))
        weights = delayed(m, self.weight_data, 1, "vec_weights")
        first = delayed(m, step["first"], DATA if config.units.multiply else vec_stages(config).total - 1, "vec_first")
        totals = [
            [self._total(m, i, rows[p], weights, coefficient, first, p, c) for c in range(icp)] for p in range(pp)
        ]
        self._results(m, i, coming, step, totals)
        m.d.comb += head.busy.eq(step["busy"])
        return m

    def _counters(self, m: Module, i: dict[str, Any], coming: dict[str, Any]) -> dict[str, Any]:
        head = self.head
        active, empty, waiting = Signal(), Signal(), Signal()
        limits = {name: i[field] for name, field in LIMITS.items()}
        small = self.config.control == "small"
        loops = {name: Loop(m, f"vec_{name}", limit, small) for name, limit in limits.items()}
        last = {name: loop.last for name, loop in loops.items()}
        first, row_at = Signal(name="vec_first_tap"), Signal(len(i["rows"]), name="vec_row_at")
        at_g, at_x, at_c, tap = (Signal(len(i["base"]), name=f"vec_at_{n}") for n in ("g", "x", "c", "tap"))
        weight, bias = Signal(len(i["weight"])), Signal(len(i["bias"]))
        last_tap, ends = Signal(name="vec_last_tap"), Signal(name="vec_last")
        m.d.comb += [
            last_tap.eq(last["k"] & last["r"]),
            ends.eq(active & (empty | (last_tap & last["c"] & last["x"] & last["g"]))),
            self.row_address.eq(row_at),
        ]
        leaving = delayed(m, ends, vec_stages(self.config).leaves, "vec_ends")
        m.d.comb += [
            head.ready.eq(~active & ~waiting),
            head.post.eq(Mux(leaving, i["post"], 0)),
            head.done.eq(leaving & i["last"]),
            head.over.eq(leaving),
        ]
        with m.If(leaving):
            m.d.sync += waiting.eq(0)

        with m.If(active & ~empty):
            m.d.sync += [loops["k"].next(), tap.eq(tap + i["k_step"]), weight.eq(weight + 1), first.eq(last_tap)]
            with m.If(last["k"]):
                m.d.sync += [loops["r"].next(), tap.eq(0), row_at.eq(row_at + 1)]
            with m.If(last_tap):
                m.d.sync += [loops["c"].next(), bias.eq(bias + 1), row_at.eq(i["rows"]), at_c.eq(at_c + 1)]
                with m.If(last["c"]):
                    m.d.sync += [loops["x"].next(), weight.eq(i["weight"]), bias.eq(i["bias"])]
                    m.d.sync += [s.eq(at_x + i["x_step"]) for s in (at_x, at_c)]
                    with m.If(last["x"]):
                        m.d.sync += [loops["g"].next(), *[s.eq(at_g + i["g_step"]) for s in (at_g, at_x, at_c)]]
        with m.If(ends):
            m.d.sync += [active.eq(0), waiting.eq(1)]
        with m.If(head.start):
            m.d.sync += [
                active.eq(1),
                empty.eq((coming["groups"] == 0) | (coming["xs"] == 0) | (coming["cs"] == 0)),
                *[s.eq(coming["base"]) for s in (at_g, at_x, at_c)],
                row_at.eq(coming["rows"]),
                first.eq(1),
                weight.eq(coming["weight"]),
                bias.eq(coming["bias"]),
                tap.eq(0),
                *[loops[name].begin(coming[field]) for name, field in LIMITS.items()],
            ]
        result = active & ~empty & last_tap
        return {
            "address": at_c + tap,
            "weight": weight,
            "first": first,
            "result": result,
            "last_c": last["c"],
            "last_x": last["x"],
            "bias": bias,
            "busy": active | waiting,
        }

    def _total(
        self, m: Module, i: dict[str, Any], row: Any, weights: Any, coefficient: Any, first: Any, p: int, c: int
    ) -> Any:
        """What the taps of one lane combine to, at stage ``TOTAL``."""
        x = row.word_select(c, 8).as_signed()
        multiplies = self.config.units.multiply
        total = Signal(signed(32 if multiplies else 8), name=f"vec_total{p}_{c}")
        if not multiplies:
            m.d.sync += total.eq(Mux(first | (x > total), x, total))
            return total
        if (p, c) == (0, 0):
            self._first_later = delayed(m, first, 1, "vec_first_later")
        plain = Signal(signed(8), name=f"vec_plain{p}_{c}")
        m.d.sync += plain.eq(x)
        largest = Mux(self._first_later | (plain > total), plain, total)
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

    def _results(
        self, m: Module, i: dict[str, Any], coming: dict[str, Any], step: dict[str, Any], totals: list[list[Any]]
    ) -> None:
        config, stages = self.config, vec_stages(self.config)
        if config.units.multiply:  # read one cycle early, so that they are in a register beside the scaled total
            m.d.comb += self.bias_address.eq(delayed(m, step["bias"], stages.total - 1, "vec_bias_at"))
            biases = delayed(m, self.bias_data, 1, "vec_biases")
        result, last_c, last_x = (
            delayed(m, step[name], stages.result, f"vec_{name}") for name in ("result", "last_c", "last_x")
        )
        out_g, out_x, out = (Signal(len(i["out_base"]), name=f"vec_out{n}") for n in ("_g", "_x", ""))
        with m.If(result):
            m.d.sync += out.eq(out + 1)
            with m.If(last_c):
                m.d.sync += [out_x.eq(out_x + i["out_x_step"]), out.eq(out_x + i["out_x_step"])]
                with m.If(last_x):
                    m.d.sync += [s.eq(out_g + i["out_g_step"]) for s in (out_g, out_x, out)]
        with m.If(self.head.start):
            m.d.sync += [s.eq(coming["out_base"]) for s in (out_g, out_x, out)]
        for p, row in enumerate(totals):
            found = []
            for c, total in enumerate(row):
                name = f"{p}_{c}"
                if config.units.multiply:
                    total = self._finished(m, i, total, biases.word_select(c, 32).as_signed(), name)
                if not (config.units.multiply or config.units.table):
                    found.append(total)
                    continue
                byte = Signal(8, name=f"vec_byte{name}")
                m.d.sync += byte.eq(clamped(total, i["lo"], i["hi"]))
                found.append(self._looked_up(m, i, byte, name))
            enable = result & i["lanes"][p]
            m.d.comb += [
                self.write.enable[p].eq(Cat(*([enable] * config.granules_per_word))),
                self.write.data[p].eq(Cat(*found)),
            ]
        m.d.comb += [address.eq(out) for address in self.write.address]

    def _finished(self, m: Module, i: dict[str, Any], total: Any, own: Any, name: str) -> Any:
        """Scaled, biased, rounded and shifted: four stages later, where there is a register at rounding, else three."""
        config = self.config
        scaled = Signal(signed(TOTAL_BITS), name=f"vec_scaled{name}")
        m.d.sync += scaled.eq(total * i["scale"] if config.units.scale else total)
        biased = Signal(signed(TOTAL_BITS), name=f"vec_biased{name}")
        m.d.sync += biased.eq(scaled + Mux(i["per_channel"], own, i["add"]))
        shifted = rounded(m, config.rounding, biased, i["shift"], vec_stages(config).rounded, f"vec{name}")
        short = Signal(signed(len(shifted)), name=f"vec_short{name}")
        m.d.sync += short.eq(shifted)
        return short

    def _looked_up(self, m: Module, i: dict[str, Any], byte: Any, name: str) -> Any:
        """The byte, or its entry in the table, two stages later."""
        later = delayed(m, byte, 1, f"vec_later{name}")
        final = Signal(8, name=f"vec_final{name}")
        if not self.config.units.table:
            m.d.sync += final.eq(later)
            return final
        memory = Memory(shape=8, depth=256, init=[], attrs=UNWATCHED)
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
