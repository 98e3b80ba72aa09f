"""Bitstreams, really built: pins, clocks, memories and registers in pads are accepted by the tools, and timing is closed.

The bench takes the place of the processor, which takes minutes: ``make bitstreams`` has that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import fpga_bench
from bitwright.fpga.board import load_board
from bitwright.fpga.config import load_config
from bitwright.fpga.rtl.board import Top
from bitwright.fpga.rtl.sdram import Sdram
from bitwright.fpga.rtl.spram import Spram
from bitwright.fpga.sdram import times
from bitwright.fpga.synthesis import Part, Recipe, build

STARTS = {"icebreaker": "7eaa997e", "ulx3s-25f": "ffffbdb3"}


@pytest.mark.parametrize("name", STARTS)
def test_line_and_memory_of_a_board_close_timing(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    config = load_config(board.config)
    clock = board.clocks(config).clock_hz
    memory = Sdram(config.bus.bytes, times(clock)) if board.memory == "sdram" else Spram(config.bus.bytes)
    made = build(
        Top(board, config, fpga_bench.Bench(config, memory, board.memory_bytes)),
        Part(family=board.family, device=board.device, package=board.package, speed=board.speed),
        board.constraints(config), clock, name="bench", recipe=Recipe(seeds=(1, 2, 3)), strict_timing=True, folder=tmp_path,
    )  # fmt: skip
    assert made.met
    assert min(c.reached_hz for c in made.clocks) >= clock
    assert bytes.fromhex(STARTS[name]) in made.path.read_bytes()[:512]
    if board.memory == "spram":
        assert made.resources["SPRAM"].used == 4
    assert made.resources["RAM"].used == 1
