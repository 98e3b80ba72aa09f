from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.export.c.pattern import Loop, expand, fold, two_level


@given(st.data())
def test_expand_is_the_inverse_of_fold(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 60))
    source = np.array(data.draw(st.lists(st.integers(0, 40), min_size=size, max_size=size)))
    to = np.sort(np.array(data.draw(st.lists(st.integers(0, 400), min_size=size, max_size=size, unique=True))))
    copy = fold(to, source)
    back = expand(copy)
    np.testing.assert_array_equal(back[0], to)
    np.testing.assert_array_equal(back[1], source)
    assert copy.count == size


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.permutations([0, 1, 2, 3]))
def test_transpositions_are_loops_without_a_table(shape: list[int], order: list[int]) -> None:
    order = [i for i in order if i < len(shape)]
    source = np.arange(np.prod(shape)).reshape(shape).transpose(order).ravel()
    copy = fold(np.arange(source.size), source)
    assert copy.starts is None
    np.testing.assert_array_equal(expand(copy)[1], source)


def test_nearest_neighbors_doubled_are_loops_with_a_step_of_zero() -> None:
    pixels = np.arange(12).reshape(2, 2, 3)
    source = pixels.repeat(2, 0).repeat(2, 1).ravel()
    copy = fold(np.arange(source.size), source)
    assert copy.starts is None
    assert copy.loops == (Loop(2, 24, 6), Loop(2, 12, 0), Loop(2, 6, 3), Loop(2, 3, 0), Loop(3, 1, 1))


def test_irregular_copies_keep_a_table_of_starts() -> None:
    source = np.array([[0, 1], [6, 7], [2, 3]])
    copy = fold(np.arange(6), source.ravel())
    assert copy.loops == (Loop(2, 1, 1),)
    assert copy.starts is not None
    np.testing.assert_array_equal(copy.starts, [[0, 0], [2, 6], [4, 2]])


@pytest.mark.parametrize(
    ("positions", "found"),
    [
        ([5, 6, 7], (5, 3, 3)),
        ([2, 3, 10, 11, 18, 19], (2, 2, 8)),
        ([0, 1, 5, 6, 12, 13], None),
        ([0, 1, 2, 8, 9], None),
        ([3, 2, 1], None),
        ([4], (4, 1, 1)),
    ],
)
def test_two_level(positions: list[int], found: tuple[int, int, int] | None) -> None:
    assert two_level(np.array(positions)) == found
