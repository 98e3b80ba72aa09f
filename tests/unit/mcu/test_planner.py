from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.mcu.planner import Block, alive_bytes, lower_bound, place, plan


def block(name: str, size: int, first: int, last: int, align: int = 4) -> Block:
    return Block(name=name, size_bytes=size, first=first, last=last, align=align)


blocks = st.lists(
    st.builds(
        lambda size, first, life, align: block("b", size, first, first + life, align),
        st.integers(0, 500),
        st.integers(-1, 20),
        st.integers(0, 6),
        st.sampled_from([4, 8]),
    ),
    max_size=14,
)


@given(blocks)
@settings(max_examples=80)
def test_blocks_that_live_together_never_overlap(given_blocks: list[Block]) -> None:
    found = plan(given_blocks, most_tries=60)
    for (a, at), (b, other) in itertools.combinations(zip(found.blocks, found.offsets, strict=True), 2):
        if a.meets(b) and a.size_bytes and b.size_bytes:
            assert at + a.size_bytes <= other or other + b.size_bytes <= at
    for a, at in zip(found.blocks, found.offsets, strict=True):
        assert at % a.align == 0
        assert at + a.size_bytes <= found.arena_bytes
    assert found.arena_bytes >= found.bound_bytes


@given(blocks)
@settings(max_examples=60)
def test_the_bound_is_what_is_alive_at_the_worst_step(given_blocks: list[Block]) -> None:
    steps = range(-1, 30)
    assert lower_bound(given_blocks) == max((alive_bytes(given_blocks, t) for t in steps), default=0)
    if given_blocks:
        found = plan(given_blocks, most_tries=1)
        assert alive_bytes(given_blocks, found.busiest_step) == lower_bound(given_blocks)


def test_the_first_order_is_not_always_the_best_and_is_improved() -> None:
    # By size alone the two middle blocks leave a hole that neither neighbor fits.
    chain = [block("a", 6, 0, 1), block("b", 4, 1, 2), block("c", 4, 2, 3), block("d", 6, 3, 4), block("e", 2, 0, 4)]
    rivals = [[j for j, b in enumerate(chain) if j != i and b.meets(a)] for i, a in enumerate(chain)]
    _, first_come = place(chain, [1, 4, 2, 0, 3], rivals)
    found = plan(chain)
    assert found.arena_bytes == found.bound_bytes
    assert found.arena_bytes <= first_come


def test_local_search_reaches_the_bound_where_every_greedy_order_fails() -> None:
    import random

    improved = 0
    for seed in range(60):
        chance = random.Random(seed)
        made = []
        for i in range(12):
            first = chance.randrange(12)
            made.append(block(str(i), 4 * chance.randint(1, 30), first, first + chance.randint(0, 4)))
        greedy, searched = plan(made, most_tries=5), plan(made, most_tries=3000)
        assert searched.arena_bytes <= greedy.arena_bytes
        improved += greedy.arena_bytes > greedy.bound_bytes and searched.arena_bytes == searched.bound_bytes
    assert improved > 0


def test_the_plan_is_the_same_every_time() -> None:
    made = [block(str(i), (i * 37) % 90 + 4, i % 5, i % 5 + i % 4) for i in range(14)]
    assert plan(made) == plan(made)


def test_nothing_needs_nothing() -> None:
    found = plan([])
    assert (found.arena_bytes, found.bound_bytes, found.offsets) == (0, 0, ())
    assert found.busiest_step == -1


@pytest.mark.parametrize(("a", "b", "meets"), [((0, 1), (1, 2), True), ((0, 1), (2, 3), False), ((0, 9), (3, 4), True)])
def test_lifetimes_include_both_ends(a: tuple[int, int], b: tuple[int, int], meets: bool) -> None:
    assert block("a", 1, *a).meets(block("b", 1, *b)) is meets
