"""The four large memories of an iCE40 UltraPlus as external memory: 128 KiB, one byte or two in a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, Signal

from bitwright.fpga.rtl.sharing import MemoryPort

BLOCKS, WORDS = 4, 1 << 14
SIZE_BYTES = 2 * BLOCKS * WORDS
WIDTHS = (1, 2)
"""Bytes of a bus that this memory can be on."""


class Spram(Elaboratable):
    """Memory with one port, so a beat is read or written in a cycle.

    Attributes:
        port: Its channels.
        ready: It can be used.
    """

    def __init__(self, bus_bytes: int) -> None:
        if bus_bytes not in WIDTHS:
            raise ValueError(f"a bus of {bus_bytes} bytes is none of {WIDTHS}")
        self.bytes = bus_bytes
        self.port = MemoryPort("spram", 8 * bus_bytes)
        self.ready = Signal(init=1)

    def elaborate(self, platform: Any) -> Module:
        """One burst after the other; of two that wait, the other kind than the last."""
        m = Module()
        port = self.port
        reading, writing, wrote_last = Signal(), Signal(), Signal()
        address, left = Signal(17, name="spram_at"), Signal(9, name="spram_left")
        free = Signal()
        last = Signal()
        m.d.comb += free.eq((~reading & ~writing) | last)
        write_first = port.write_request.valid & (~wrote_last | ~port.read_request.valid)
        m.d.comb += [port.write_request.ready.eq(free & write_first), port.read_request.ready.eq(free & ~write_first)]
        # A word that was read stays at the output until the next is read.
        waiting = Signal()
        low, block = Signal(), Signal(2)
        fetch, put = Signal(), Signal()
        m.d.comb += [
            fetch.eq(reading & (~waiting | port.read_data.ready)),
            put.eq(writing & port.write_data.valid),
            port.write_data.ready.eq(writing),
            port.read_data.valid.eq(waiting),
            last.eq((fetch | put) & (left == 1)),
        ]
        with m.If(fetch):
            m.d.sync += [waiting.eq(1), low.eq(address[0]), block.eq(address[15:17])]
        with m.Elif(port.read_data.ready):
            m.d.sync += waiting.eq(0)
        with m.If(fetch | put):
            m.d.sync += [address.eq(address + self.bytes), left.eq(left - 1)]
        m.d.sync += port.write_answer.eq(put & (left == 1))
        with m.If(free):
            m.d.sync += [reading.eq(port.read_request.valid & ~write_first), writing.eq(write_first)]
            m.d.sync += [
                wrote_last.eq(write_first),
                address.eq(Mux(write_first, port.write_request.address, port.read_request.address)),
                left.eq(Mux(write_first, port.write_request.beats, port.read_request.beats)),
            ]
        outputs = []
        data = Cat(port.write_data.data, port.write_data.data) if self.bytes == 1 else port.write_data.data
        mask = Mux(address[0], 0b1100, 0b0011) if self.bytes == 1 else Const(0b1111, 4)
        for number in range(BLOCKS):
            output = Signal(16, name=f"spram_out{number}")
            chosen = address[15:17] == number
            m.submodules[f"block{number}"] = Instance(
                "SB_SPRAM256KA",
                i_ADDRESS=address[1:15],
                i_DATAIN=data,
                i_MASKWREN=mask,
                i_WREN=put,
                i_CHIPSELECT=chosen & (fetch | put),
                i_CLOCK=ClockSignal("sync"),
                i_STANDBY=Const(0),
                i_SLEEP=Const(0),
                i_POWEROFF=Const(1),
                o_DATAOUT=output,
            )
            outputs.append(output)
        word = Signal(16)
        m.d.comb += word.eq(Array(outputs)[block])
        m.d.comb += port.read_data.data.eq(Mux(low, word[8:], word[:8]) if self.bytes == 1 else word)
        return m
