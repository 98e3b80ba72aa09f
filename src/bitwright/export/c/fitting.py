"""Networks that are too large for a device: by how much, because of which layer, and what would make them fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bitwright.errors import DoesNotFit, printable
from bitwright.mcu.board import list_boards, load_board
from bitwright.mcu.planner import Block, Plan

MOST_NAMED = 2


def check_fits(report: Mapping[str, Any], plan: Plan, flash_bytes: int | None, ram_bytes: int | None) -> None:
    """Compare a network with the memory that there is.

    Args:
        report: What ``report.json`` holds.
        plan: Of the arena.
        flash_bytes: Flash that there is; None for any.
        ram_bytes: RAM for the arena that there is; None for any.

    Raises:
        DoesNotFit: it is not enough.
    """
    if ram_bytes is not None and plan.arena_bytes > ram_bytes:
        raise ram_too_small(report, plan, ram_bytes)
    need = report["flash"]["estimate_bytes"]
    if flash_bytes is not None and need > flash_bytes:
        raise flash_too_small(report, need, flash_bytes)


def ram_too_small(report: Mapping[str, Any], plan: Plan, have: int) -> DoesNotFit:
    """The error for an arena that is too large."""
    need, at = plan.arena_bytes, report["ram"]["busiest_step"]
    alive = sorted((b for b in plan.blocks if b.first <= plan.busiest_step <= b.last), key=lambda b: -b.size_bytes)
    largest = " and ".join(_block(block) for block in alive[:MOST_NAMED])
    side = math.sqrt(have / need)
    return DoesNotFit(
        f"The arena needs {need} bytes of RAM and there are {have}: {need - have} too many. Step "
        f"'{printable(at['name'], 60)}' of layer '{printable(at['layer'], 60)}' alone has {at['alive_bytes']} alive, most of "
        f"it {largest}. It would fit with an input of about {math.floor(100 * side)} % of the height and width, with "
        f"{math.floor(100 * have / need)} % of the channels there, with an earlier stride or pooling, perhaps with its first "
        "layers run patch by patch (export with --option patches=auto), or on a device with "
        f"{_kib(need)} for the arena{_boards(need, 'ram')}.",
        need_bytes=need,
        have_bytes=have,
    )


def flash_too_small(report: Mapping[str, Any], need: int, have: int) -> DoesNotFit:
    """The error for constants and code that are too large."""
    flash = report["flash"]
    layers = sorted(_by_layer(report["layers"]).items(), key=lambda item: -item[1])[:MOST_NAMED]
    named = " and ".join(f"'{printable(name, 60)}' {size}" for name, size in layers)
    constants = flash["constant_bytes"]
    other = need - constants
    fewer = (
        f"It would fit with {math.floor(100 * (have - other) / constants)} % of the constants (fewer channels in those "
        "layers, a narrower dense layer), or on"
        if constants and have > other
        else "Even without constants the code alone is too large: it takes"
    )
    return DoesNotFit(
        f"Constants and code need about {need} bytes of flash and there are {have}: {need - have} too many. Layer "
        f"{named} bytes are the most of {constants} bytes of constants. {fewer} a device with {_kib(need)} of flash"
        f"{_boards(need, 'flash')}.",
        need_bytes=need,
        have_bytes=have,
    )


def _by_layer(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row["layer"]] = found.get(row["layer"], 0) + row["constant_bytes"]
    return found


def _block(block: Block) -> str:
    return f"{printable(block.name, 60)} ({block.size_bytes})"


def _kib(count: int) -> str:
    return f"{math.ceil(count / 1024)} KiB"


def _boards(need: int, memory: str) -> str:
    """The emulated boards that have so much; empty if there are none."""
    enough = [n for n in list_boards() if getattr(load_board(n), memory).bytes >= need]
    return f" ({', '.join(enough[:MOST_NAMED])})" if enough else ""
