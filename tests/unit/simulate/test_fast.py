from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

import bitwright as bw
from bitwright.simulate import reference
from bitwright.simulate.engine import Engine
from bitwright.simulate.fast import FastEmitter, up
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.probe import int8_convolution_is_exact
from zoo import Graph

pytestmark = pytest.mark.skipif(not int8_convolution_is_exact(), reason="int8 convolutions are not exact here")


def quantized(g: Graph, y: str, x: NDArray[np.float32]) -> bw.Quantized:
    model = bw.load(g.build(y))
    return bw.quantize(model, bw.calibrate(model, x), "fpga")


def written(q: bw.Quantized) -> Counter[str]:
    """Operators of the whole program in one graph."""
    graph = GraphWriter()
    emitter = FastEmitter(q.program, graph, int8=True)
    for i, name in enumerate(q.program.inputs):
        emitter.feed(name, f"in{i}")
    for step in q.program.steps:
        emitter.step(step)
    for name in q.program.outputs:
        emitter.fetch(name)
    return Counter(node.op_type for node in graph.nodes)


def check(q: bw.Quantized, x: NDArray[np.float32]) -> None:
    codes = q.integers(x)
    q.check(x).require("The engine")
    for name, wanted in reference.run(q.program, codes).items():
        assert (Engine(q.program, int8=True).run(codes)[name] == wanted).all()


def test_channels_are_added_where_convolutions_want_them_and_cut_off_at_the_end() -> None:
    g = Graph("odd_channels")
    x = g.relu(g.conv(g.input("x", ["N", 3, 9, 9]), 3, 10))
    x = g.relu(g.conv(x, 10, 10, group=10))
    x = g.relu(g.conv(x, 10, 7, 1))
    samples = np.random.default_rng(0).normal(size=(4, 3, 9, 9)).astype(np.float32)
    q = quantized(g, g.conv(x, 7, 5, 1), samples)
    found = written(q)
    assert found["Pad"] == 1  # three input channels become four
    assert found["Slice"] == 1  # sixteen output channels become five
    check(q, samples * 2)


def test_sums_of_wide_codes_stay_wide() -> None:
    g = Graph("wide_sum")
    a = g.relu(g.conv(g.input("x", ["N", 4, 6, 6]), 4, 10))
    b = g.conv(a, 10, 10)
    x = g.conv(g.relu(g.node("Add", a, b)), 10, 16)
    samples = np.random.default_rng(0).normal(size=(4, 4, 6, 6)).astype(np.float32)
    q = quantized(g, x, samples)
    assert written(q)["Slice"] == 0
    check(q, samples * 3)


def test_limits_wait_for_the_pooling() -> None:
    g = Graph("late_limits")
    x = g.relu(g.conv(g.input("x", ["N", 4, 8, 8]), 4, 16))
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    samples = np.random.default_rng(0).normal(size=(4, 4, 8, 8)).astype(np.float32)
    q = quantized(g, g.conv(x, 16, 16), samples)
    graph = GraphWriter()
    emitter = FastEmitter(q.program, graph, int8=True)
    emitter.feed(q.program.inputs[0], "in")
    for step in q.program.steps:
        emitter.step(step)
    assert [node.op_type for node in graph.nodes if node.op_type != "Pad"][:4] == [
        "QLinearConv",
        "MaxPool",
        "Clip",
        "QLinearConv",
    ]
    check(q, samples * 3)


def test_transposed_convolutions_use_int8_instructions() -> None:
    for taps, pads, more in ((2, 0, 0), (4, 1, 0), (3, 1, 1), (3, 0, 0)):
        g = Graph(f"up{taps}{pads}{more}")
        x = g.relu(g.conv(g.input("x", ["N", 4, 5, 6]), 4, 6))
        w = g.weight(6, 5, taps, taps)
        attributes = {"strides": [2, 2], "pads": [pads] * 4, "output_padding": [more, more]}
        x = g.node("ConvTranspose", x, w, kernel_shape=[taps, taps], **attributes)
        samples = np.random.default_rng(0).normal(size=(4, 4, 5, 6)).astype(np.float32)
        q = quantized(g, g.relu(x), samples)
        assert set(Engine(q.program, int8=True).ways.values()) == {"onnx-int8"}, (taps, pads, more)
        check(q, samples * 2)


def test_up() -> None:
    assert [up(n, 4) for n in (1, 4, 5, 16)] == [4, 4, 8, 16]
