"""The CONV queue: an output-stationary array of ``pp`` rows × ``icp`` input × ``ocp`` output channels."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, signed

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.rtl.multiply import pair_sums, products, registers_inside, sums_inside
from bitwright.fpga.rtl.ports import BankWrite, Head, Loop, delayed, held
from bitwright.fpga.rtl.requantizer import clamped, rounded
from bitwright.fpga.stages import conv_stages

ADDRESS = 2
"""Clock edges from a step's counters until addresses are at the buffers."""
LIMITS = {"oc": "ocs", "g": "groups", "x": "xs", "r": "kh", "k": "kw", "c": "ics"}


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
        writing: There are results.
        to_mid: There are, and they go to ``mid``.
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
        self.to_out = Signal(name="conv_to_out")
        self.writing = Signal(name="conv_writing")
        self.to_mid = Signal(name="conv_to_mid")
        self.write = BankWrite("conv_write", config.pp, config.granules_per_word, 8 * config.icp)

    def elaborate(self, platform: Any) -> Module:
        """Counters, then the pipeline."""
        m = Module()
        config = self.config
        i, coming = held(m, self.head, config)
        step = self._counters(m, i, coming)
        m.d.comb += self.to_out.eq(i["to_out"])
        # Row table and the rest of the address.
        address = Signal(16)
        m.d.sync += address.eq(step["address"])
        banks = []
        for b in range(config.pp):
            offset = self.row_data.word_select(b, 16)
            m.d.sync += self.act_address[b].eq(address + offset)
            first = 16 * config.pp + 8 * b
            banks.append(self.row_data[first : first + (config.pp - 1).bit_length()])
        m.d.comb += self.weight_address.eq(delayed(m, step["weight"], ADDRESS, "weight_at"))
        rows = []
        inside = registers_inside(config.multiplier)
        for p in range(config.pp):
            row = Signal(8 * config.icp, name=f"row{p}")
            found = Array(self.act_data)[delayed(m, banks[p], 2, f"lane{p}")] if config.pp > 1 else self.act_data[0]
            m.d["comb" if inside else "sync"] += row.eq(found)
            rows.append(row)
        weights = Signal(8 * config.icp * config.ocp)
        m.d["comb" if inside else "sync"] += weights.eq(self.weight_data)
        sums = self._sums(m, rows, weights)
        self._results(m, i, coming, step, sums)
        return m

    def _counters(self, m: Module, i: dict[str, Any], coming: dict[str, Any]) -> dict[str, Any]:
        """The loops; what a step needs."""
        head = self.head
        active, empty = Signal(), Signal()
        limits = {name: i[field] for name, field in LIMITS.items()}
        small = self.config.control == "small"
        loops = {name: Loop(m, f"conv_{name}", limit, small) for name, limit in limits.items()}
        last = {name: loop.last for name, loop in loops.items()}
        row = Signal(len(i["rows"]), name="conv_row")
        at_oc, at_g, at_x, tap, tap_k = (
            Signal(len(i["base"]), name=f"conv_at_{n}") for n in ("oc", "g", "x", "tap", "tap_k")
        )
        weight, weight_oc = (Signal(len(i["weight"]), name=f"conv_weight{n}") for n in ("", "_oc"))
        last_tap, last_pixel, first_tap = (Signal(name=f"conv_{n}") for n in ("last_tap", "last_pixel", "first_tap"))
        m.d.comb += [
            last_tap.eq(last["c"] & last["k"] & last["r"]),
            last_pixel.eq(last["x"] & last["g"]),
            self.row_address.eq(row),
        ]
        # An instruction starts when the pipeline of the one before has run dry, so its numbers hold still.
        valid = active & ~empty
        ends = Signal()
        m.d.comb += ends.eq(active & (empty | (last_tap & last_pixel & last["oc"])))
        leaving = delayed(m, ends, conv_stages(self.config).leaves, "conv_ends")
        waiting = Signal()
        m.d.comb += [
            head.ready.eq(~active & ~waiting),
            head.post.eq(Mux(leaving, i["post"], 0)),
            head.done.eq(leaving & i["last"]),
            head.busy.eq(active | waiting),
            head.over.eq(leaving),
        ]
        with m.If(leaving):
            m.d.sync += waiting.eq(0)

        with m.If(valid):
            m.d.sync += [loops["c"].next(), tap.eq(tap + 1), weight.eq(weight + 1), first_tap.eq(last_tap)]
            with m.If(last["c"]):
                m.d.sync += [loops["k"].next(), tap_k.eq(tap_k + i["k_step"]), tap.eq(tap_k + i["k_step"])]
                with m.If(last["k"]):
                    m.d.sync += [loops["r"].next(), tap_k.eq(0), tap.eq(0), row.eq(row + 1)]
            with m.If(last_tap):
                m.d.sync += [loops["x"].next(), row.eq(i["rows"]), at_x.eq(at_x + i["x_step"]), weight.eq(weight_oc)]
                with m.If(last["x"]):
                    m.d.sync += [loops["g"].next(), at_g.eq(at_g + i["g_step"]), at_x.eq(at_g + i["g_step"])]
                with m.If(last_pixel):
                    m.d.sync += [loops["oc"].next(), at_oc.eq(at_oc + i["oc_step"])]
                    m.d.sync += [at_g.eq(at_oc + i["oc_step"]), at_x.eq(at_oc + i["oc_step"])]
                    m.d.sync += [weight.eq(weight + 1), weight_oc.eq(weight + 1)]
        with m.If(ends):
            m.d.sync += [active.eq(0), waiting.eq(1)]
        with m.If(head.start):
            m.d.sync += [
                active.eq(1),
                empty.eq((coming["ocs"] == 0) | (coming["groups"] == 0) | (coming["xs"] == 0)),
                *[s.eq(coming["base"]) for s in (at_oc, at_g, at_x)],
                *[s.eq(coming["weight"]) for s in (weight, weight_oc)],
                *[s.eq(0) for s in (tap, tap_k)],
                first_tap.eq(1),
                row.eq(coming["rows"]),
                *[loops[name].begin(coming[field]) for name, field in LIMITS.items()],
            ]
        return {
            "address": at_x + tap,
            "weight": weight,
            "first": first_tap,
            "result": valid & last_tap,
            "last_x": last["x"],
            "last_pixel": last_pixel,
        }

    def _sums(self, m: Module, rows: list[Any], weights: Any) -> list[list[Any]]:
        """``[row][output channel]``: sums of a word's products."""
        config = self.config
        found: list[list[Any]] = []
        for p, row in enumerate(rows):
            parts: list[list[Any]] = [[] for _ in range(config.ocp)]
            for o in range(0, config.ocp, 2):
                outputs = range(o, min(o + 2, config.ocp))
                for q, sums in zip(outputs, self._parts(m, row, weights, outputs, f"{p}_{o}"), strict=True):
                    parts[q] = sums
            totals = []
            for o in range(config.ocp):
                total = Signal(signed(16 + config.icp.bit_length()), name=f"sum{p}_{o}")
                m.d.sync += total.eq(sum(parts[o][1:], parts[o][0]))
                totals.append(total)
            found.append(totals)
        return found

    def _parts(self, m: Module, row: Any, weights: Any, outputs: range, name: str) -> list[list[Any]]:
        """Of one output channel or two: registered sums of some products each."""
        icp, kind = self.config.icp, self.config.multiplier

        def weight(q: int, c: int) -> Any:
            return weights.word_select(q * icp + c, 8).as_signed()

        def element(c: int) -> Any:
            return row.word_select(c, 8).as_signed()

        made: list[list[Any]] = [[] for _ in outputs]
        if sums_inside(kind) and icp > 1:
            for c in range(0, icp, 2):
                pairs = [(weight(q, c), weight(q, c + 1)) for q in outputs]
                second = pairs[1] if len(pairs) > 1 else None
                both = pair_sums(m, (element(c), element(c + 1)), pairs[0], second, f"p{name}_{c}")
                for values, value in zip(made, both, strict=True):
                    values.append(value)
            return made
        for c in range(icp):
            own = [weight(q, c) for q in outputs]
            both = products(m, kind, element(c), own[0], own[1] if len(own) > 1 else None, f"p{name}_{c}")
            for values, product in zip(made, both, strict=True):
                values.append(product)
        some = max(icp // 4, 1)
        found: list[list[Any]] = [[] for _ in outputs]
        for q, values in enumerate(made):
            for at in range(0, icp, some):
                part = Signal(signed(16 + some.bit_length()), name=f"part{name}_{q}_{at}")
                m.d.sync += part.eq(sum(values[at : at + some][1:], values[at]))
                found[q].append(part)
        return found

    def _results(
        self, m: Module, i: dict[str, Any], coming: dict[str, Any], step: dict[str, Any], sums: list[list[Any]]
    ) -> None:
        """Accumulate, add the bias, shift, clamp, write."""
        config, stages = self.config, conv_stages(self.config)
        # The biases of a step are read one cycle before its sum, so that they are in a register beside the accumulator;
        # where registers are few, they come from the memory itself.
        few = config.control == "small"
        until = dict.fromkeys(("result", "last_x", "last_pixel"), stages.total - 1 + few)
        early = {name: delayed(m, step[name], cycles, f"conv_{name}") for name, cycles in until.items()}
        late = {name: delayed(m, early[name], stages.result - until[name], f"conv_late_{name}") for name in until}
        first = delayed(m, step["first"], stages.total, "first")
        group = Signal(len(i["bias"]), name="bias_group")
        with m.If(early["result"] & early["last_pixel"]):
            m.d.sync += group.eq(group + 1)
        m.d.comb += self.bias_address.eq(group)
        biases = delayed(m, self.bias_data, 1 - few, "biases")
        out_g, out_x = Signal(len(i["out_base"])), Signal(len(i["out_base"]))
        granule = Signal(len(i["granule"]))
        m.d.comb += self.writing.eq(late["result"])
        # LOAD waits for this within the cycle, so it is made ready in the one before.
        almost = delayed(m, early["result"], stages.result - until["result"] - 1, "conv_almost")
        m.d.sync += self.to_mid.eq(almost & ~i["to_out"])
        with m.If(late["result"]):
            m.d.sync += out_x.eq(out_x + i["out_x_step"])
            with m.If(late["last_x"]):
                m.d.sync += [out_g.eq(out_g + i["out_g_step"]), out_x.eq(out_g + i["out_g_step"])]
            with m.If(late["last_pixel"]):
                m.d.sync += [out_g.eq(i["out_base"]), out_x.eq(i["out_base"])]
                m.d.sync += granule.eq(granule + config.granules_per_result)
        with m.If(self.head.start):
            m.d.sync += [group.eq(coming["bias"]), granule.eq(coming["granule"])]
            m.d.sync += [out_g.eq(coming["out_base"]), out_x.eq(coming["out_base"])]
        columns = config.granules_per_word
        bits = columns.bit_length() - 1
        column = granule[:bits] if bits else Const(0, 1)
        word = Signal(len(out_x))
        m.d.comb += word.eq(out_x + (granule >> bits))
        for p, row in enumerate(sums):
            found = []
            for o, value in enumerate(row):
                name = f"{p}_{o}"
                acc = Signal(signed(32), name=f"acc{name}")
                m.d.sync += acc.eq(Mux(first, value, acc + value))
                total = Signal(signed(32), name=f"total{name}")
                m.d.sync += total.eq(acc + biases.word_select(o, 32).as_signed())
                shifted = rounded(m, config.rounding, total, i["shift"], stages.rounded, f"conv{name}", late=few)
                short = Signal(signed(len(shifted)), name=f"short{name}")
                m.d.sync += short.eq(shifted)
                byte = Signal(8, name=f"byte{name}")
                m.d.sync += byte.eq(clamped(short, i["lo"], i["hi"]))
                found.append(byte)
            self._scatter(m, p, Cat(*found), column, late["result"])
        for c in range(columns):
            # Of a result of several granules some may be in the next word.
            behind = (c < column) if config.granules_per_result > 1 else Const(0)
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
