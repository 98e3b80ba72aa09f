"""A register in a channel: what was offered stays as it was until it is taken."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Signal

from bitwright.fpga.rtl.ports import Requests


class RequestSlice(Elaboratable):
    """Burst requests, a cycle later.

    The processor may change its mind about a request that has not been taken (instructions come before data); buses
    do not allow that.

    Attributes:
        request: From the processor.
        out: To the bus.
    """

    def __init__(self, name: str) -> None:
        self.request = Requests(f"{name}_from")
        self.out = Requests(f"{name}_to")

    def elaborate(self, platform: Any) -> Module:
        """One request a cycle."""
        m = Module()
        take = Signal()
        m.d.comb += [take.eq(~self.out.valid | self.out.ready), self.request.ready.eq(take)]
        with m.If(take):
            m.d.sync += [
                self.out.valid.eq(self.request.valid),
                self.out.address.eq(self.request.address),
                self.out.beats.eq(self.request.beats),
            ]
        return m
