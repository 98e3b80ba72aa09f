"""The four large memories of an iCE40 UltraPlus as external memory: 128 KiB, one byte or two in a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, Signal

from bitwright.fpga.limits import BURST_BITS
from bitwright.fpga.rtl.sharing import MemoryPort

BLOCKS, WORDS = 4, 1 << 14
SIZE_BYTES = 2 * BLOCKS * WORDS
WIDTHS = (1, 2)
"""Bytes of a bus that this memory can be on."""


class Spram(Elaboratable):
    """Memory with one port, so a beat is read or written in a cycle, and one burst is on its way.

    Args:
        bus_bytes: Bytes of a beat.
        beat_bits: Of the length of the processor's bursts.

    Attributes:
        port: Channels of the processor.
        guest: Channels of another, whose bursts come first and who has one on its way at most.
        ready: It can be used.
    """

    def __init__(self, bus_bytes: int, beat_bits: int = BURST_BITS) -> None:
        if bus_bytes not in WIDTHS:
            raise ValueError(f"a bus of {bus_bytes} bytes is none of {WIDTHS}")
        self.bytes = bus_bytes
        self.port, self.guest = MemoryPort("spram", 8 * bus_bytes, beat_bits), MemoryPort("guest", 8 * bus_bytes)
        self.ready = Signal(init=1)

    def elaborate(self, platform: Any) -> Module:
        """One burst after the other; of two of the processor's that wait, the other kind than the last."""
        m = Module()
        port, guest = self.port, self.guest
        reading, writing, wrote_last = Signal(), Signal(), Signal()
        address, left = Signal(17, name="spram_at"), Signal(len(port.read_request.beats), name="spram_left")
        free, last, mine = Signal(name="spram_free"), Signal(name="spram_last"), Signal(name="spram_is_guests")
        m.d.comb += free.eq((~reading & ~writing) | last)
        write_first, visits = Signal(name="spram_write_first"), Signal(name="spram_visits")
        m.d.comb += [
            write_first.eq(port.write_request.valid & (~wrote_last | ~port.read_request.valid)),
            visits.eq(guest.read_request.valid | guest.write_request.valid),
            port.write_request.ready.eq(free & ~visits & write_first),
            port.read_request.ready.eq(free & ~visits & ~write_first),
            guest.write_request.ready.eq(free),
            guest.read_request.ready.eq(free),
        ]
        # A word that was read stays at the output until the next is read; by then the bus may be another's.
        waiting, of_guest = Signal(), Signal(name="spram_word_of_guest")
        low, block = Signal(), Signal(2)
        fetch, put, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            taken.eq(Mux(of_guest, guest.read_data.ready, port.read_data.ready)),
            fetch.eq(reading & (~waiting | taken)),
            put.eq(writing & Mux(mine, guest.write_data.valid, port.write_data.valid)),
            port.write_data.ready.eq(writing & ~mine),
            guest.write_data.ready.eq(writing & mine),
            port.read_data.valid.eq(waiting & ~of_guest),
            guest.read_data.valid.eq(waiting & of_guest),
            last.eq((fetch | put) & (left == 1)),
        ]
        with m.If(fetch):
            m.d.sync += [waiting.eq(1), of_guest.eq(mine), low.eq(address[0]), block.eq(address[15:17])]
        with m.Elif(taken):
            m.d.sync += waiting.eq(0)
        with m.If(fetch | put):
            m.d.sync += [address.eq(address + self.bytes), left.eq(left - 1)]
        wrote = put & (left == 1)
        m.d.sync += [port.write_answer.eq(wrote & ~mine), guest.write_answer.eq(wrote & mine)]
        read, write, asks = port.read_request, port.write_request, guest.read_request
        with m.If(free):
            m.d.sync += [
                mine.eq(visits),
                reading.eq(Mux(visits, guest.read_request.valid, read.valid & ~write_first)),
                writing.eq(Mux(visits, guest.write_request.valid, write_first)),
                wrote_last.eq(write_first),
                # Both channels of a guest that has one burst at most show the same address.
                address.eq(Mux(visits, asks.address, Mux(write_first, write.address, read.address))),
                left.eq(Mux(visits, Mux(guest.write_request.valid, guest.write_request.beats, asks.beats),
                            Mux(write_first, write.beats, read.beats))),
            ]  # fmt: skip
        outputs = []
        came = Mux(mine, guest.write_data.data, port.write_data.data)
        data = Cat(came, came) if self.bytes == 1 else came
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
        found = Mux(low, word[8:], word[:8]) if self.bytes == 1 else word
        m.d.comb += [port.read_data.data.eq(found), guest.read_data.data.eq(found)]
        return m
