"""One external memory for two: the processor, and a guest who comes between its bursts."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from bitwright.fpga.limits import BURST_BITS
from bitwright.fpga.rtl.ports import Beats, Requests


class MemoryPort:
    """The channels to external memory; the processor has the same.

    Attributes:
        read_request: Bursts to read.
        read_data: Their beats, in order.
        write_request: Bursts to write.
        write_data: Their beats, in order.
        write_answer: A written burst is in memory.
    """

    def __init__(self, name: str, width: int, beat_bits: int = BURST_BITS) -> None:
        self.read_request = Requests(f"{name}_ar", beat_bits)
        self.read_data = Beats(f"{name}_r", width)
        self.write_request = Requests(f"{name}_aw", beat_bits)
        self.write_data = Beats(f"{name}_w", width)
        self.write_answer = Signal(name=f"{name}_answer")


class Sharing(Elaboratable):
    """Lets all of the processor's bursts through until the guest asks; then waits until none is on its way.

    Neither waits for ever: what is on its way needs no new burst to arrive.

    Args:
        port: The memory.
        core: The processor's channels.
        guest: Another's, who has one burst on its way at most.
        most_beats: That may be on their way to a reader.
    """

    def __init__(self, port: MemoryPort, core: Any, guest: MemoryPort, most_beats: int) -> None:
        self.port, self.core, self.guest, self.most_beats = port, core, guest, most_beats

    def elaborate(self, platform: Any) -> Module:
        """Counts what is on its way, and switches when there is nothing."""
        m = Module()
        port, core, guest = self.port, self.core, self.guest
        mine = Signal(name="guest_has_memory")
        asked = Signal(name="guest_has_asked")
        # A memory takes a burst to write and one after it, and has answered those before.
        reads, writes = (
            Signal(range(self.most_beats + 1), name="beats_on_their_way"),
            Signal(3, name="bursts_on_their_way"),
        )
        wants = guest.read_request.valid | guest.write_request.valid
        nothing = (reads == 0) & (writes == 0)
        for ours, theirs, out in (
            (core.read_request, guest.read_request, port.read_request),
            (core.write_request, guest.write_request, port.write_request),
        ):
            m.d.comb += [
                out.valid.eq(Mux(mine, theirs.valid & ~asked, ours.valid & ~wants)),
                out.address.eq(Mux(mine, theirs.address, ours.address)),
                out.beats.eq(Mux(mine, theirs.beats, ours.beats)),
                theirs.ready.eq(mine & ~asked & out.ready),
                ours.ready.eq(~mine & ~wants & out.ready),
            ]
        m.d.comb += [
            core.read_data.data.eq(port.read_data.data),
            guest.read_data.data.eq(port.read_data.data),
            core.read_data.valid.eq(port.read_data.valid & ~mine),
            guest.read_data.valid.eq(port.read_data.valid & mine),
            port.read_data.ready.eq(Mux(mine, guest.read_data.ready, core.read_data.ready)),
            port.write_data.data.eq(Mux(mine, guest.write_data.data, core.write_data.data)),
            port.write_data.valid.eq(Mux(mine, guest.write_data.valid, core.write_data.valid)),
            core.write_data.ready.eq(port.write_data.ready & ~mine),
            guest.write_data.ready.eq(port.write_data.ready & mine),
            core.write_answer.eq(port.write_answer & ~mine),
            guest.write_answer.eq(port.write_answer & mine),
        ]
        told = port.read_request.valid & port.read_request.ready
        begun = port.write_request.valid & port.write_request.ready
        came = port.read_data.valid & port.read_data.ready
        m.d.sync += [
            reads.eq(reads + Mux(told, port.read_request.beats, 0) - came),
            writes.eq(writes + begun - port.write_answer),
        ]
        with m.If(~mine):
            m.d.sync += [mine.eq(wants & nothing), asked.eq(0)]
        with m.Elif(told | begun):
            m.d.sync += asked.eq(1)
        with m.Elif(asked & nothing):
            m.d.sync += mine.eq(0)
        return m


def connect(m: Any, master: Any, port: MemoryPort) -> None:
    """Wire a master's channels to a memory's."""
    for ours, theirs in ((master.read_request, port.read_request), (master.write_request, port.write_request)):
        m.d.comb += [theirs.valid.eq(ours.valid), theirs.address.eq(ours.address), theirs.beats.eq(ours.beats)]
        m.d.comb += ours.ready.eq(theirs.ready)
    m.d.comb += [
        master.read_data.valid.eq(port.read_data.valid),
        master.read_data.data.eq(port.read_data.data),
        port.read_data.ready.eq(master.read_data.ready),
        port.write_data.valid.eq(master.write_data.valid),
        port.write_data.data.eq(master.write_data.data),
        master.write_data.ready.eq(port.write_data.ready),
        master.write_answer.eq(port.write_answer),
    ]


def share(m: Any, memory: Any, core: Any, guest: MemoryPort, most_beats: int) -> None:
    """A memory for both: one that has channels for a guest is given them, else :class:`Sharing` is between.

    Args:
        m: The module that has the memory.
        memory: Its controller.
        core: The processor's channels.
        guest: The other's.
        most_beats: See :class:`Sharing`.
    """
    if hasattr(memory, "guest"):
        connect(m, core, memory.port)
        connect(m, guest, memory.guest)
    else:
        m.submodules.sharing = Sharing(memory.port, core, guest, most_beats)
