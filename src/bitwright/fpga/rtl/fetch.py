"""Reads instructions from external memory and gives each to its queue."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.config import INSTRUCTION_BYTES, ProcessorConfig
from bitwright.fpga.isa import HEADER, Unit
from bitwright.fpga.rtl.ports import Beats, Head, Requests

AHEAD = 4
"""Instructions that may be on their way."""


class Fetch(Elaboratable):
    """Program counter, a few instructions on their way and one in hand.

    An instruction is asked for only when there is room for it: data that waits here would block what LOAD waits for.

    Attributes:
        start: Begin at ``address``.
        address: First byte of the program.
        request: Burst requests.
        beats: What comes back.
        heads: The queues' oldest instructions.
        active: More instructions are to come.
    """

    def __init__(self, config: ProcessorConfig) -> None:
        self.config = config
        self.start = Signal()
        self.address = Signal(32)
        self.request = Requests("fetch")
        self.beats = Beats("fetch_data", 8 * config.bus.bytes)
        self.heads = [Head(unit) for unit in Unit]
        self.active = Signal()

    def elaborate(self, platform: Any) -> Module:
        """State: asking, collecting beats, handing over."""
        m = Module()
        width = 8 * self.config.bus.bytes
        count = INSTRUCTION_BYTES // self.config.bus.bytes
        queues = []
        for head in self.heads:
            queue = SyncFIFOBuffered(width=len(head.word), depth=self.config.queue)
            m.submodules[f"queue_{head.unit.name.lower()}"] = queue
            m.d.comb += [head.valid.eq(queue.r_rdy), head.word.eq(queue.r_data), queue.r_en.eq(head.start)]
            queues.append(queue)
        arrived = SyncFIFOBuffered(width=width, depth=AHEAD * count)
        m.submodules.arrived = arrived
        pc = Signal(32)
        reserved = Signal(range(AHEAD + 1))
        ended = Signal()
        hand = Signal(8 * INSTRUCTION_BYTES)
        full = Signal()
        got = Signal(range(count + 1))
        # Whose instruction is in hand, a bit for each unit, and whether it is the last: noted as its first beat comes.
        whose, last = Signal(len(self.heads), name="fetch_whose"), Signal(name="fetch_last")
        handing = Signal()
        for head, queue in zip(self.heads, queues, strict=True):
            m.d.comb += queue.w_data.eq(hand[: len(head.word)])
            m.d.comb += queue.w_en.eq(full & whose[int(head.unit)])
        ready = Cat(*(queue.w_rdy for queue in queues))
        m.d.comb += handing.eq(full & (whose & ready).any())
        free = ~full | handing
        taken = Signal()
        m.d.comb += [
            self.request.valid.eq(self.active & ~ended & (reserved != AHEAD)),
            self.request.address.eq(pc),
            self.request.beats.eq(count),
            arrived.w_en.eq(self.beats.valid),
            arrived.w_data.eq(self.beats.data),
            self.beats.ready.eq(arrived.w_rdy),
            taken.eq(arrived.r_rdy & free),
            arrived.r_en.eq(taken),
        ]
        asking = self.request.valid & self.request.ready
        complete = taken & (got == count - 1)
        m.d.sync += reserved.eq(reserved + asking - complete)
        with m.If(asking):
            m.d.sync += pc.eq(pc + INSTRUCTION_BYTES)
        with m.If(handing):
            m.d.sync += full.eq(0)
            with m.If(last):
                m.d.sync += ended.eq(1)
        # What was asked for beyond the end is thrown away.
        with m.If(ended & (reserved == 0)):
            m.d.sync += [self.active.eq(0), full.eq(0)]
        with m.If(taken):
            with m.If(got == 0):
                unit = arrived.r_data[: HEADER[0].bits]
                m.d.sync += whose.eq(Cat(*(unit == int(head.unit) for head in self.heads)))
                m.d.sync += last.eq(arrived.r_data[HEADER[0].bits])
            shifted = Cat(hand[width:], arrived.r_data) if count > 1 else arrived.r_data
            m.d.sync += [hand.eq(shifted), got.eq(Mux(got == count - 1, 0, got + 1))]
            with m.If((got == count - 1) & ~ended & ~(handing & last)):
                m.d.sync += full.eq(1)
        with m.If(self.start):
            m.d.sync += [pc.eq(self.address), self.active.eq(1), ended.eq(0), full.eq(0), got.eq(0)]
        return m
