from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

import bitwright as bw
from bitwright.simulate.engine import Engine
from bitwright.simulate.fast import FastEmitter
from bitwright.simulate.floors import HALF, floored_session, put_floors
from bitwright.simulate.graph import GraphWriter
from zoo import Graph

F32 = np.dtype(np.float32)


def rounding(x: NDArray[np.float32], bounds: list[tuple[float, float]]) -> bytes:
    """Clips of ``x`` after a convolution that doubles it."""
    graph = GraphWriter()
    outputs = []
    for i, (low, high) in enumerate(bounds):
        weights = graph.constant(np.full((1, 1, 1, 1), 2, np.float32))
        y = graph.node("Conv", "x", weights, kernel_shape=[1, 1])
        limits = [graph.constant(np.asarray(v, np.float32)) for v in (low, high)]
        graph.node("Clip", y, *limits, outputs=[f"y{i}"])
        outputs.append((f"y{i}", F32, x.shape))
    return graph.model([("x", F32, x.shape)], outputs)


def test_only_clips_that_ask_are_rounded() -> None:
    x = np.linspace(-8, 8, 61, dtype=np.float32).reshape(1, 1, 1, -1)
    session = floored_session(rounding(x, [(-4, 7 + HALF), (-4, 7), (0, 100 + HALF)]), 2, 1)
    assert session is not None
    first, second, third = session.run(None, {"x": x})
    assert (first == np.clip(np.floor(2 * x), -4, 7)).all()
    assert (second == np.clip(2 * x, -4, 7)).all()
    assert (third == np.clip(np.floor(2 * x), 0, 100)).all()


def test_a_lost_floor_is_noticed() -> None:
    x = np.zeros((1, 1, 1, 4), np.float32)
    assert floored_session(rounding(x, [(-4, 7 + HALF)]), 2, 1) is None
    assert floored_session(b"no graph", 1, 1) is None


def test_floors_are_put_after_plain_clips_too() -> None:
    model = onnx.load_from_string(rounding(np.zeros((1, 1, 1, 4), np.float32), [(0, 3 + HALF), (0, 3)]))
    assert put_floors(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv", "Clip", "Floor", "Conv", "Clip"]
    onnx.checker.check_model(model)


def test_the_engine_uses_them() -> None:
    g = Graph("floors")
    x = g.relu(g.conv(g.input("x", ["N", 3, 9, 9]), 3, 20))
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    a, b = g.relu(g.conv(x, 20, 16, 1)), g.conv(x, 20, 16)
    x = g.conv(g.node("Concat", a, b, axis=1), 32, 7)
    model = bw.load(g.build(x))
    samples = np.random.default_rng(0).normal(size=(6, 3, 9, 9)).astype(np.float32)
    q = bw.quantize(model, bw.calibrate(model, samples), "fpga")
    emitter = FastEmitter(q.program, GraphWriter(), int8=False, late_floors=True)
    emitter.feed(q.program.inputs[0], "in")
    for step in q.program.steps:
        emitter.step(step)
    assert emitter.floors == 4
    codes = q.integers(3 * samples)
    plain, fast = (Engine(q.program, int8=int8).run(codes) for int8 in (None, False))
    for name in q.program.outputs:
        assert (plain[name] == fast[name]).all()
