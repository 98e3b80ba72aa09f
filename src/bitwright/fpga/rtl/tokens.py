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
MOST_TAKERS = max(len(units) for units in TAKERS)
"""Units that may take the same token in one cycle."""


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
        """Counters and the decision.

        Whether a counter is above 0, and above 1, stands in registers beside it, so that a start waits for no comparison.
        """
        m = Module()
        counts = [Signal(COUNT_BITS, name=f"token{t}") for t in range(TOKENS)]
        above = [[Signal(name=f"token{t}_above{n}") for n in range(MOST_TAKERS)] for t in range(TOKENS)]
        waits = [fields(head.unit, head.word, self.config)["wait"] for head in self.heads]
        for at, head in enumerate(self.heads):
            good = head.valid & head.ready
            for t in range(TOKENS):
                if head.unit in TAKERS[t]:
                    enough = above[t][0]
                    for b, other in enumerate(self.heads[:at]):
                        if other.unit in TAKERS[t]:
                            enough = Mux(other.start & waits[b][t], above[t][1], enough)
                    good = good & (~waits[at][t] | enough)
            m.d.comb += head.start.eq(good)
        for t in range(TOKENS):
            given = sum((head.post[t] for head in self.heads if head.unit in GIVERS[t]), start=Const(0))
            takes = [head.start & waits[at][t] for at, head in enumerate(self.heads) if head.unit in TAKERS[t]]
            if not takes:
                continue
            # Starts come late in a cycle: what follows is made for every number of them, and chosen.
            total = Signal(COUNT_BITS, name=f"token{t}_total")
            m.d.comb += total.eq(counts[t] + given)
            taken = sum(takes, start=Const(0))
            m.d.sync += counts[t].eq(Mux(self.clear, 0, total - taken))
            for n, flag in enumerate(above[t]):
                following = total > n
                for k in range(1, len(takes) + 1):
                    following = Mux(taken == k, total > n + k, following)
                m.d.sync += flag.eq(~self.clear & following)
        return m
