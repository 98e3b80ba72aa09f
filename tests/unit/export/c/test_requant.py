from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.export.c.requant import Requant, recognize
from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.expr import Expr, maximum, saturate, var
from bitwright.number.render import numpy_value
from bitwright.number.requantize import rescale

KINDS = {
    "pow2-halfup": "shift",
    "tflite-double": "double",
    "tflite-single": "single",
    "ort-cpu": "float32_even",
    "float32-half-away": "float32_away",
}


def arithmetic(semantics: str) -> Arithmetic:
    requantize, rounding = SEMANTICS[semantics]
    return Arithmetic(requantize=requantize, rounding=rounding, semantics=semantics)


def told(found: Requant, acc: NDArray[np.int64], channel: int) -> NDArray[np.int64]:
    """The formulas of :class:`Requant` in Python's unbounded integers."""
    shift, multiplier = (int(v[channel % v.size]) if v.size else 0 for v in (found.shift, found.multiplier))
    out = []
    for value in acc.tolist():
        match found.kind:
            case "shift":
                y = (value + ((1 << shift) >> 1)) >> shift
            case "single":
                y = (value * multiplier + (1 << (shift - 1))) >> shift
            case "double":
                left, right = max(-shift, 0), max(shift, 0)
                high = ((value << left) * multiplier + (1 << 30)) >> 31
                half = (1 << right) >> 1
                y = high if right == 0 else (abs(high) + half >> right) * (-1 if high < 0 else 1)
            case _:
                bits = np.array([multiplier], np.int64).astype(np.uint32)
                product = float(np.float32(value) * bits.view(np.float32)[0])
                even = found.kind == "float32_even"
                y = int(np.rint(product)) if even else int(np.copysign(np.floor(abs(product) + 0.5), product))
        out.append(min(max(y + found.zero, found.lo), found.hi))
    return np.array(out, np.int64)


@given(st.data())
@settings(max_examples=100)
def test_what_is_recognized_computes_the_same(data: st.DataObject) -> None:
    semantics = data.draw(st.sampled_from(sorted(KINDS)))
    channels = data.draw(st.integers(1, 4))
    reach = data.draw(st.integers(100, 1 << 24))
    exponents = data.draw(st.lists(st.floats(-14, 0.9), min_size=channels, max_size=channels))
    ratio = np.exp2(np.floor(exponents) if KINDS[semantics] == "shift" else np.array(exponents))
    ratio = np.minimum(ratio, 1.0) if KINDS[semantics] == "shift" else ratio
    zero = data.draw(st.integers(-20, 20))
    lo, hi = sorted(data.draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127))))
    scaled = rescale(var("acc", -reach, reach), ratio, arithmetic(semantics))
    expr = saturate(scaled.expr + zero, lo, hi)
    params = {k: v for k, v in scaled.params.items() if k in expr.variables()}
    found = recognize(expr, params, channels)
    if found is None:  # clamps decided everything, or no clamp is left and nothing needs a kernel
        assert expr.lo == expr.hi or reach * ratio.max() > 1 << 29
        return
    assert found.kind in {KINDS[semantics], "shift"}
    acc = np.unique(np.concatenate([np.linspace(-reach, reach, 301).astype(np.int64), [-1, 0, 1]]))
    for channel in range(channels):
        chosen = {k: np.asarray(v if np.ndim(v) == 0 else v[channel]) for k, v in params.items()}
        want = np.broadcast_to(numpy_value(expr, {"acc": acc, **chosen}), acc.shape)
        np.testing.assert_array_equal(told(found, acc, channel), want)


def per_tensor(semantics: str, ratio: float) -> tuple[Expr, dict[str, NDArray[np.int64]]]:
    scaled = rescale(var("acc", -50000, 50000), np.asarray(ratio), arithmetic(semantics))
    return saturate(scaled.expr + 3, -128, 127), dict(scaled.params)


@pytest.mark.parametrize("semantics", sorted(KINDS))
def test_every_profile_with_a_kernel_is_recognized(semantics: str) -> None:
    expr, params = per_tensor(semantics, 2.0**-7)
    found = recognize(expr, params, 8)
    assert found is not None
    assert found.kind == KINDS[semantics]
    assert (found.zero, found.lo, found.hi, found.per_channel) == (3, -128, 127, False)


@pytest.mark.parametrize("semantics", ["pow2-halfaway", "pow2-halfeven", "pow2-floor"])
def test_other_roundings_are_not_taken_for_half_up(semantics: str) -> None:
    expr, params = per_tensor(semantics, 2.0**-7)
    assert recognize(expr, params, 8) is None


def test_something_around_the_requantizer_is_not_overlooked() -> None:
    expr, params = per_tensor("tflite-double", 0.01)
    assert recognize(expr, params, 8) is not None
    assert recognize(maximum(expr - 1, -128), params, 8) is None
    scaled = rescale(maximum(var("acc", -50000, 50000), 0), np.asarray(0.01), arithmetic("tflite-double"))
    assert recognize(saturate(scaled.expr, -128, 127), scaled.params, 8) is None


def test_an_accumulator_beyond_32_bits_is_for_a_loop_nest() -> None:
    scaled = rescale(var("acc", -(1 << 33), 1 << 33), np.asarray(2.0**-20), arithmetic("pow2-halfup"))
    assert recognize(saturate(scaled.expr, -128, 127), scaled.params, 1) is None
