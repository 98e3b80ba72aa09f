"""Memories with one read and one write port, as the blocks of FPGAs have them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib.memory import Memory

from bitwright.fpga.rtl.ports import BankWrite

# Tokens keep readers away from words that are being written, so what a block of memory shows then does not matter.
# Without this attribute of Yosys, logic around each block would see to it.
UNWATCHED = {"no_rw_check": 1}


class Banks(Elaboratable):
    """``banks`` memories of words; a word's columns are written apart, at addresses of their own.

    Attributes:
        read_address: Word address of each bank.
        read_data: Word of each bank, one cycle later.
        write: The write port.
    """

    def __init__(self, name: str, banks: int, depth: int, columns: int, word_bits: int) -> None:
        self.name, self.banks, self.depth, self.columns, self.word_bits = name, banks, depth, columns, word_bits
        self.read_address = [Signal(16, name=f"{name}_read_address{b}") for b in range(banks)]
        self.read_data = [Signal(word_bits, name=f"{name}_read_data{b}") for b in range(banks)]
        self.write = BankWrite(f"{name}_write", banks, columns, word_bits)

    def elaborate(self, platform: Any) -> Module:
        """The memories."""
        m = Module()
        part = self.word_bits // self.columns
        for b in range(self.banks):
            pieces = []
            for c in range(self.columns):
                memory = Memory(shape=part, depth=self.depth, init=[], attrs=UNWATCHED)
                m.submodules[f"{self.name}_{b}_{c}"] = memory
                read, write = memory.read_port(domain="sync"), memory.write_port()
                bits = len(read.addr)
                m.d.comb += [
                    read.addr.eq(self.read_address[b][:bits]),
                    read.en.eq(1),
                    write.addr.eq(self.write.address[c][:bits]),
                    write.data.eq(self.write.data[b].word_select(c, part)),
                    write.en.eq(self.write.enable[b][c]),
                ]
                pieces.append(read.data)
            m.d.comb += self.read_data[b].eq(Cat(*pieces))
        return m


class Pieces(Elaboratable):
    """A memory of wide words that are written piece by piece; only the lowest ``used`` bits are kept.

    Attributes:
        read_address: Word address.
        read_data: Word, one cycle later.
        write_enable: Write now.
        write_address: Word address.
        write_piece: Which piece.
        write_data: The piece.
    """

    def __init__(self, name: str, depth: int, pieces: int, piece_bits: int, used: int | None = None) -> None:
        self.name, self.depth, self.pieces, self.piece_bits = name, depth, pieces, piece_bits
        self.used = pieces * piece_bits if used is None else used
        self.read_address = Signal(16, name=f"{name}_read_address")
        self.read_data = Signal(pieces * piece_bits, name=f"{name}_read_data")
        self.write_enable = Signal(name=f"{name}_write_enable")
        self.write_address = Signal(16, name=f"{name}_write_address")
        self.write_piece = Signal(8, name=f"{name}_write_piece")
        self.write_data = Signal(piece_bits, name=f"{name}_write_data")

    def elaborate(self, platform: Any) -> Module:
        """The memories, one for each piece."""
        m = Module()
        parts = []
        for p in range(self.pieces):
            kept = min(self.used - p * self.piece_bits, self.piece_bits)
            if kept <= 0:
                break
            memory = Memory(shape=kept, depth=self.depth, init=[], attrs=UNWATCHED)
            m.submodules[f"{self.name}_{p}"] = memory
            read, write = memory.read_port(domain="sync"), memory.write_port()
            bits = len(read.addr)
            m.d.comb += [
                read.addr.eq(self.read_address[:bits]),
                read.en.eq(1),
                write.addr.eq(self.write_address[:bits]),
                write.data.eq(self.write_data[:kept]),
                write.en.eq(self.write_enable & (self.write_piece == p)),
            ]
            parts.append(read.data)
        m.d.comb += self.read_data.eq(Cat(*parts))
        return m
