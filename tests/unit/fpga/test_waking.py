"""What happens before a board's clock has settled: nothing."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from bitwright.fpga.board import load_board
from bitwright.fpga.config import load_config
from bitwright.fpga.rtl.board import Top
from bitwright.fpga.rtl.sdram import MODE, NOTHING, PRECHARGE, Sdram
from bitwright.fpga.sdram import times


@pytest.mark.parametrize("unsettled_cycles", [0, 1, 300])
def test_a_chip_is_told_nothing_until_the_clock_has_settled_and_waited_for_after(unsettled_cycles: int) -> None:
    """A clock that comes up counts wrong times; the chip wants 100 µs (its data sheet's) of a good one."""
    found = times(2e6)
    memory = Sdram(4, found)
    commands: list[int] = []

    async def bench(context: Any) -> None:
        context.set(memory.awake, 0)
        for _ in range(unsettled_cycles):
            await context.tick()
            assert context.get(memory.pins.command) == NOTHING
            assert not context.get(memory.ready)
        context.set(memory.awake, 1)
        while not context.get(memory.ready):
            await context.tick()
            commands.append(context.get(memory.pins.command))

    simulator = Simulator(memory)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    told = [command for command in commands if command != NOTHING]
    assert (told[0], told[-1]) == (PRECHARGE, MODE)
    assert commands.index(PRECHARGE) >= found.start


def resets(name: str) -> list[str]:
    """Registers of a whole board that have a reset of their clock's domain, in the hardware description."""
    from amaranth.back import rtlil

    board = load_board(name)
    top = Top(board, load_config(board.config))
    text = str(rtlil.convert(top, ports=top.ports(), name="top", emit_src=False))
    return [line for line in text.splitlines() if line.strip().startswith("wire") and line.rstrip().endswith(r"\rst")]


@pytest.mark.parametrize("name", ["ulx3s-25f", "icebreaker"])
def test_no_reset_goes_to_all_registers(name: str) -> None:
    assert not resets(name)
