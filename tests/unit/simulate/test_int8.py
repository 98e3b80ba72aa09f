from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.number.expr import Expr, round_shift, saturate, var
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.int8 import Int8Requantizer, emulate, solve, thresholds

Ints = NDArray[np.int64]
LOWEST, HIGHEST = -128, 127


def shifting(right: Ints, reach: int, rounding: Rounding, zero: int, low: int, high: int) -> Expr:
    acc = var("acc", -reach, reach)
    rounded = round_shift(acc, var("right", int(right.min()), int(right.max())), rounding)
    return saturate(rounded + zero, low, high)


def codes_of(expr: Expr, right: Ints, found: Int8Requantizer, lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
    """Codes of every accumulator there can be, of channel after channel: by the formula, and by QLinearConv's."""
    wanted, got = [], []
    for channel, (first, last) in enumerate(zip(lo, hi, strict=True)):
        acc = np.arange(first, last + 1)
        wanted.append(np.broadcast_to(numpy_value(expr, {"acc": acc, "right": right[channel]}), acc.shape) - LOWEST)
        made = emulate((acc + found.offset[channel])[None], found.multiplier[channel : channel + 1], found.y_zero)[0]
        got.append(np.clip(np.clip(made, 0, 255), expr.lo - LOWEST, expr.hi - LOWEST))
    return np.concatenate(wanted), np.concatenate(got)


@settings(max_examples=80)
@given(data=st.data())
def test_what_is_found_is_right_for_every_accumulator(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 4))
    right = np.asarray(data.draw(st.lists(st.integers(0, 10), min_size=channels, max_size=channels)), np.int64)
    reach = data.draw(st.sampled_from([300, 5_000, 40_000]))
    rounding = data.draw(st.sampled_from([Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.FLOOR]))
    zero = data.draw(st.sampled_from([0, 0, -128, 7]))
    low = data.draw(st.sampled_from([LOWEST, max(zero, LOWEST)]))
    expr = shifting(right, reach, rounding, zero, low, data.draw(st.sampled_from([HIGHEST, 96])))
    ends = [
        sorted(data.draw(st.tuples(st.integers(-reach, reach), st.integers(-reach, reach)))) for _ in range(channels)
    ]
    lo, hi = np.asarray(ends, np.int64).T
    found = solve(expr, {"right": right}, lo, hi, lowest=LOWEST, highest=HIGHEST)
    if found is not None:
        wanted, got = codes_of(expr, right, found, lo, hi)
        assert (wanted == got).all()


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_EVEN])
@pytest.mark.parametrize("low", [LOWEST, 0])
def test_usual_shifts_are_found(rounding: Rounding, low: int) -> None:
    right = np.asarray([2, 5, 8, 11, 13], np.int64)
    reach = 1 << 17
    expr = shifting(right, reach, rounding, 0, low, HIGHEST)
    lo, hi = np.full(5, -reach), np.full(5, reach)
    found = solve(expr, {"right": right}, lo, hi, lowest=LOWEST, highest=HIGHEST)
    assert found is not None
    wanted, got = codes_of(expr, right, found, lo, hi)
    assert (wanted == got).all()
    assert len(np.unique(wanted)) == HIGHEST - low + 1


def test_channels_that_never_change_are_found_too() -> None:
    right = np.asarray([4, 4, 4], np.int64)
    expr = shifting(right, 10_000, Rounding.HALF_UP, 0, 0, HIGHEST)
    lo, hi = np.asarray([-9_000, 8_000, 0]), np.asarray([-5_000, 9_000, 900])
    found = solve(expr, {"right": right}, lo, hi, lowest=LOWEST, highest=HIGHEST)
    assert found is not None
    wanted, got = codes_of(expr, right, found, lo, hi)
    assert (wanted == got).all()


def test_a_step_that_no_multiplier_makes_is_not_found() -> None:
    acc = var("acc", -1000, 1000)
    expr = saturate(round_shift(acc * acc, 8, Rounding.FLOOR), LOWEST, HIGHEST)  # monotone only for positive acc
    assert solve(expr, {}, np.asarray([0]), np.asarray([1000]), lowest=LOWEST, highest=HIGHEST) is None


@given(
    st.integers(0, 8),
    st.integers(-3_000, 0),
    st.integers(1, 3_000),
    st.sampled_from([Rounding.HALF_UP, Rounding.FLOOR]),
)
def test_thresholds_are_the_first_accumulators(shift: int, lo: int, hi: int, rounding: Rounding) -> None:
    right = np.asarray([shift], np.int64)
    expr = shifting(right, 3_000, rounding, 0, LOWEST, HIGHEST)
    codes = np.arange(LOWEST + 1, HIGHEST + 1)
    at, inside = thresholds(expr, {"right": right}, np.asarray([lo]), np.asarray([hi]), codes)
    acc = np.arange(lo, hi + 1)
    values = numpy_value(expr, {"acc": acc, "right": np.int64(shift)})
    for code, first, within in zip(codes, at[0], inside[0], strict=True):
        reached = acc[values >= code]
        assert within == bool(len(reached) and reached[0] > lo)
        if within:
            assert reached[0] == first


def test_the_emulation_is_onnx_runtime() -> None:
    """One weight of 1 per channel makes the bias the accumulator; ties and both sides of saturation occur."""
    import onnxruntime

    acc = np.concatenate([np.arange(-700, 700), [2**24 + 1, -(2**24) - 3, 2**30 - 1]]).astype(np.int32)
    multiplier = np.full(len(acc), 2.0**-3 * (1 + 2.0**-20), np.float32)
    for factors in (multiplier, np.full(len(acc), 2.0**-2, np.float32), np.full(len(acc), 0.3, np.float32)):
        for zero in (0, 128):
            graph = GraphWriter()
            unit, none = graph.constant(np.asarray(1.0, np.float32)), graph.constant(np.asarray(0, np.uint8))
            graph.node(
                "QLinearConv",
                "x",
                unit,
                none,
                graph.constant(np.ones((len(acc), 1, 1, 1), np.int8)),
                graph.constant(factors),
                graph.constant(np.zeros(len(acc), np.int8)),
                unit,
                graph.constant(np.asarray(zero, np.uint8)),
                graph.constant(acc),
                outputs=["y"],
            )
            kind = np.dtype(np.uint8)
            model = graph.model([("x", kind, (1, 1, 1, 1))], [("y", kind, (1, len(acc), 1, 1))])
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            got = session.run(None, {"x": np.zeros((1, 1, 1, 1), np.uint8)})[0].reshape(-1)
            wanted = np.clip(emulate(acc.astype(np.int64)[:, None], factors, zero)[:, 0], 0, 255)
            assert (got == wanted).all()
