"""Statistics form a commutative monoid, and equal what plain NumPy says of the whole."""

from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitwright.calibrate.bins import BINS
from bitwright.calibrate.statistics import Statistics, TensorStats
from bitwright.calibrate.tally import Tally

arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 20)),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)
stats = st.one_of(
    st.just(TensorStats()),
    st.builds(lambda x: TensorStats.of(x, 1, channel_hist=True), arrays),
    st.builds(lambda x: TensorStats.of(x, 1), arrays),
    st.builds(lambda x: TensorStats.of(x, 2), arrays),
    st.builds(TensorStats.of, arrays),
)
laws = settings(max_examples=60, deadline=None)


@laws
@given(stats, stats, stats)
def test_addition_is_associative_commutative_with_identity(a: TensorStats, b: TensorStats, c: TensorStats) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + TensorStats() == a == TensorStats() + a
    assert sum([a, b, c]) == a + b + c


@laws
@given(arrays, st.data())
def test_the_sum_of_parts_is_the_whole(x: np.ndarray, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(x))))
    cut = data.draw(st.integers(0, len(x)))
    parts = [TensorStats.of(x[i : i + 1], 1, channel_hist=True) for i in order]
    whole = TensorStats.of(x, 1, channel_hist=True)
    assert reduce(TensorStats.__add__, parts, TensorStats()) == whole
    assert TensorStats.of(x[:cut], 1, channel_hist=True) + TensorStats.of(x[cut:], 1, channel_hist=True) == whole
    tally = Tally(1, channel_hist=True)
    for i in order:
        tally.add(x[i : i + 1])
    assert tally.value() == whole


@laws
@given(arrays)
def test_the_kernels_equal_plain_numpy(x: np.ndarray) -> None:
    got, finite = TensorStats.of(x, 1), x[np.isfinite(x)]
    assert got.count == x.size
    assert got.zeros == (x == 0).sum()
    assert got.nonfinite == x.size - finite.size
    assert got.lo == finite.min(initial=np.float32(np.inf))
    assert got.hi == finite.max(initial=np.float32(-np.inf))
    np.testing.assert_array_equal(got.counts, np.bincount((x.view(np.uint32) >> 18).ravel(), minlength=BINS))
    masked = np.where(np.isfinite(x), x, np.float32(np.inf))
    np.testing.assert_array_equal(got.channel_lo, masked.min((0, 2)))
    nonzero = finite[np.abs(finite) >= np.finfo(np.float32).tiny]
    powers = np.frexp(nonzero)[1] - 1
    want = {int(b): int((powers == b).sum()) for b in np.unique(powers)}
    assert {b: n for b, n in got.msb_counts().items() if b > -127} == want


@laws
@given(st.lists(st.tuples(arrays, st.sampled_from("pq")), min_size=3, max_size=3))
def test_statistics_of_a_network_form_a_monoid(parts: list[tuple[np.ndarray, str]]) -> None:
    a, b, c = (
        Statistics("net", (source,), len(x), {"t": TensorStats.of(x, 1)}, {"w": TensorStats.of([1.0])})
        for x, source in parts
    )
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Statistics() == a == Statistics() + a
    assert sum([a, b, c]).samples == sum(len(x) for x, _ in parts)  # type: ignore[union-attr]
    assert (a + b)["w"].count == 1
