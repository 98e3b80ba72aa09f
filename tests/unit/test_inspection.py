"""Inspecting without data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bitwright
from bitwright.api import load, quantize
from bitwright.errors import UnsupportedOp
from bitwright.inspection import inspect
from bitwright.targets.target import list_targets
from zoo import ZOO, Graph

DIGITS = Path(bitwright.__file__).parent / "demo"
MODEL = DIGITS / "digits.onnx"


@pytest.mark.parametrize("target", list_targets())
def test_it_foresees_what_quantizing_gives(target: str) -> None:
    seen = inspect(MODEL, target)
    made = quantize(MODEL, DIGITS / "digits-calib.npz", target, samples=10)
    assert [row.to_json() for row in seen.layers] == made.provenance["layers"]
    assert seen.integer_mac_share == made.program.integer_mac_share
    assert seen.learnable_bytes == (made.program.learnable_float_bytes, made.program.learnable_bytes)
    assert seen.macs == sum(made.program.macs.values())


@pytest.mark.parametrize("name", ZOO)
def test_it_reads_every_network_of_the_zoo(name: str) -> None:
    found = inspect(ZOO[name](), "generic")
    assert found.layers
    assert 0 <= found.integer_mac_share <= 1
    for row in found.layers:
        assert (row.reason == "") == (row.becomes in {"integer", "table"})


def test_sources_and_removed_nodes_are_all_named() -> None:
    named = {node.name for node in onnx.load(MODEL).graph.node}
    found = inspect(MODEL, "fpga")
    assert {s for row in found.layers for s in row.sources} | {name for name, _ in found.removed} == named


def gram() -> onnx.ModelProto:
    """Two products of activations, in layers whose names look like the list of reasons itself."""
    graph = Graph("gram")
    x = graph.input("x", ["N", 4, 4])
    turned = graph.node("Transpose", x, perm=[0, 2, 1], name="turn")
    y = graph.node("Relu", graph.node("MatMul", x, turned, name="gram: a; b"))
    return graph.build(graph.node("MatMul", y, y, name="turn: 2"))


def test_reasons_belong_to_their_layers_whatever_these_are_called() -> None:
    found = inspect(gram(), "generic")
    rows = {row.layer: row for row in found.layers}
    for name in ("gram: a; b", "turn: 2"):
        assert rows[name].becomes == "float"
        assert "constant" in rows[name].reason
        assert ": " not in rows[name].reason
    assert rows["turn"].becomes == "integer"


def test_strict_names_the_first_layer() -> None:
    found = inspect(gram(), "generic", strict=True)
    assert found.count("float") == 0
    assert found.count("unsupported") == 2
    with pytest.raises(UnsupportedOp, match="gram: a; b") as caught:
        found.require_integers()
    assert (caught.value.layer, caught.value.op, caught.value.target) == ("gram: a; b", "MatMul", "generic")
    inspect(MODEL, "fpga", strict=True).require_integers()


def test_a_network_of_25_million_weights_is_looked_at_whole() -> None:
    graph = Graph("large")
    x = graph.input("x", ["N", 512, 7, 7])
    weights = np.random.default_rng(0).normal(size=(512, 512, 3, 3)).astype(np.float32)
    for _ in range(11):
        x = graph.relu(graph.node("Conv", x, graph.constant(weights), kernel_shape=[3, 3], pads=[1] * 4))
    loaded = load(graph.build(x), input_spec={"input": {"layout": "raw"}, "output": {"task": "none"}})
    found = inspect(loaded, "generic")
    assert found.parameters == 11 * weights.size
    assert (len(found.layers), found.integer_mac_share) == (11, 1.0)


def test_it_shows_itself_in_a_notebook() -> None:
    html = inspect(gram(), "generic")._repr_html_()
    assert "<table" in html
    assert "gram: a; b" in html
