from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from bitwright.network.load import load
from bitwright.passes import matmul_to_gemm
from bitwright.passes._pass import run
from bitwright.passes.matmul_to_gemm import MatMulToGemm
from zoo import Graph, feeds


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_to_gemm, "_LARGE_BYTES", 0)


@pytest.mark.usefixtures("everything_is_large")
def test_large_weights_are_turned_when_they_are_read() -> None:
    g = Graph("turned")
    x = g.node("MatMul", g.input("x", ["N", 7]), g.weight(7, 5))
    bias = g.constant(np.arange(3, dtype=np.float32))
    x = g.node("Gemm", x, g.weight(5, 3), bias)
    x = g.node("Gemm", x, g.weight(3, 4), g.constant(np.ones(4, np.float32)), alpha=0.5)  # this one is computed
    model = g.build(x)
    before = load(model)
    after, (change,) = run(before, [MatMulToGemm()])
    assert change.modified
    weights = [after.value(str(node.inputs[1].name)).const_value for node in after.nodes()]
    assert [isinstance(w, ir.LazyTensor) for w in weights] == [True, True, False]
    assert [node.op_type for node in after.nodes()] == ["Gemm"] * 3
    assert all(after.attributes(node)["transB"] == 1 for node in after.nodes())
    assert after.shape(str(after.nodes()[0].inputs[1].name)) == (5, 7)
    samples = feeds(model, batch=4)
    expected, got = (net.session().run(None, samples)[0] for net in (before, after))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    again, (change,) = run(after, [MatMulToGemm()])
    assert not change.modified
    assert again.fingerprint == after.fingerprint
    assert load(after.serialize()).fingerprint == after.fingerprint


@pytest.mark.usefixtures("everything_is_large")
def test_products_of_higher_rank_stay() -> None:
    g = Graph("stays")
    net = load(g.build(g.node("MatMul", g.input("x", ["N", 2, 7]), g.weight(7, 5))))
    _, (change,) = run(net, [MatMulToGemm()])
    assert not change.modified
