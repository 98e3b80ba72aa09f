"""Places the memory blocks of a program in one arena, as tightly as their lifetimes allow.

A block is alive from the step that first writes it to the step that last reads it; two blocks that are alive at one
step must not overlap.  The smallest arena that any placement could have is the largest sum of sizes alive at one step,
the liveness bound.  Placement goes one block at a time, each at the lowest offset that is free; which offsets come out
depends only on the order, so several orders are tried and then the best one is improved by moving blocks in it, until
the bound is reached or the tries are used up.  Everything is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_TRIES = 4000
GRAIN = 4  # every offset and every arena is a multiple of it, so every block takes up a multiple of it


@dataclass(frozen=True, kw_only=True)
class Block:
    """A stretch of memory that is needed for some steps.

    Attributes:
        name: For reports.
        size_bytes: Its size.
        first: First step that it is alive at (-1: before the first step).
        last: Last step that it is alive at.
        align: Its offset is a multiple of this, which is a multiple of ``GRAIN``.
    """

    name: str
    size_bytes: int
    first: int
    last: int
    align: int = GRAIN

    def meets(self, other: Block) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where every block lies.

    Attributes:
        blocks: The blocks, in the order they were given.
        offsets: Byte offset of each.
        arena_bytes: Size of the arena.
        bound_bytes: The liveness bound: no placement can be smaller.
        tries: Orders that were tried.
    """

    blocks: tuple[Block, ...]
    offsets: tuple[int, ...]
    arena_bytes: int
    bound_bytes: int
    tries: int

    @property
    def busiest_step(self) -> int:
        """The first step at which the bound is reached."""
        return max(
            sorted({b.first for b in self.blocks}, reverse=True), key=lambda t: alive_bytes(self.blocks, t), default=-1
        )


def aligned(offset: int, align: int) -> int:
    """The lowest multiple of ``align`` from ``offset`` on."""
    return -(-offset // align) * align


def alive_bytes(blocks: Sequence[Block], step: int) -> int:
    """Bytes alive at ``step``, each block in whole grains."""
    return sum(aligned(b.size_bytes, GRAIN) for b in blocks if b.first <= step <= b.last)


def lower_bound(blocks: Sequence[Block]) -> int:
    """The largest number of bytes alive at one step."""
    return max((alive_bytes(blocks, b.first) for b in blocks), default=0)


def place(blocks: Sequence[Block], order: Sequence[int], rivals: Sequence[Sequence[int]]) -> tuple[list[int], int]:
    """Offsets when blocks are placed in ``order``, each as low as possible, and the size of the arena.

    Args:
        blocks: The blocks.
        order: Indices into ``blocks``, each once.
        rivals: For each block, the blocks that it must not overlap.
    """
    offsets, done, top = [0] * len(blocks), [False] * len(blocks), 0
    for index in order:
        block, at = blocks[index], 0
        for low, high in sorted((offsets[r], offsets[r] + blocks[r].size_bytes) for r in rivals[index] if done[r]):
            if at + block.size_bytes <= low:
                break
            at = max(at, aligned(high, block.align))
        offsets[index], done[index] = at, True
        top = max(top, at + block.size_bytes)
    return offsets, aligned(top, GRAIN)


def plan(blocks: Sequence[Block], *, most_tries: int = MOST_TRIES, seed: int = 0) -> Plan:
    """Place ``blocks``.

    Args:
        blocks: With lifetimes; empty blocks take no room.
        most_tries: Orders to try before settling for the best found.
        seed: Of the local search.
    """
    bound = lower_bound(blocks)
    rivals = [[j for j, b in enumerate(blocks) if j != i and b.meets(a)] for i, a in enumerate(blocks)]
    span = [sum(blocks[j].size_bytes for j in rivals[i]) for i in range(len(blocks))]
    keys: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda i: (-blocks[i].size_bytes, blocks[i].first),
        lambda i: (-(blocks[i].size_bytes + span[i]), blocks[i].first),
        lambda i: (blocks[i].first, -blocks[i].size_bytes),
        lambda i: (-(blocks[i].last - blocks[i].first), -blocks[i].size_bytes),
        lambda i: (-blocks[i].last, -blocks[i].size_bytes),
    )
    best: tuple[int, list[int], list[int]] | None = None
    tries = 0
    for key in keys:
        order = sorted(range(len(blocks)), key=key)
        offsets, size = place(blocks, order, rivals)
        tries += 1
        if best is None or size < best[0]:
            best = size, order, offsets
        if size <= bound:
            break
    assert best is not None
    chance = random.Random(seed)
    while best[0] > bound and tries < most_tries and len(blocks) > 1:
        order = list(best[1])
        for _ in range(chance.randint(1, 3)):
            moved = order.pop(chance.randrange(len(order)))
            order.insert(chance.randrange(len(order) + 1), moved)
        offsets, size = place(blocks, order, rivals)
        tries += 1
        if size <= best[0]:  # equals are taken too: a walk along a plateau finds its edge
            best = size, order, offsets
    return Plan(blocks=tuple(blocks), offsets=tuple(best[2]), arena_bytes=best[0], bound_bytes=bound, tries=tries)
