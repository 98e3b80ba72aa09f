from __future__ import annotations

import numpy as np
import pytest

from bitwright.mend.patches import output_sizes, patches
from bitwright.number.expr import var
from bitwright.program.forms import Axis, Contract, Epilogue
from bitwright.simulate.reference import accumulate

AXES = [
    (),
    (Axis(taps=3, before=1, after=1), Axis(taps=2, stride=2)),
    (Axis(taps=3, dilation=2, before=2, after=1), Axis(taps=1, stride=3)),
    (Axis(taps=2, before=1, after=1, spread=2), Axis(taps=3, before=2, after=2, spread=3)),
]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("groups", [1, 2])
def test_weights_times_patches_are_the_accumulators(axes: tuple[Axis, ...], groups: int) -> None:
    r = np.random.default_rng(0)
    x = r.integers(-128, 128, (3, 4, *[7] * len(axes))).astype(np.int8)
    taps = tuple(axis.taps for axis in axes)
    weights = r.integers(-8, 8, (6, 4 // groups, *taps))
    expr = var("acc", -(1 << 20), 1 << 20)
    form = Contract(
        weight="w",
        bias=None,
        groups=groups,
        axes=axes,
        input_zero=5,
        epilogue=Epilogue(expr=expr),
        acc_lo=-(1 << 20),
        acc_hi=1 << 20,
    )
    want = accumulate(form, weights, None, x)
    size = int(np.prod(output_sizes(form, x.shape)))
    places = np.stack([r.choice(size, min(size, 5), replace=False) for _ in range(3)])
    rows = patches(form, x, places, taps)
    got = rows @ weights.reshape(groups, 6 // groups, -1).swapaxes(1, 2)
    expected = np.stack([want.reshape(3, 6, -1)[i][:, places[i]].T for i in range(3)]).reshape(-1, groups, 6 // groups)
    assert np.array_equal(got, expected.transpose(1, 0, 2))
