"""The counting tokens between the queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from bitwright.fpga.isa import TOKENS
from bitwright.fpga.rtl.ports import Head, fields

COUNT_BITS = 6


class Tokens(Elaboratable):
    """Starts an instruction when its unit is ready and its tokens are there.

    Attributes:
        heads: One for each queue, the first served first when two want the same token.
        clear: Set all counters to 0.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        self.heads = heads
        self.clear = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Counters and the decision."""
        m = Module()
        counts = [Signal(COUNT_BITS, name=f"token{t}") for t in range(TOKENS)]
        waits = [fields(head.unit, head.word)["wait"] for head in self.heads]
        for at, head in enumerate(self.heads):
            good = head.valid & head.ready
            for t in range(TOKENS):
                taken = sum(((before.start & waits[b][t]) for b, before in enumerate(self.heads[:at])), start=0)
                good = good & (~waits[at][t] | (counts[t] > taken))
            m.d.comb += head.start.eq(good)
        for t in range(TOKENS):
            given = sum((head.post[t] for head in self.heads), start=0)
            taken = sum(((head.start & waits[at][t]) for at, head in enumerate(self.heads)), start=0)
            m.d.sync += counts[t].eq(Mux(self.clear, 0, counts[t] + given - taken))
        return m
