"""Bitstreams of boards: the processor, its bridge and its memory on a device."""

from __future__ import annotations

from pathlib import Path

from bitwright.fpga.board import BoardFile
from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.sim.build import Say, need
from bitwright.fpga.synthesis import Bitstream, Part, Recipe, build, check_tools

SEEDS = (1, 2, 3)


def board_bitstream(
    board: BoardFile, config: ProcessorConfig, *, strict_timing: bool = False, say: Say = lambda _: None,
    folder: Path | None = None,
) -> Bitstream:  # fmt: skip
    """The bitstream of a processor for a board, from the cache or made now.

    Args:
        board: The board.
        config: The processor.
        strict_timing: Refuse a bitstream that is too slow, instead of saying so.
        say: Told what happens, every few seconds.
        folder: Where bitstreams are kept, in place of the user's cache.

    Raises:
        ToolMissing: a tool is not installed.
        DoesNotFit: the processor cannot be built for the board, or its device is too small.
        TimingMissed: a clock is too slow, and ``strict_timing``.
        ExportError: a tool failed.
    """
    board.check(config)
    need("amaranth")
    check_tools(board.family)  # before anything takes time
    from bitwright.fpga.rtl.board import Top

    return build(
        Top(board, config),
        Part(family=board.family, device=board.device, package=board.package, speed=board.speed),
        board.constraints(config),
        board.clocks(config).clock_hz,
        name=f"{board.name}-{config.name}",
        recipe=Recipe(seeds=SEEDS),
        strict_timing=strict_timing,
        say=say,
        folder=folder,
    )
