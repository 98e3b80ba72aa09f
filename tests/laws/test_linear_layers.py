"""Laws of folding: the arithmetic alone, on random layers, against sums written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.passes.linear import (
    Linear,
    canonical_to_transposed,
    scale_inputs,
    scale_outputs,
    transposed_to_canonical,
)

Floats = NDArray[np.float64]


@st.composite
def layers(draw: st.DrawFn) -> Linear:
    op = draw(st.sampled_from(["Conv", "ConvTranspose", "Gemm"]))
    groups = 1 if op == "Gemm" else draw(st.sampled_from([1, 2, 3]))
    inner, outer = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel = () if op == "Gemm" else (draw(st.integers(1, 3)),)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = random.normal(size=(outer, inner // groups, *kernel))
    bias = random.normal(size=outer) if draw(st.booleans()) else None
    return Linear(op, weight, bias, groups, padded=False, axis=1)


def compute(layer: Linear, x: Floats) -> Floats:
    """The layer written out as the sums of its definition, one kernel element and one pair of channels at a time."""
    bias = np.zeros(layer.outputs) if layer.bias is None else layer.bias
    if layer.op == "Gemm":
        return np.asarray(x @ layer.weight.T + bias)
    taps, length = layer.weight.shape[2], x.shape[2]
    reach = length + taps - 1 if layer.op == "ConvTranspose" else length - taps + 1
    y = np.zeros((len(x), layer.outputs, reach)) + bias.reshape(1, -1, 1)
    outer, inner = layer.outputs // layer.groups, layer.inputs // layer.groups
    for o in range(layer.outputs):
        for i in range(inner):
            channel = x[:, o // outer * inner + i]
            for k in range(taps):
                if layer.op == "ConvTranspose":
                    y[:, o, k : k + length] += layer.weight[o, i, k] * channel
                else:
                    y[:, o] += layer.weight[o, i, k] * channel[:, k : k + reach]
    return y


def vectors(size: int, seed: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return random.uniform(-2, 2, size), random.normal(size=size)


def spread(v: Floats, ndim: int) -> Floats:
    return v.reshape(1, -1, *[1] * (ndim - 2))


def sample(layer: Linear, seed: int) -> Floats:
    size = (2, layer.inputs) if layer.op == "Gemm" else (2, layer.inputs, 5)
    return np.random.default_rng(seed).normal(size=size)


@given(layers(), st.integers(0, 2**32))
def test_scaling_the_output(layer: Linear, seed: int) -> None:
    scale, shift = vectors(layer.outputs, seed)
    x = sample(layer, seed + 1)
    y = compute(layer, x)
    want = y * spread(scale, y.ndim) + spread(shift, y.ndim)
    np.testing.assert_allclose(compute(scale_outputs(layer, scale, shift), x), want, atol=1e-10)


@given(layers(), st.integers(0, 2**32))
def test_scaling_the_input(layer: Linear, seed: int) -> None:
    scale, shift = vectors(layer.inputs, seed)
    if layer.op == "ConvTranspose":
        shift = np.zeros_like(shift)  # its border does not see every tap of the kernel
    x = sample(layer, seed + 1)
    want = compute(layer, x * spread(scale, x.ndim) + spread(shift, x.ndim))
    np.testing.assert_allclose(compute(scale_inputs(layer, scale, shift), x), want, atol=1e-10)


@given(layers(), st.integers(0, 2**32))
def test_two_folds_are_one(layer: Linear, seed: int) -> None:
    a, b = vectors(layer.outputs, seed)
    c, d = vectors(layer.outputs, seed + 1)
    twice, once = scale_outputs(scale_outputs(layer, a, b), c, d), scale_outputs(layer, a * c, b * c + d)
    np.testing.assert_allclose(twice.weight, once.weight, atol=1e-12)
    assert twice.bias is not None
    assert once.bias is not None
    np.testing.assert_allclose(twice.bias, once.bias, atol=1e-12)


@given(layers())
def test_identity_changes_nothing(layer: Linear) -> None:
    same = scale_outputs(layer, np.ones(layer.outputs), np.zeros(layer.outputs))
    np.testing.assert_array_equal(same.weight, layer.weight)
    assert (same.bias is None) == (layer.bias is None)
    assert replace(same, weight=layer.weight).op == layer.op


@given(layers())
def test_layouts_are_inverse(layer: Linear) -> None:
    there = canonical_to_transposed(layer.weight, layer.groups)
    assert there.shape[0] == layer.inputs
    np.testing.assert_array_equal(transposed_to_canonical(there, layer.groups), layer.weight)
