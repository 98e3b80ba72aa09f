"""Networks that came quantized run in the integers of their own files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import bitwright as bw
import frontend_nets as nets
from bitwright.errors import ModelError, UnsupportedOp
from bitwright.program.forms import Island
from bitwright.quantized import Quantized


def quantized_by_onnxruntime(folder: Path, form: str, *, per_channel: bool, signed: bool) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(nets.channels_first(nets.samples(16)))

        def get_next(self) -> Any:
            one = next(self.rest, None)
            return None if one is None else {"x": one[None]}

    source, out = folder / "float.onnx", folder / f"{form}-{per_channel}-{signed}.onnx"
    onnx.save(nets.as_onnx(), source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            source, out, Reader(), quant_format=QuantFormat[form], per_channel=per_channel,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    return out


def outputs_of(path: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("per_channel", "signed"), [(True, False), (False, True)])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_files_of_onnxruntime(tmp_path: Path, form: str, per_channel: bool, signed: bool) -> None:
    path = quantized_by_onnxruntime(tmp_path, form, per_channel=per_channel, signed=signed)
    q = Quantized.load(path)
    assert q.program.target == "cpu"
    assert q.program.integer_mac_share == 1.0
    assert not any(isinstance(step.form, Island) for step in q.program.steps)
    x = nets.channels_first(nets.samples(24))
    wanted, got = outputs_of(path, x), q.run(x)
    step = float(q.program.buffers[q.program.outputs[0]].format.scale)
    steps = np.abs(got - wanted) / step
    assert steps.max() <= 1.01  # sums are float32 there and integers here: a tie can go the other way
    assert (steps < 0.5).mean() > 0.9
    assert q.check(x).mismatches == 0
    # The integers of the weights are those of the file.
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    first = next(a for n, a in stored.items() if n.startswith("conv1") and a.ndim == 4)
    mine = next(q.program.tensors[s.form.weight] for s, _ in q.program.contracts() if s.layer.startswith("conv1"))
    np.testing.assert_array_equal(mine, first)


def test_it_is_saved_inspected_and_compared(tmp_path: Path) -> None:
    path = quantized_by_onnxruntime(tmp_path, "QDQ", per_channel=True, signed=False)
    q = bw.quantize(path)
    q.save(tmp_path / "theirs.bw")
    x = nets.channels_first(nets.samples(8))
    np.testing.assert_array_equal(Quantized.load(tmp_path / "theirs.bw").run(x, raw=True), q.run(x, raw=True))
    assert bw.inspect(path).integer_mac_share == 1.0
    np.save(tmp_path / "x.npy", x)
    ours = bw.quantize(path, tmp_path / "x.npy", target="cpu")  # data given: quantized anew
    found = bw.compare(path, ours)
    assert found.tensors
    assert found.different > 0
    with pytest.raises(ModelError, match="float network"):
        Quantized.load(tmp_path / "float.onnx")


def test_what_the_file_leaves_in_float_stays_there(tmp_path: Path) -> None:
    """Pairs before the weighted layers only, as TensorRT wants them: a sum of floats is an island."""
    path = quantized_by_onnxruntime(tmp_path, "QDQ", per_channel=True, signed=False)
    model = onnx.load(path)
    made = {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for i, name in enumerate(node.input):  # the sum reads what the pairs read
            back = made[made[made[name].input[0]].input[0]] if made[name].op_type == "DequantizeLinear" else None
            if back is not None:
                node.input[i] = back.output[0]
    changed = tmp_path / "partly.onnx"
    onnx.save(model, changed)
    q = Quantized.load(changed)
    islands = [step for step in q.program.steps if isinstance(step.form, Island)]
    assert islands
    assert "leaves" in islands[0].form.reason
    assert 0 < q.program.integer_mac_share < 1
    x = nets.channels_first(nets.samples(16))
    step = float(q.program.buffers[q.program.outputs[0]].format.scale)
    assert np.abs(q.run(x) - outputs_of(changed, x)).max() <= 2.01 * step
    with pytest.raises(UnsupportedOp):
        bw.quantize(changed, strict=True)


def test_a_step_per_channel_on_activations_is_refused(tmp_path: Path) -> None:
    path = quantized_by_onnxruntime(tmp_path, "QDQ", per_channel=True, signed=False)
    model = onnx.load(path)
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    for name, array in (("s3", np.full(3, 0.02, np.float32)), ("z3", np.zeros(3, np.uint8))):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for other in model.graph.node:
        if other is node or (other.op_type == "DequantizeLinear" and other.input[0] == node.output[0]):
            other.input[1], other.input[2] = "s3", "z3"
            other.attribute.append(helper.make_attribute("axis", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="step per channel"):
        bw.load(tmp_path / "odd.onnx")


# ---------------------------------------------------------------- TensorFlow Lite


def interpreter(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        made = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    return made


def test_an_int8_file_gives_the_integers_of_the_reference_interpreter(tmp_path: Path) -> None:
    """A network with a softmax and a mean, written as int8, is read back and run like LiteRT's reference kernels."""
    source = nets.as_onnx()
    graph = source.graph
    graph.node.append(helper.make_node("Softmax", ["y"], ["p"], name="softmax", axis=-1))
    graph.output[0].name = "p"
    made = bw.quantize(source, nets.channels_first(nets.samples(16)), target="mcu-cmsis-nn")
    made.export("tflite", tmp_path / "net.tflite", verify=False)
    data = (tmp_path / "net.tflite").read_bytes()
    q = bw.quantize(tmp_path / "net.tflite", target="litert")
    assert q.program.integer_mac_share == 1.0
    runtime = interpreter(data)
    entry, result = runtime.get_input_details()[0], runtime.get_output_details()[0]
    scale, zero = entry["quantization"]
    shape = entry["shape"][1:]
    codes = np.random.default_rng(3).integers(-128, 128, size=(40, *shape)).astype(np.int8)
    got = q.run((codes.astype(np.float64) - zero) * scale, raw=True)
    for one, mine in zip(codes, got, strict=True):
        runtime.set_tensor(entry["index"], one[None])
        runtime.invoke()
        np.testing.assert_array_equal(runtime.get_tensor(result["index"])[0], mine)


@pytest.mark.parametrize("step", [0.01, 0.05, 0.3, 1.7])
def test_the_fixed_point_softmax_is_the_interpreters(step: float) -> None:
    from bitwright.export.tflite.flat import Graph, Quantization

    graph = Graph("softmax")
    one = Quantization(scale=np.array([step], np.float32), zero_point=np.array([3]))
    two = Quantization(scale=np.array([1 / 256], np.float32), zero_point=np.array([-128]))
    x, y = graph.tensor("x", (1, 12), "int8", one), graph.tensor("y", (1, 12), "int8", two)
    graph.op("SOFTMAX", [x], [y], "SoftmaxOptions", Beta=1.0)
    data = graph.packed([("x", x)], [("y", y)], "")
    runtime = interpreter(data)
    codes = np.random.default_rng(4).integers(-128, 128, size=(200, 12)).astype(np.int8)
    codes[:40] //= 16  # close together
    from bitwright.network.frontends.tflite_file import read_bytes

    model = read_bytes(data, "softmax").model
    q = bw.quantize(model, target="litert")
    got = q.run((codes.astype(np.float64) - 3) * np.float64(np.float32(step)), raw=True)
    for sample, mine in zip(codes, got, strict=True):
        runtime.set_tensor(runtime.get_input_details()[0]["index"], sample[None])
        runtime.invoke()
        np.testing.assert_array_equal(runtime.get_tensor(runtime.get_output_details()[0]["index"])[0], mine)
