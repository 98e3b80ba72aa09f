"""Averages as depthwise layers: the same function, a step of its own, only where it helps and is allowed."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes._pass import run
from bitwright.passes.prepare import prepare
from bitwright.passes.requantize_average import RequantizeAverage
from bitwright.targets.target import load_target

FREELY = RequantizeAverage(share=1e9)


def pooled(op: str, **attributes: object) -> Network:
    g = zoo.Graph("pooled")
    x = g.relu(g.conv(g.input("x", ["N", 3, 9, 8]), 3, 6))
    return prepare(load(g.build(g.node(op, x, **attributes)), name="pooled"))[0]


def outputs(net: Network) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(3, *net.shape(net.inputs[0])[1:])).astype(np.float32)
    return net.session(optimize=False).run(None, {net.inputs[0]: x})[0]


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("GlobalAveragePool", {}),
        ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 1}),
        ("ReduceMean", {"axes": [3, 2], "keepdims": 0}),
    ],
)
def test_same_function(op: str, attributes: dict[str, object]) -> None:
    net = pooled(op, **attributes)
    after, (change,) = run(net, [FREELY])
    assert change.modified
    assert [node.op_type for node in after.nodes()].count("Conv") == 2
    assert not any(node.op_type == op for node in after.nodes())
    want = outputs(net)
    assert np.allclose(outputs(after), want, rtol=1e-5, atol=1e-6 * np.abs(want).max())
    again, (second,) = run(after, [FREELY])
    assert not second.modified
    assert again.fingerprint == after.fingerprint


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),  # the count differs at the edge
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("ReduceMean", {"axes": [3], "keepdims": 1}),
        ("GlobalMaxPool", {}),
    ],
)
def test_what_is_no_convolution_stays(op: str, attributes: dict[str, object]) -> None:
    assert not run(pooled(op, **attributes), [FREELY])[1][0].modified


def test_only_where_the_step_is_tied_and_weights_are_few() -> None:
    net = pooled("GlobalAveragePool")
    assert run(net, [FREELY], None, load_target("mcu-q7"))[1][0].modified
    assert not run(net, [FREELY], None, load_target("fpga"))[1][0].modified
    # 72 taps for each of 6 channels; the convolution has 162 weights.
    assert not run(net, [RequantizeAverage(share=2.6)])[1][0].modified
    after, (change,) = run(net, [RequantizeAverage(share=2.7)])
    assert change.modified
    assert "432 weights" in change.notes[1].text
    assert not run(after, [RequantizeAverage(share=2.7)])[1][0].modified
