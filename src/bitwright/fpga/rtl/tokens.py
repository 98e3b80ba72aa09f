"""The counting tokens between the queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import TOKENS
from bitwright.fpga.limits import GIVERS, TAKERS
from bitwright.fpga.rtl.ports import Head, fields

COUNT_BITS = 5


class Tokens(Elaboratable):
    """Starts an instruction when its unit is ready and its tokens are there.

    Attributes:
        heads: One for each queue, the first served first when two want the same token.
        clear: Set all counters to 0.
    """

    def __init__(self, config: ProcessorConfig, heads: Sequence[Head]) -> None:
        self.config, self.heads = config, heads
        self.clear = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Counters and the decision."""
        m = Module()
        counts = [Signal(COUNT_BITS, name=f"token{t}") for t in range(TOKENS)]
        waits = [fields(head.unit, head.word, self.config)["wait"] for head in self.heads]
        for at, head in enumerate(self.heads):
            good = head.valid & head.ready
            for t in range(TOKENS):
                if head.unit in TAKERS[t]:
                    before = [b for b, other in enumerate(self.heads[:at]) if other.unit in TAKERS[t]]
                    taken = sum((self.heads[b].start & waits[b][t] for b in before), start=Const(0))
                    good = good & (~waits[at][t] | (counts[t] > taken))
            m.d.comb += head.start.eq(good)
        for t in range(TOKENS):
            given = sum((head.post[t] for head in self.heads if head.unit in GIVERS[t]), start=Const(0))
            takers = [(head, waits[at]) for at, head in enumerate(self.heads) if head.unit in TAKERS[t]]
            taken = sum((head.start & waits[t] for head, waits in takers), start=Const(0))
            if takers:
                m.d.sync += counts[t].eq(Mux(self.clear, 0, counts[t] + given - taken))
        return m
