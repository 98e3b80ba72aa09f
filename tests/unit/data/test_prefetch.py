from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.data.prefetch import ordered, pulled


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("bitwright")]


@given(st.lists(st.integers(), max_size=40), st.integers(0, 4), st.integers(0, 9))
def test_order_is_kept(tasks: list[int], workers: int, held: int) -> None:
    assert list(ordered(lambda v: v + 1, tasks, workers, held)) == [v + 1 for v in tasks]
    assert not ours()


@given(st.lists(st.integers() | st.none(), max_size=40), st.integers(0, 9))
def test_pulled_items_are_all_there(items: list[int | None], held: int) -> None:
    assert list(pulled(lambda: iter(items), held)) == items
    assert not ours()


def test_only_so_many_are_begun() -> None:
    begun = 0

    def tasks() -> Iterator[int]:
        nonlocal begun
        for i in range(100):
            begun += 1
            yield i

    results = ordered(lambda v: v, tasks(), 2, 6)
    next(results)
    assert begun <= 6
    results.close()


def test_pulling_stops_at_the_bound() -> None:
    begun = 0

    def items() -> Iterator[int]:
        nonlocal begun
        for i in range(1000):
            begun += 1
            yield i

    results = pulled(items, 3)
    next(results)
    time.sleep(0.05)
    assert begun <= 5  # one taken, three ready, one in hand
    results.close()
    assert not ours()


def test_work_overlaps() -> None:
    together = threading.Barrier(3)  # broken unless three run at once

    def work(v: int) -> int:
        together.wait(timeout=10)
        return v

    assert list(ordered(work, range(6), 3, 6)) == list(range(6))


def test_an_exception_comes_in_its_place_and_leaves_no_thread() -> None:
    def work(v: int) -> int:
        if v == 3:
            raise ValueError("three")
        return v

    results = ordered(work, range(100), 2, 8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not ours()


def test_an_exception_of_the_foreign_iterator_arrives() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    results = pulled(items, 2)
    assert next(results) == 1
    with pytest.raises(KeyError):
        next(results)
    assert not ours()


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_early_or_by_ctrl_c_ends_all_threads_and_closes_the_iterator(workers: int) -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    source = pulled(items, 4)
    results = ordered(lambda v: v, source, workers, 4)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    source.close()
    assert closed.wait(5)
    assert not ours()
