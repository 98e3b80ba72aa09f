from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bitwright.calibrate.inputs import input_channels
from bitwright.calibrate.observe import observe
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.table import Row, calibration_table
from bitwright.data.contract import InputContract
from bitwright.errors import StaleCalibration
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare
from unit.calibrate.nets import Samples, fire_net, images


def squeezenet() -> onnx.ModelProto:
    """SqueezeNet as MathWorks lists it, 68 layers with input and output: thin, but every layer is there."""
    rng, nodes, weights = np.random.default_rng(0), [], []

    def conv(name: str, x: str, inputs: int, outputs: int, size: int) -> str:
        weights.append(
            numpy_helper.from_array(rng.normal(0, 0.2, (outputs, inputs, size, size)).astype("f4"), f"{name}_W")
        )
        weights.append(numpy_helper.from_array(rng.normal(0, 0.2, outputs).astype("f4"), f"{name}_B"))
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", [x, f"{name}_W", f"{name}_B"], [f"{name}_y"], name, pads=pads))
        nodes.append(helper.make_node("Relu", [f"{name}_y"], [f"relu_{name}_y"], f"relu_{name}"))
        return f"relu_{name}_y"

    def pool(name: str, x: str) -> str:
        nodes.append(helper.make_node("MaxPool", [x], [f"{name}_y"], name, kernel_shape=[2, 2], strides=[2, 2]))
        return f"{name}_y"

    x = pool("pool1", conv("conv1", "data", 3, 4, 3))
    for i in range(2, 10):
        squeezed = conv(f"fire{i}-squeeze1x1", x, 4, 2, 1)
        parts = [conv(f"fire{i}-expand{k}x{k}", squeezed, 2, 2, k) for k in (1, 3)]
        x = f"fire{i}_y"
        nodes.append(helper.make_node("Concat", parts, [x], f"fire{i}-concat", axis=1))
        if i in {3, 5}:
            x = pool(f"pool{i}", x)
    nodes.append(helper.make_node("Dropout", [x], ["drop9_y"], "drop9"))
    x = conv("conv10", "drop9_y", 4, 5, 1)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pool10_y"], "pool10"))
    nodes.append(helper.make_node("Softmax", ["pool10_y"], ["prob"], "softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "squeezenet",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["N", 5, 1, 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def squeeze() -> tuple[Network, Statistics]:
    model = squeezenet()
    assert len(model.graph.node) + 2 == 68
    net = prepare(load(model))[0]
    x = np.random.default_rng(1).normal(size=(3, 3, 16, 16)).astype(np.float32)
    return net, observe(net, Samples(x))


def by_name(rows: list[Row]) -> dict[str, Row]:
    found = {row.optimized_layer: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_the_68_layers_give_95_rows(squeeze: tuple[Network, Statistics]) -> None:
    rows = calibration_table(*squeeze)
    kinds = [row.kind for row in rows]
    assert len(rows) == 95 == 2 * 26 + (68 - 26) + 1
    assert (kinds.count("Weights"), kinds.count("Bias"), kinds.count("Activations")) == (26, 26, 43)
    assert kinds == sorted(kinds, key=lambda kind: kind == "Activations"), "learnables come first"
    found = by_name(rows)
    assert {"data", "data_normalization", "drop9", "softmax", "prob", "fire2-concat"} <= found.keys()


def test_names_as_on_a_gpu_and_as_on_an_fpga(squeeze: tuple[Network, Statistics]) -> None:
    joined, plain = calibration_table(*squeeze), calibration_table(*squeeze, names="plain")
    assert len(joined) == len(plain)
    first = by_name(joined)["conv1_relu_conv1_Weights"]
    assert first.network_layers == ("conv1", "relu_conv1")
    assert by_name(joined)["conv1_relu_conv1"].kind == "Activations"
    assert {"conv1_Weights", "conv1_Bias", "conv1"} <= by_name(plain).keys()
    assert by_name(plain)["conv1_Weights"].network_layers[-1] == "relu_conv1"


def test_ranges_and_counts_are_those_of_the_tensors(squeeze: tuple[Network, Statistics]) -> None:
    net, statistics = squeeze
    found = by_name(calibration_table(net, statistics))
    weights = net.constant("conv1_W")
    assert weights is not None
    row = found["conv1_relu_conv1_Weights"]
    assert (row.min, row.max, row.count) == (weights.min(), weights.max(), weights.size)
    assert found["conv1_relu_conv1"].min == 0
    assert found["fire2-concat"].count == 3 * 4 * 8 * 8
    assert found["drop9"].max == found["fire9-concat"].max
    assert found["prob"].to_json() | {"optimized_layer": ""} == found["softmax"].to_json() | {
        "optimized_layer": "",
        "network_layers": ["prob"],
    }
    for row in found.values():
        assert sum(row.msb_counts.values()) + row.zeros == row.count


def test_rows_are_json(squeeze: tuple[Network, Statistics]) -> None:
    text = json.dumps([row.to_json() for row in calibration_table(*squeeze)], allow_nan=False)
    first = json.loads(text)[0]
    wanted = ["optimized_layer", "network_layers", "kind", "min", "max", "count", "zeros", "msb_counts"]
    assert list(first)[:8] == wanted


def test_the_input_has_a_row_as_pixels_and_one_normalized() -> None:
    net = fire_net()
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    contract = InputContract(mean=mean, std=std, name="x")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3))
    pixels[0, 0, 0], pixels[0, 0, 1] = (255, 3, 3), (2, 0, 5)
    x = ((pixels - np.float32(mean)) / np.float32(std)).astype(np.float32).transpose(0, 3, 1, 2)
    assert input_channels(net, contract) == {"x": 1}
    source = Samples(np.ascontiguousarray(x))
    source.contract = contract  # type: ignore[attr-defined]
    got = observe(net, source)
    found = by_name(calibration_table(net, got, contract))
    assert (found["x"].min, found["x"].max) == (0.0, 255.0)
    assert found["x_normalization"].max == x.max()
    want = np.bincount(np.log2(np.maximum(pixels, 1)).astype(int)[pixels > 0], minlength=8)
    for b in range(4, 8):
        assert found["x"].msb_counts[b] == pytest.approx(want[b], rel=0.15)
    assert sum(found["x"].msb_counts.values()) + found["x"].zeros == pixels.size


def test_without_channels_the_range_of_the_pixels_is_the_widest_possible() -> None:
    net, x = fire_net(), images(2)
    contract = InputContract(mean=(10, 20, 30), std=(1, 2, 3), name="x")
    found = by_name(calibration_table(net, observe(net, Samples(x)), {"x": contract}))
    pixels = x * np.array([1, 2, 3])[:, None, None] + np.array([10, 20, 30])[:, None, None]
    assert found["x"].min is not None
    assert found["x"].max is not None
    assert found["x"].min <= pixels.min()
    assert found["x"].max >= pixels.max()


@pytest.mark.parametrize("contract", [None, InputContract(layout="raw"), InputContract(mean=(0,), std=(1,))])
def test_an_input_that_is_not_normalized_has_both_rows_too(contract: InputContract | None) -> None:
    net, x = fire_net(), images(2)
    found = by_name(calibration_table(net, observe(net, Samples(x)), contract))
    assert (found["x"].min, found["x"].max) == (x.min(), x.max())
    assert found["x"].msb_counts == found["x_normalization"].msb_counts


def test_a_layer_without_bias_shows_the_zero_bias() -> None:
    weights = numpy_helper.from_array(np.ones((6, 2, 1, 1), np.float32), "w")
    deconv = numpy_helper.from_array(np.ones((6, 3, 2, 2), np.float32), "u")
    nodes: list[Any] = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", group=2),
        helper.make_node("ConvTranspose", ["c", "u"], ["y"], "up", group=2, strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, 6, 6])],
        [weights, deconv],
    )
    net = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    got = observe(net, Samples(np.ones((1, 4, 3, 3), np.float32)))
    found = by_name(calibration_table(net, got))
    assert (found["conv_Bias"].count, found["conv_Bias"].zeros) == (6, 6)
    assert found["up_Bias"].count == 6
    assert len(found) == 2 * 2 + (4 - 0) + 1


def test_statistics_of_another_network_are_refused(squeeze: tuple[Network, Statistics]) -> None:
    with pytest.raises(StaleCalibration):
        calibration_table(fire_net(), squeeze[1])
