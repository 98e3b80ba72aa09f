"""Bits drawn in a line of text."""

from __future__ import annotations

from bitwright.commands.bits import WIDEST, bit_columns, spark


def test_columns_cover_what_occurs_from_the_top() -> None:
    assert bit_columns([{"3": 1, "-2": 5}, {"0": 2}]) == (3, -2)
    assert bit_columns([{"8": 1, "-100": 5}]) == (8, 8 - WIDEST + 1)
    assert bit_columns([{}]) == (0, -1)
    assert bit_columns([{"5": 0, "1": 3}]) == (1, 1)


def test_one_character_per_power() -> None:
    assert spark({"1": 8, "0": 4, "-2": 1}, 2, -2) == " █▄ ▁"
    assert spark({}, 1, 0) == "  "
    assert spark({"0": 1_000_000, "-1": 1}, 0, -1) == "█▁", "what occurs is never invisible"
