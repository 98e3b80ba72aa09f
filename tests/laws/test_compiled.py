"""Compiled kernels give what the reference gives, whatever the shape and the number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.number.arithmetic import Arithmetic
from bitwright.number.expr import saturate, var
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value
from bitwright.number.requantize import rescale
from bitwright.simulate.compiled import SMALLEST_CHUNK, run_elementwise, run_epilogue

ARITHMETICS = {
    "tflite-single": Arithmetic(requantize="multiplier-single", rounding=Rounding.HALF_UP, semantics="tflite-single"),
    "tflite-double": Arithmetic(requantize="multiplier-double", rounding=Rounding.HALF_AWAY, semantics="tflite-double"),
    "ort-cpu": Arithmetic(requantize="float32", rounding=Rounding.HALF_EVEN, semantics="ort-cpu"),
    "float32-half-away": Arithmetic(requantize="float32", rounding=Rounding.HALF_AWAY, semantics="float32-half-away"),
}
REACH = 1 << 22


@pytest.mark.parametrize("name", ARITHMETICS)
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), channels=st.integers(1, 5), zero=st.integers(-128, 127))
def test_epilogues_are_the_references(name: str, seed: int, channels: int, zero: int) -> None:
    random = np.random.default_rng(seed)
    ratio = np.exp(random.uniform(-12, -3, channels))
    scaled = rescale(var("acc", -REACH, REACH), ratio, ARITHMETICS[name])
    expr = saturate(scaled.expr + zero, -128, 127)
    acc = random.integers(-REACH, REACH, (2, channels, 7), endpoint=True)
    columns = {k: np.reshape(v, (1, -1, 1)) if v.ndim else v for k, v in scaled.params.items()}
    expected = np.broadcast_to(numpy_value(expr, {"acc": acc, **columns}), acc.shape)
    for given_acc in (acc, acc.astype(np.float32), acc.astype(np.float64)):
        got = run_epilogue(expr, scaled.params, given_acc, np.dtype(np.int8))
        assert got.dtype == np.int8
        assert np.array_equal(got, expected)


def test_large_work_is_split_without_changing_anything() -> None:
    random = np.random.default_rng(5)
    scaled = rescale(var("acc", -REACH, REACH), np.array([1e-4, 3e-4, 2e-5]), ARITHMETICS["tflite-single"])
    expr = saturate(scaled.expr, -128, 127)
    acc = random.integers(-REACH, REACH, (4, 3, SMALLEST_CHUNK))
    columns = {k: np.reshape(v, (1, -1, 1)) if v.ndim else v for k, v in scaled.params.items()}
    expected = np.broadcast_to(numpy_value(expr, {"acc": acc, **columns}), acc.shape)
    assert np.array_equal(run_epilogue(expr, scaled.params, acc, np.dtype(np.int8)), expected)


def test_elementwise_of_two_tensors() -> None:
    random = np.random.default_rng(6)
    x, y = (random.integers(-128, 128, (2, 3, 5)).astype(np.int8) for _ in range(2))
    expr = saturate(((var("x0", -128, 127) * 77777 + var("x1", -128, 127) * 1234567) >> 20) + 3, -128, 127)
    expected = numpy_value(expr, {"x0": x, "x1": y})
    assert np.array_equal(run_elementwise(expr, {}, [x, y], np.dtype(np.int8)), expected)
