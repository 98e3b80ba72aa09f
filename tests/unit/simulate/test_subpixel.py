from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.program.forms import Axis
from bitwright.simulate.subpixel import subpixel


def convolved(x: NDArray[np.int64], weights: NDArray[np.int64], axes: list[Axis]) -> NDArray[np.int64]:
    """``Contract`` as its text says, tap by tap, for one sample ``[in, ...]``."""
    sizes = [axis.outputs(n) for axis, n in zip(axes, x.shape[1:], strict=True)]
    out = np.zeros((len(weights), *sizes), np.int64)
    for p in np.ndindex(*sizes):
        for k in np.ndindex(*(axis.taps for axis in axes)):
            at = [q * a.stride + j * a.dilation - a.before for q, j, a in zip(p, k, axes, strict=True)]
            if all(t % a.spread == 0 and 0 <= t // a.spread < n for t, a, n in zip(at, axes, x.shape[1:], strict=True)):
                place = tuple(t // a.spread for t, a in zip(at, axes, strict=True))
                out[(slice(None), *p)] += weights[(slice(None), slice(None), *k)] @ x[(slice(None), *place)]
    return out


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    edge = st.integers(0, 4)
    return Axis(
        taps=draw(st.integers(1, 5)),
        dilation=draw(st.integers(1, 2)),
        spread=draw(st.integers(1, 3)),
        before=draw(edge),
        after=draw(edge),
    )


@settings(max_examples=150)
@given(windows=st.lists(axes(), min_size=1, max_size=2), seed=st.integers(0, 999), data=st.data())
def test_the_ordinary_convolution_is_the_transposed_one(windows: list[Axis], seed: int, data: st.DataObject) -> None:
    shape = [data.draw(st.integers(1, 5)) for _ in windows]
    assume(all(axis.outputs(n) > 0 for axis, n in zip(windows, shape, strict=True)))
    rng = np.random.default_rng(seed)
    weights = rng.integers(-9, 10, (2, 3, *(axis.taps for axis in windows)))
    found = subpixel(weights, windows, shape)
    if found is None:
        return
    x = rng.integers(-9, 10, (3, *shape))
    wide = convolved(x, found.weights, list(found.axes))
    assert wide.shape == (2 * found.phases, *found.positions)
    assert all(axis.spread == 1 and axis.before >= 0 and axis.after >= 0 for axis in found.axes)
    phases = wide.reshape(*found.spreads, 2, *found.positions)
    wanted = convolved(x, weights, windows)
    got = np.zeros((2, *(m * s for m, s in zip(found.positions, found.spreads, strict=True))), np.int64)
    for r in np.ndindex(*found.spreads):
        got[(slice(None), *(slice(i, None, s) for i, s in zip(r, found.spreads, strict=True)))] = phases[r]
    assert (got[(slice(None), *(slice(n) for n in found.sizes))] == wanted).all()


@pytest.mark.parametrize(("taps", "before", "window"), [(2, 1, 1), (4, 2, 3), (3, 1, 2)])
def test_usual_windows_are_found(taps: int, before: int, window: int) -> None:
    axis = Axis(taps=taps, spread=2, before=before, after=before)
    found = subpixel(np.ones((4, 4, taps, taps), np.int8), [axis, axis], [6, 7])
    assert found is not None
    assert found.phases == 4
    assert [a.taps for a in found.axes] == [window, window]


def test_strides_are_left_alone() -> None:
    assert subpixel(np.ones((1, 1, 2), np.int8), [Axis(taps=2, spread=2, stride=2)], [4]) is None
