"""Streams of instructions in the making: tokens, tiles, passes and their order.

Program order is an order in which each instruction could run alone after those before it.  Loads stand as far ahead of
their use as buffers allow: the next tile before this one is computed, the next pass's weights after the first tiles of
this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TypeVar

import numpy as np

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Dest, Instruction, Load, Store
from bitwright.fpga.jobs import Place
from bitwright.fpga.tiles import (
    Rows,
    Strip,
)

HALVES = 2


class Token(IntEnum):
    """What the tokens mean; the hardware does not know."""

    ACT_READY = 0
    ACT_FREE = 1
    WEIGHT_READY = 2
    WEIGHT_FREE = 3
    RING_READY = 4
    RING_FREE = 5
    OUT_READY = 6
    OUT_FREE = 7
    STORED = 8
    MID_READY = 9
    MID_FREE = 10
    PARAMETERS_FREE = 11


@dataclass(frozen=True)
class Data:
    """Parameters in external memory.

    Attributes:
        name: For the memory map.
        dense: It belongs to a dense layer.
        values: Bytes.
    """

    name: str
    dense: bool
    values: bytes


@dataclass(frozen=True)
class Relative:
    """An instruction whose address is not known yet.

    Attributes:
        instruction: With the address relative to the start of ``storage``.
        storage: Name of a tensor, or index of a piece of parameters.
    """

    instruction: Load | Store
    storage: str | int


Item = Instruction | Relative


@dataclass
class Stream:
    """Instructions and parameters of one segment, and how often each buffer was filled."""

    config: ProcessorConfig
    items: list[Item] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    fills: Counter[Token] = field(default_factory=Counter)
    """How often each buffer was filled, by the token that frees a half of it."""
    jobs: int = 0

    def half(self, free: Token) -> int:
        """The half of a buffer that is filled next."""
        return self.fills[free] % 2

    def fill(self, free: Token) -> tuple[int, tuple[Token, ...]]:
        """Fill the next half of a buffer: which one, and the token to wait for unless it was never used before."""
        half, used = self.half(free), self.fills[free] >= HALVES
        self.fills[free] += 1
        return half, (free,) if used else ()

    def load_parameters(self, name: str, dense: bool, parts: Sequence[tuple[Dest, int, bytes]]) -> list[Item]:
        """Keep parameters and load them: for each part the buffer, its first word there and the bytes."""
        index = self.add_data(name, dense, b"".join(values for _, _, values in parts))
        items: list[Item] = []
        at = 0
        for dest, base, values in parts:
            count = len(values) // self.config.icp
            items.append(Relative(Load(dest=dest, address=at, base=base, words=count, width=count), index))
            at += len(values)
        return items

    def add_data(self, name: str, dense: bool, values: bytes) -> int:
        """Keep parameters, padded to whole words; returns their index."""
        self.data.append(Data(name, dense, values + bytes(-len(values) % self.config.icp)))
        return len(self.data) - 1


I = TypeVar("I", bound=Instruction)


def waiting(instruction: I, *tokens: Token) -> I:
    """``instruction``, which also takes ``tokens``."""
    return replace(instruction, wait=instruction.wait | sum(1 << t for t in tokens))


def posting(instruction: I, *tokens: Token) -> I:
    """``instruction``, which also gives ``tokens``."""
    return replace(instruction, post=instruction.post | sum(1 << t for t in tokens))


def entry_bytes(config: ProcessorConfig, offsets: Sequence[int], banks: Sequence[int], coefficient: int = 0) -> bytes:
    """One entry of a row table as it is loaded."""
    raw = (
        np.asarray(offsets, np.int64).astype(np.uint16).tobytes()
        + np.asarray(banks, np.uint8).tobytes()
        + np.asarray(coefficient, np.int64).astype(np.int16).tobytes()
    )
    return raw.ljust(config.row_entry_words * config.icp, b"\0")


def load_rows(
    place: Place, dest: Dest, base: int, rows: tuple[int, int], columns: tuple[int, int], words: tuple[int, int],
    layout: Rows, fill: int = 0,
) -> Relative:  # fmt: skip
    """Rows ``rows`` (first, count), columns and words of a tensor into banks; what lies outside is ``fill``."""
    icp = place.layout.icp
    first_row, last_row = max(rows[0], 0), min(rows[0] + rows[1], place.layout.height)
    first, last = max(columns[0], 0), min(columns[0] + columns[1], place.layout.width)
    count = words[1] - words[0]
    pixels = max(last - first, 0)
    together = count == place.pixel_words
    pitch = columns[1] * count
    real_rows = max(last_row - first_row, 0) if pixels else 0
    address = (first_row * place.row_words + first * place.pixel_words + place.first_word + words[0]) * icp
    above = min(first_row - rows[0], rows[1])
    return Relative(
        Load(
            dest=dest,
            address=address,
            row_stride=place.row_words * icp,
            base=base,
            rows=real_rows,
            above=above,
            below=rows[1] - above - real_rows,
            words=pixels * count if together else count,
            runs=1 if together else pixels,
            run_stride=0 if together else place.pixel_words * icp,
            left=(first - columns[0]) * count if pixels else 0,
            width=pitch,
            fill=fill,
            spread=layout.spread,
            pitch=pitch,
            back=(layout.spread - 1) * pitch,
        ),
        place.storage,
    )


def store_tile(
    place: Place, base: int, rows: tuple[int, int], strip: Strip, words: tuple[int, int], pitch: int, x_step: int
) -> Relative:
    """Rows of ``out`` into a tensor."""
    icp = place.layout.icp
    count = words[1] - words[0]
    together = count == place.pixel_words
    pixel = rows[0] * place.row_words + strip.first * place.pixel_words + place.first_word + words[0]
    return Relative(
        Store(
            address=pixel * icp,
            row_stride=place.row_words * icp,
            pixel_stride=place.pixel_words * icp,
            base=base,
            rows=rows[1],
            pitch=pitch,
            xs=strip.count,
            x_step=x_step,
            words=count,
            run_words=strip.count * count if together else count,
            runs=1 if together else strip.count,
        ),
        place.storage,
    )


@dataclass
class Tile:
    """One tile of a pass: loads, then the rest."""

    loads: list[Item]
    rest: list[Item]


@dataclass
class Pass:
    """One strip and chunk of a job: parameters, then tiles."""

    parameters: list[Item]
    tiles: list[Tile]
    early: bool
    """The parameters have two halves of their buffers and may be loaded during the pass before."""
    whole: bool = False
    """The weights fill both halves."""
    waits: bool = False
    """Its first load waits for what passes before it stored."""


def arrange(passes: Sequence[Pass]) -> list[Item]:
    """Program order: every tile's loads before the tile ahead of it is computed, parameters one pass ahead."""
    order: list[Item] = []
    ready: set[int] = set()

    def parameters(at: int) -> None:
        if at < len(passes) and at not in ready:
            ready.add(at)
            order.extend(passes[at].parameters)

    tiles = [(p, t) for p, one in enumerate(passes) for t in range(len(one.tiles))]
    loaded: set[tuple[int, int]] = set()

    def load(at: int) -> None:
        if at < len(tiles) and tiles[at] not in loaded:
            p, t = tiles[at]
            loaded.add(tiles[at])
            order.extend(passes[p].tiles[t].loads)

    for at, (p, t) in enumerate(tiles):
        parameters(p)
        load(at)
        ahead = at + 1
        if ahead < len(tiles):
            q = tiles[ahead][0]
            # Parameters without halves must stand before the loads, whose token says that both are there.
            good = passes[q].early or not passes[q].parameters
            if q == p or (good and not passes[q].waits):
                load(ahead)
        if t == 0 and p + 1 < len(passes) and passes[p + 1].early and not (passes[p].whole or passes[p + 1].whole):
            parameters(p + 1)
        order.extend(passes[p].tiles[t].rest)
    return order


def wait(item: Item, *tokens: Token) -> Item:
    """``item``, which also takes ``tokens``."""
    if isinstance(item, Relative):
        return Relative(waiting(item.instruction, *tokens), item.storage)
    return waiting(item, *tokens)


def post(item: Item, *tokens: Token) -> Item:
    """``item``, which also gives ``tokens``."""
    if isinstance(item, Relative):
        return Relative(posting(item.instruction, *tokens), item.storage)
    return posting(item, *tokens)
