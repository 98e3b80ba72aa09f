"""The CONV queue: an output-stationary array of ``pp`` rows × ``icp`` input × ``ocp`` output channels."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, signed

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Unit
from bitwright.fpga.rtl.multiply import products
from bitwright.fpga.rtl.ports import BankWrite, Head, delayed, fields, instruction_bits
from bitwright.fpga.rtl.requantizer import clamped, rounded

# Clock edges from a step's counters to each stage of the pipeline.
ADDRESS = 2
"""Addresses are at the buffers."""
DATA = 4
"""Activations are at their rows and weights beside them."""
SUM = 7
"""The sum of a word's products."""
RESULT = 11
"""The byte."""


class Conv(Elaboratable):
    """One step a cycle, without bubbles.

    Attributes:
        head: The oldest instruction.
        row_address: Entry of the row table.
        row_data: The entry, one cycle later.
        act_address: Word of each bank.
        act_data: Words, one cycle later.
        weight_address: Word of weights.
        weight_data: The word, one cycle later.
        bias_address: Group of biases.
        bias_data: The group, one cycle later.
        to_out: Results go to ``out``.
        write: Results.
    """

    def __init__(self, config: ProcessorConfig, head: Head) -> None:
        self.config, self.head = config, head
        self.row_address = Signal(16, name="conv_row_address")
        self.row_data = Signal(8 * config.icp * config.row_entry_words, name="conv_row_data")
        self.act_address = [Signal(16, name=f"act_address{b}") for b in range(config.pp)]
        self.act_data = [Signal(8 * config.icp, name=f"act_data{b}") for b in range(config.pp)]
        self.weight_address = Signal(16)
        self.weight_data = Signal(8 * config.icp * config.ocp)
        self.bias_address = Signal(16)
        self.bias_data = Signal(32 * config.ocp)
        self.to_out = Signal()
        self.write = BankWrite("conv_write", config.pp, config.granules_per_word, 8 * config.icp)

    def elaborate(self, platform: Any) -> Module:
        """Counters, then the pipeline."""
        m = Module()
        config = self.config
        now = Signal(instruction_bits(Unit.CONV))
        i = fields(Unit.CONV, now)
        step = self._counters(m, now, i)
        m.d.comb += self.to_out.eq(i["to_out"])
        # Row table and the rest of the address.
        address = Signal(16)
        m.d.sync += address.eq(step["address"])
        banks = []
        for b in range(config.pp):
            offset = self.row_data.word_select(b, 16)
            m.d.sync += self.act_address[b].eq(address + offset)
            banks.append(self.row_data[16 * config.pp + 8 * b : 16 * config.pp + 8 * b + 8])
        m.d.comb += self.weight_address.eq(delayed(m, step["weight"], ADDRESS, "weight_at"))
        chosen = [delayed(m, bank, 2, f"lane{p}") for p, bank in enumerate(banks)]
        rows = []
        for p in range(config.pp):
            row = Signal(8 * config.icp, name=f"row{p}")
            m.d.sync += row.eq(Array(self.act_data)[chosen[p][: max((config.pp - 1).bit_length(), 1)]])
            rows.append(row)
        weights = Signal(8 * config.icp * config.ocp)
        m.d.sync += weights.eq(self.weight_data)
        sums = self._sums(m, rows, weights)
        self._results(m, i, step, sums)
        return m

    def _counters(self, m: Module, now: Any, i: dict[str, Any]) -> dict[str, Any]:
        """The loops; what a step needs."""
        config, head = self.config, self.head
        active, empty = Signal(), Signal()
        oc, g, x, r, k, c = (Signal(12, name=f"conv_{n}") for n in ("oc", "g", "x", "r", "k", "c"))
        at_oc, at_g, at_x, tap, tap_k = (Signal(16, name=f"conv_at_{n}") for n in ("oc", "g", "x", "tap", "tap_k"))
        out_g, out_x, granule = Signal(16), Signal(16), Signal(16)
        weight, weight_oc = Signal(16), Signal(16)
        last_c, last_k, last_r = c == i["ics"] - 1, k == i["kw"] - 1, r == i["kh"] - 1
        last_x, last_g, last_oc = x == i["xs"] - 1, g == i["groups"] - 1, oc == i["ocs"] - 1
        last_tap = Signal()
        last_pixel = Signal()
        first_tap = Signal()
        m.d.comb += [
            last_tap.eq(last_c & last_k & last_r),
            last_pixel.eq(last_x & last_g),
            first_tap.eq((c == 0) & (k == 0) & (r == 0)),
            self.row_address.eq(i["rows"] + r),
        ]
        # An instruction starts when the pipeline of the one before has run dry, so its numbers hold still.
        valid = active & ~empty
        ends = Signal()
        m.d.comb += ends.eq(active & (empty | (last_tap & last_pixel & last_oc)))
        leaving = delayed(m, ends, RESULT + 1, "conv_ends")
        waiting = Signal()
        m.d.comb += [
            head.ready.eq(~active & ~waiting),
            head.post.eq(Mux(leaving, i["post"], 0)),
            head.done.eq(leaving & i["last"]),
            head.busy.eq(active | waiting),
        ]
        with m.If(leaving):
            m.d.sync += waiting.eq(0)
        with m.If(active & ~empty):
            m.d.sync += [c.eq(c + 1), tap.eq(tap + 1), weight.eq(weight + 1)]
            with m.If(last_c):
                m.d.sync += [c.eq(0), k.eq(k + 1), tap_k.eq(tap_k + i["k_step"]), tap.eq(tap_k + i["k_step"])]
                with m.If(last_k):
                    m.d.sync += [k.eq(0), r.eq(r + 1), tap_k.eq(0), tap.eq(0)]
            with m.If(last_tap):
                m.d.sync += [r.eq(0), x.eq(x + 1), at_x.eq(at_x + i["x_step"]), out_x.eq(out_x + i["out_x_step"])]
                m.d.sync += weight.eq(weight_oc)
                with m.If(last_x):
                    m.d.sync += [x.eq(0), g.eq(g + 1), at_g.eq(at_g + i["g_step"]), at_x.eq(at_g + i["g_step"])]
                    m.d.sync += [out_g.eq(out_g + i["out_g_step"]), out_x.eq(out_g + i["out_g_step"])]
                with m.If(last_pixel):
                    m.d.sync += [g.eq(0), oc.eq(oc + 1), at_oc.eq(at_oc + i["oc_step"])]
                    m.d.sync += [at_g.eq(at_oc + i["oc_step"]), at_x.eq(at_oc + i["oc_step"])]
                    m.d.sync += [out_g.eq(i["out_base"]), out_x.eq(i["out_base"])]
                    m.d.sync += [weight.eq(weight + 1), weight_oc.eq(weight + 1)]
                    m.d.sync += granule.eq(granule + config.granules_per_result)
        with m.If(ends):
            m.d.sync += [active.eq(0), waiting.eq(1)]
        with m.If(head.start):
            coming = fields(Unit.CONV, head.word)
            zero = [s.eq(0) for s in (oc, g, x, r, k, c, tap, tap_k)]
            m.d.sync += [
                now.eq(head.word),
                active.eq(1),
                empty.eq((coming["ocs"] == 0) | (coming["groups"] == 0) | (coming["xs"] == 0)),
                at_oc.eq(coming["base"]),
                at_g.eq(coming["base"]),
                at_x.eq(coming["base"]),
                out_g.eq(coming["out_base"]),
                out_x.eq(coming["out_base"]),
                granule.eq(coming["granule"]),
                weight.eq(coming["weight"]),
                weight_oc.eq(coming["weight"]),
                *zero,
            ]
        return {
            "address": at_x + tap,
            "weight": weight,
            "first": first_tap,
            "result": valid & last_tap,
            "bias": i["bias"] + oc,
            "out": out_x,
            "granule": granule,
        }

    def _sums(self, m: Module, rows: list[Any], weights: Any) -> list[list[Any]]:
        """``[row][output channel]``: sums of a word's products, at stage ``SUM``."""
        config = self.config
        found: list[list[Any]] = []
        for p, row in enumerate(rows):
            made: list[list[Any]] = [[] for _ in range(config.ocp)]
            for o in range(0, config.ocp, 2):
                for c in range(config.icp):
                    pair = [
                        weights.word_select(q * config.icp + c, 8).as_signed() for q in range(o, min(o + 2, config.ocp))
                    ]
                    x = row.word_select(c, 8).as_signed()
                    second = pair[1] if len(pair) > 1 else None
                    for q, product in enumerate(products(m, config.multiplier, x, pair[0], second, f"p{p}_{o}_{c}")):
                        made[o + q].append(product)
            sums = []
            for o in range(config.ocp):
                half = max(config.icp // 4, 1)
                parts = []
                for at in range(0, config.icp, half):
                    part = Signal(signed(16 + half.bit_length()), name=f"part{p}_{o}_{at}")
                    m.d.sync += part.eq(sum(made[o][at : at + half][1:], made[o][at]))
                    parts.append(part)
                total = Signal(signed(16 + config.icp.bit_length()), name=f"sum{p}_{o}")
                m.d.sync += total.eq(sum(parts[1:], parts[0]))
                sums.append(total)
            found.append(sums)
        return found

    def _results(self, m: Module, i: dict[str, Any], step: dict[str, Any], sums: list[list[Any]]) -> None:
        """Accumulate, add the bias, shift, clamp, write."""
        config = self.config
        first = delayed(m, step["first"], SUM, "first")
        result = delayed(m, step["result"], RESULT, "result")
        m.d.comb += self.bias_address.eq(delayed(m, step["bias"], SUM, "bias_at"))
        out = delayed(m, step["out"], RESULT, "out_at")
        granule = delayed(m, step["granule"], RESULT, "granule_at")
        columns = config.granules_per_word
        bits = columns.bit_length() - 1
        column = granule[:bits] if bits else Const(0, 1)
        word = Signal(16)
        m.d.comb += word.eq(out + (granule >> bits))
        for p, row in enumerate(sums):
            found = []
            for o, value in enumerate(row):
                acc = Signal(signed(32), name=f"acc{p}_{o}")
                m.d.sync += acc.eq(Mux(first, value, acc + value))
                total = Signal(signed(32), name=f"total{p}_{o}")
                m.d.sync += total.eq(acc + self.bias_data.word_select(o, 32).as_signed())
                shifted = rounded(config.rounding, total, i["shift"])
                short = Signal(signed(len(shifted)), name=f"short{p}_{o}")
                m.d.sync += short.eq(shifted)
                byte = Signal(8, name=f"byte{p}_{o}")
                m.d.sync += byte.eq(clamped(short, i["lo"], i["hi"]))
                found.append(byte)
            self._scatter(m, p, Cat(*found), column, result)
        for c in range(columns):
            behind = (c < column) if columns > 1 else Const(0)
            m.d.comb += self.write.address[c].eq(word + behind)

    def _scatter(self, m: Module, p: int, data: Any, column: Any, result: Any) -> None:
        """Granules of a result to the columns that they belong to."""
        config = self.config
        columns, size = config.granules_per_word, 8 * config.granule
        enables, values = [], []
        for c in range(columns):
            part = Signal(max(columns.bit_length(), 1), name=f"part_of{p}_{c}")
            m.d.comb += part.eq((c - column)[: columns.bit_length() - 1] if columns > 1 else 0)
            enables.append(result & (part < config.granules_per_result))
            pieces = Array([data.word_select(g, size) for g in range(config.granules_per_result)])
            values.append(pieces[part])
        m.d.comb += [self.write.enable[p].eq(Cat(*enables)), self.write.data[p].eq(Cat(*values))]
