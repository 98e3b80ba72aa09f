from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bitwright.calibrate.assign import RoleSchemes, assign
from bitwright.calibrate.schemes.minmax import MinMax
from bitwright.calibrate.spec import read_layers
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import UnsupportedOp
from bitwright.lower import Constants, lower
from bitwright.network.load import load
from bitwright.program.forms import Contract, Island
from bitwright.program.program import Program
from bitwright.simulate.reference import run
from bitwright.targets.target import load_target

MINMAX = RoleSchemes(input=MinMax(), activation=MinMax(), weight=MinMax(), bias=MinMax())
X = np.random.default_rng(0).uniform(-2, 2, (3, 4)).astype(np.float32)


def model() -> onnx.ModelProto:
    """Dense, two layers that no target has in integers, dense; the value between is read by a third one."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], name="first"),
        helper.make_node("LpNormalization", ["a"], ["b"], name="norm", axis=1),
        helper.make_node("CumSum", ["b", "axis"], ["c"], name="cumulate"),
        helper.make_node("Gemm", ["c", "w2"], ["d"], name="second"),
        helper.make_node("Add", ["d", "b"], ["y"], name="sum"),
    ]
    constants = [
        numpy_helper.from_array(rng.normal(size=(4, 5)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.normal(size=(5, 5)).astype(np.float32), "w2"),
        numpy_helper.from_array(np.asarray(1, np.int64), "axis"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        initializer=constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def lowered(*, strict: bool = False, constants: Constants | None = None) -> Program:
    net, target = load(model()), load_target("generic")
    spec = read_layers(net, target)
    tensors = ["a", "b", "c", "d", "y"]
    seen = dict(zip(tensors, net.session(tensors).run(tensors, {"x": X}), strict=True)) | {"x": X}
    formats = assign(spec, Statistics(activations={k: TensorStats.of(v) for k, v in seen.items()}), target, MINMAX)
    return lower(net, spec, formats, target, strict=strict, constants=constants)


def test_neighbors_without_an_integer_form_become_one_island() -> None:
    program = lowered()
    (island,) = (step for step in program.steps if isinstance(step.form, Island))
    assert isinstance(island.form, Island)
    assert island.form.feeds == ("a",)
    assert island.form.fetches == ("b", "c")  # both are read outside
    assert "norm: no integer form of LpNormalization is known" in island.form.reason
    assert "cumulate: no integer form of CumSum is known" in island.form.reason
    assert island.sources == ("norm", "cumulate")
    assert [step.layer for step in program.steps] == ["first", "norm", "second", "sum"]


def test_an_island_computes_what_the_network_does() -> None:
    program = lowered()
    codes = program.buffers["x"].format.quantize(X)
    y = program.buffers["y"].format.dequantize(run(program, {"x": codes})["y"])
    (want,) = load(model()).session().run(None, {"x": X})
    assert np.abs(y - want).max() < 0.1 * np.abs(want).max()


def test_shares_of_integer_arithmetic() -> None:
    program = lowered()
    assert program.macs == {"first": 20, "second": 25}
    assert program.integer_mac_share == 1.0
    assert sum(isinstance(step.form, Contract) for step in program.steps) == 2


def test_strict_names_the_layer_and_the_reason() -> None:
    with pytest.raises(
        UnsupportedOp, match=r"Layer 'norm' \(LpNormalization\) stays in float on target generic"
    ) as why:
        lowered(strict=True)
    assert (why.value.op, why.value.layer, why.value.target) == ("LpNormalization", "norm", "generic")
    assert why.value.exit_code == 3


def test_constants_of_repairs_are_used() -> None:
    plain = lowered()
    zeros = lowered(constants=Constants(weights={"second": np.zeros((5, 5), np.int64)}, biases={"first": np.ones(5)}))
    assert not np.any(zeros.tensors["second.weight"])
    assert np.any(plain.tensors["second.weight"])
    assert "first.bias" in zeros.tensors
    assert "first.bias" not in plain.tensors


def test_names_are_unique_and_everything_is_used() -> None:
    program = lowered()
    names = [*program.buffers, *program.tensors, *(step.name for step in program.steps)]
    assert len(set(names)) == len(names)
    used = {*program.inputs, *program.outputs, *(n for s in program.steps for n in (*s.inputs, *s.outputs))}
    assert set(program.buffers) == used
