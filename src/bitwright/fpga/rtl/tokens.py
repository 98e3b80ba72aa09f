"""The counting tokens between the queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, signed

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
        """Counters and the decision."""
        m = Module()
        counts = [Signal(COUNT_BITS, name=f"token{t}") for t in range(TOKENS)]
        small = self.config.control == "small"
        # Whether a counter is above 0, and above 1, stands in registers beside it, so that a start waits for no comparison;
        # where registers are few, it is compared.
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
            gives = [head.post[t] for head in self.heads if head.unit in GIVERS[t]]
            takes = [head.start & waits[at][t] for at, head in enumerate(self.heads) if head.unit in TAKERS[t]]
            if not takes:
                continue
            (self._counted if small else self._foreseen)(m, t, counts[t], above[t], gives, takes)
        return m

    def _counted(self, m: Module, t: int, count: Any, above: list[Any], gives: list[Any], takes: list[Any]) -> None:
        """Up and down by one adder."""
        change = Signal(signed(3), name=f"token{t}_change")
        m.d.comb += [flag.eq(count > n) for n, flag in enumerate(above)]
        m.d.comb += change.eq(sum(gives, start=Const(0)) - sum(takes, start=Const(0)))
        with m.If(self.clear):
            m.d.sync += count.eq(0)
        with m.Elif(change != 0):
            m.d.sync += count.eq(count + change)

    def _foreseen(self, m: Module, t: int, count: Any, above: list[Any], gives: list[Any], takes: list[Any]) -> None:
        """Starts come late in a cycle: what follows is made for every number of them, and chosen."""
        total = Signal(COUNT_BITS, name=f"token{t}_total")
        m.d.comb += total.eq(count + sum(gives, start=Const(0)))
        taken = sum(takes, start=Const(0))
        m.d.sync += count.eq(Mux(self.clear, 0, total - taken))
        for n, flag in enumerate(above):
            following = total > n
            for k in range(1, len(takes) + 1):
                following = Mux(taken == k, total > n + k, following)
            m.d.sync += flag.eq(~self.clear & following)
