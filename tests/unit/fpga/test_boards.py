"""Board files, clocks and the memory chip's times: facts and formulas."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.errors import DoesNotFit, UnknownTarget
from bitwright.fpga import board as boards
from bitwright.fpga import pll, sdram
from bitwright.fpga.board import BoardFile, list_boards, load_board
from bitwright.fpga.config import load_config

NAMES = list_boards()


@pytest.mark.parametrize("name", NAMES)
def test_every_board_is_whole(name: str) -> None:
    board = load_board(name)
    config = load_config(board.config)
    board.check(config)
    clock = board.clocks(config)
    assert board.name == name
    assert 0.7 * config.clock_hz < clock.clock_hz <= config.clock_hz
    assert abs(clock.baud / board.baud - 1) <= boards.BAUD_ERROR
    places = [place for found in board.ports().values() for place in found]
    assert len(set(places)) == len(places)
    text = board.constraints(config)
    for place in places:
        assert place in text.replace('"', " ").split()
    assert board.source
    assert config.bus.memory_bytes <= board.memory_bytes


@pytest.mark.parametrize("name", NAMES)
def test_ports_of_the_design_are_those_of_the_constraints(name: str) -> None:
    from bitwright.fpga.rtl.board import Top

    board = load_board(name)
    top = Top(board, load_config(board.config))
    top._MustUse__silence = True  # it is only looked at
    assert {pin.name: len(pin) for pin in top.ports()} == {n: len(p) for n, p in board.ports().items()}


def test_a_file_with_a_base_states_what_differs() -> None:
    one, other = load_board("ulx3s-25f"), load_board("ulx3s-85f")
    assert replace(other, name=one.name, summary=one.summary, device=one.device) == one
    table = tomllib.loads((boards.FOLDER / "ulx3s-85f.toml").read_text("utf-8"))
    assert set(table) <= {"base", "name", "summary", "device", "config"}


@pytest.mark.parametrize(
    ("board", "config", "words"),
    [
        ("ulx3s-25f", "up5k", r"ice40-mac16.*take ecp5-25f or ecp5-85f|ice40-mac16.*ecp5-25f"),
        ("icebreaker", "ecp5-25f", "ecp5.*take up5k"),
        ("ulx3s-25f", "dlp576", "bus of 16 bytes"),
        ("icebreaker", "sim-tiny", "bus of 4 bytes"),
    ],
)
def test_a_processor_that_the_board_cannot_have_is_refused(board: str, config: str, words: str) -> None:
    with pytest.raises(DoesNotFit, match=words):
        load_board(board).check(load_config(config))


def test_more_memory_than_there_is_is_refused() -> None:
    config = load_config("up5k")
    with pytest.raises(DoesNotFit, match="wants 262144 bytes"):
        load_board("icebreaker").check(replace(config, bus=replace(config.bus, memory_bytes=1 << 18)))
    config = load_config("ecp5-25f")
    with pytest.raises(DoesNotFit, match=r"bursts of 512 beats.*takes 256 at once.*take ecp5-25f"):
        load_board("ulx3s-25f").check(replace(config, bus=replace(config.bus, burst_beats=512)))


def test_an_unknown_board_names_near_ones() -> None:
    with pytest.raises(UnknownTarget) as caught:
        load_board("ulx3s-25")
    assert "ulx3s-25f" in caught.value.nearest


def test_a_baud_that_the_clock_cannot_time_is_refused() -> None:
    board = replace(load_board("icebreaker"), baud=11_000_000)
    with pytest.raises(DoesNotFit, match="cannot time 11000000 baud"):
        board.clocks(load_config("up5k"))


@given(
    input_mhz=st.sampled_from([12, 16, 25, 27, 48, 50, 100]), wanted=st.floats(8e6, 300e6), degrees=st.floats(0, 359)
)
def test_dividers_of_an_ecp5_keep_to_its_data_sheet(input_mhz: int, wanted: float, degrees: float) -> None:
    found = pll.ecp5(input_mhz * 1e6, wanted, degrees)
    detector = input_mhz * 1e6 / found.input_div
    assert found.output_hz == pytest.approx(detector * found.feedback_div)
    assert pll.ECP5_DETECTOR.holds(detector)
    assert pll.ECP5_OSCILLATOR.holds(found.output_hz * found.output_div)
    assert found.output_hz <= wanted * (1 + 1e-6)
    assert all(1 <= d <= 128 for d in (found.input_div, found.feedback_div, found.output_div))
    assert 0 <= found.shifted[0] < 128
    assert 0 <= found.shifted[1] < 8
    assert abs(found.degrees - degrees) <= 360 / (16 * found.output_div) + 1e-9
    # No other dividers come nearer.
    for divider in range(1, 9):
        out = input_mhz * 1e6 / divider * int(wanted * divider / input_mhz / 1e6)
        if pll.ECP5_DETECTOR.holds(input_mhz * 1e6 / divider) and pll.ECP5_OUTPUT.holds(out) and out * 128 >= 400e6:
            assert found.output_hz >= out * (1 - 1e-9) or wanted * divider / input_mhz / 1e6 > 128


@given(input_mhz=st.sampled_from([12, 16, 25, 48, 100]), wanted=st.floats(17e6, 275e6))
def test_dividers_of_an_ice40_keep_to_its_data_sheet(input_mhz: int, wanted: float) -> None:
    found = pll.ice40(input_mhz * 1e6, wanted)
    detector = input_mhz * 1e6 / (found.divr + 1)
    oscillator = detector * (found.divf + 1)
    assert found.output_hz == pytest.approx(oscillator / 2**found.divq)
    assert pll.ICE40_DETECTOR.holds(detector)
    assert pll.ICE40_OSCILLATOR.holds(oscillator)
    assert pll.ICE40_OUTPUT.holds(found.output_hz)
    assert found.output_hz <= wanted * (1 + 1e-6)
    assert 0 <= found.divr < 16
    assert 0 <= found.divf < 128
    assert 1 <= found.divq <= 6
    assert found.output_hz > 0.9 * wanted


def test_clocks_that_cannot_be_made_are_refused() -> None:
    for make in (lambda: pll.ecp5(25e6, 1e6), lambda: pll.ice40(12e6, 5e6), lambda: pll.ice40(5e6, 50e6)):
        with pytest.raises(DoesNotFit, match="makes no clock"):
            make()


@given(clock=st.floats(20e6, 100e6))
def test_times_of_the_chip_are_long_enough(clock: float) -> None:
    found = sdram.times(clock)
    period = 1e9 / clock

    def lasts(cycles: int, ns: float) -> bool:
        return cycles * period >= ns * (1 - 1e-9)

    assert lasts(found.start, sdram.START_NS)
    assert lasts(found.to_column, sdram.ACTIVE_TO_COLUMN_NS)
    assert lasts(found.to_column, sdram.OTHER_BANK_NS)
    assert lasts(found.precharge, sdram.PRECHARGE_NS)
    assert lasts(found.to_precharge, sdram.ACTIVE_TO_PRECHARGE_NS)
    assert lasts(found.to_precharge + found.precharge, sdram.ACTIVE_TO_ACTIVE_NS)
    assert lasts(found.refresh, sdram.REFRESH_NS)
    assert lasts(found.write, sdram.WRITE_NS)
    assert found.interval * period * sdram.REFRESHES <= sdram.REFRESH_ALL_NS * (1 + 1e-9)
    assert not lasts(found.to_column - 1, sdram.ACTIVE_TO_COLUMN_NS)


@pytest.mark.parametrize("clock", [50e6, 60e6, 75e6, 80e6, 100e6])
def test_the_chips_clock_leaves_time_at_both_ends(clock: float) -> None:
    best = sdram.best_shift(clock)
    assert best.least > 1.0
    assert sdram.margins(clock, 0).least < 0
    assert best.least >= sdram.margins(clock, 180).least


def test_a_clock_that_is_too_fast_for_the_chip_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="at most 100 MHz"):
        sdram.times(101e6)


def test_impossible_files_are_refused() -> None:
    board = load_board("icebreaker")
    with pytest.raises(ValueError, match=r"pins\.sdram"):
        replace(board, memory="sdram")
    assert isinstance(board, BoardFile)
