"""What every exporter promises: it writes, is read back by somebody else, refuses what it cannot say, and is documented."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bitwright.commands.export import format_summaries
from bitwright.errors import ExportError, Mismatch, ToolMissing, UnsupportedOp
from bitwright.export.exporter import Exporter
from bitwright.export.nnom import deinterleaved, interleaved, read_header
from bitwright.export.onnx_qdq import read_qdq
from bitwright.export.qdq import tensor_formats
from bitwright.export.registry import BUILT_IN, exporter_names, find_exporter
from bitwright.export.report import ExportReport
from bitwright.export.tensorrt import read_cache
from bitwright.export.verify import export, program_sha256
from bitwright.program.forms import Island
from bitwright.quantized import Quantized
from bitwright.targets.target import list_targets
from command_line import Line
from exports import calibrated, quantized, samples
from zoo import ZOO

DOCS = Path(__file__).parents[2] / "docs/reference/exports.md"
# The target whose networks a format is made for; formats that are not named take any.
HOME = {"ncnn": "ncnn", "nnom": "mcu-q7", "tensorrt": "gpu", "tflite": "litert", "vitis": "dpu"}
# Of these, the formats that others are refused for; TFLite's integers can be those of any byte-wide target.
STRICT = {"ncnn", "nnom", "tensorrt", "vitis"}
# Layers that NNoM has not: convolutions in groups that are not depthwise.
NNOM_HAS_NOT = {"grouped", "shuffle", "transposed_grouped"}
# No convolution over two axes and no Gemm: ncnn computes these networks in float.
NCNN_HAS_NOT = {"attention", "audio", "transposed_grouped"}
# Layers that ncnn's models have not: five axes, channels from places, axes turned around.
NCNN_CANNOT = {"shuffle", "space_depth"}
# Compiled (and started in interpreters of their own) here; the tests of these back ends run them all.
COMPILED = {"c": {"residual", "fire", "mlp"}, "rtl": {"residual"}, "torch": {"residual"}}
# A processor that is simulated quickly.
OPTIONS: dict[str, dict[str, object]] = {"rtl": {"config": "sim-tiny"}}


def written(name: str, network: str, target: str, folder: Path, **options: object) -> ExportReport:
    return find_exporter(name).export(quantized(network, target), folder / "out", **OPTIONS.get(name, {}), **options)


@pytest.mark.parametrize("network", ZOO)
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_exporter_on_every_network(name: str, network: str, tmp_path: Path) -> None:
    exporter = find_exporter(name)
    q = quantized(network, HOME.get(name, "fpga"))
    if name == "nnom" and network in NNOM_HAS_NOT:
        with pytest.raises(ExportError, match="groups"):
            export(q, name, tmp_path / "out")
        return
    if any(isinstance(step.form, Island) for step in q.program.steps) and name in {"c", "rtl"}:
        with pytest.raises(UnsupportedOp):
            export(q, name, tmp_path / "out", options=OPTIONS.get(name))
        return
    if any(isinstance(step.form, Island) for step in q.program.steps) and name in {"tflite", "torch"}:
        with pytest.raises(ExportError, match="stays in float"):
            export(q, name, tmp_path / "out")
        return
    if network not in COMPILED.get(name, {network}):
        assert export(q, name, tmp_path / "out", options=OPTIONS.get(name)).report.promise == "bit-exact"
        return
    if name == "ncnn" and network in NCNN_HAS_NOT:
        with pytest.raises(ExportError, match="computes all of"):
            export(q, name, tmp_path / "out")
        return
    if name == "ncnn" and network in NCNN_CANNOT:
        with pytest.raises(ExportError, match="has no form in ncnn"):
            export(q, name, tmp_path / "out")
        return
    done = export(q, name, tmp_path / "out", verify=True, samples=2, options=OPTIONS.get(name))
    report, reading = done.report, done.reading
    assert reading is not None
    assert done.certificate is not None
    assert report.format == exporter.name == name
    assert report.promise == exporter.promise
    assert all(path.is_file() for path in report.files)
    assert (tmp_path / "out").is_dir() == (exporter.path == "folder")
    assert reading.compared > 0
    assert (reading.samples > 0) == exporter.runs
    if report.promise != "close":
        assert reading.differing == 0
    json.dumps(done.to_json())
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_same_network_gives_the_same_files(name: str, tmp_path: Path) -> None:
    first = written(name, "mlp", HOME.get(name, "fpga"), tmp_path / "a")
    second = written(name, "mlp", HOME.get(name, "fpga"), tmp_path / "b")
    assert [p.name for p in first.files] == [p.name for p in second.files]
    for a, b in zip(first.files, second.files, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[parquet\]'"):
        written("parquet", "mlp", "fpga", tmp_path)


def test_python_face(tmp_path: Path) -> None:
    import bitwright as bw

    q = quantized("mlp", "fpga")
    done = q.export("onnx-int", tmp_path / "a.onnx", verify=True, samples=2, raw=True)
    assert done.reading is not None
    assert done.reading.differing == 0
    assert done.report.facts["raw"] is True
    q.save(tmp_path / "net.bw")
    again = bw.export(tmp_path / "net.bw", "onnx-int", tmp_path / "b.onnx", raw=True)
    assert again.report.files[0].read_bytes() == done.report.files[0].read_bytes()
    from bitwright.export.registry import exporter_names

    assert "tflite" in exporter_names()  # importing the folder does not hide the function
    assert bw.export(q, "csv", tmp_path / "tables").reading is None


def test_certificate(tmp_path: Path) -> None:
    q = quantized("residual", "fpga")
    done = export(q, "onnx-int", tmp_path / "net.onnx", verify=True, samples=3)
    assert done.certificate == tmp_path / "net.onnx.certificate.json"
    found = json.loads(done.certificate.read_text("utf-8"))
    assert found["files"] == {"net.onnx": hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()}
    assert found["model_sha256"] == program_sha256(q)
    # Of the program alone: what the file says of its making does not change it, a weight does.
    renamed = replace(q.artefact, provenance={**q.provenance, "notes": ["another"]})
    assert program_sha256(Quantized(renamed)) == program_sha256(q)
    tensors = {name: x.copy() for name, x in q.program.tensors.items()}
    next(x for x in tensors.values() if x.ndim == 4).flat[0] ^= 1
    assert program_sha256(
        Quantized(replace(q.artefact, program=replace(q.program, tensors=tensors)))
    ) != program_sha256(q)
    assert found["differing"] == 0
    assert found["samples"] == found["data"]["samples"] == 3
    assert found["compared"] == 2 * 3 * 12 * 4 * 4
    assert found["target"] == "fpga"
    again = export(q, "onnx-int", tmp_path / "net.onnx", verify=True, samples=3)
    assert again.certificate is not None
    assert json.loads(again.certificate.read_text("utf-8")) == found


def test_own_data_is_used(tmp_path: Path) -> None:
    q = quantized("residual", "fpga")
    data = tmp_path / "x.npy"
    np.save(data, samples("residual", 5)[0])
    done = export(q, "onnx-int", tmp_path / "net.onnx", verify=True, data=str(data), samples=4)
    assert done.reading is not None
    assert done.reading.samples == 4
    assert done.certificate is not None
    assert "random" not in json.loads(done.certificate.read_text("utf-8"))["data"]["origin"]


# ---------------------------------------------------------------- readers see what is wrong


def test_a_changed_weight_is_a_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q = quantized("residual", "fpga")
    exporter = find_exporter("onnx-int")

    def damaged(network: Quantized, path: Path) -> ExportReport:
        report = exporter.write(network, path)
        model = onnx.load(report.files[0])
        largest = max((t for t in model.graph.initializer if len(t.dims) == 4), key=lambda t: np.prod(t.dims))
        values = numpy_helper.to_array(largest).copy()
        values[...] = np.roll(values, 1)
        largest.CopyFrom(numpy_helper.from_array(values, largest.name))
        onnx.save(model, report.files[0])
        return report

    broken = Exporter(**{**exporter.__dict__, "write": damaged})
    monkeypatch.setattr("bitwright.export.verify.find_exporter", lambda name: broken)
    with pytest.raises(Mismatch, match="output integers compared"):
        export(q, "onnx-int", tmp_path / "net.onnx", verify=True, samples=2)
    certificate = json.loads((tmp_path / "net.onnx.certificate.json").read_text("utf-8"))
    assert certificate["differing"] > 0


@pytest.mark.parametrize(
    ("name", "target", "find", "put"),
    [
        ("nnom", "mcu-q7", r"(OUTPUT_RSHIFT \{)(\d+)", lambda m: f"{m[1]}{int(m[2]) + 1}"),
        ("nnom", "mcu-q7", r"(KERNEL_0 \{)(-?\d+)", lambda m: f"{m[1]}{int(m[2]) ^ 1}"),
        ("nnom", "mcu-q7", r"(BIAS_0 \{)(-?\d+)", lambda m: f"{m[1]}{int(m[2]) ^ 1}"),
        ("ncnn", "ncnn", r"(_param_0 )(\S+)", lambda m: f"{m[1]}{float(m[2]) * 1.001}"),
        ("csv", "fpga", "Gemm", lambda m: "Gemn"),
        ("json", "fpga", '"Gemm"', lambda m: '"Gemn"'),
    ],
)
def test_a_changed_number_is_seen(name: str, target: str, find: str, put: object, tmp_path: Path) -> None:
    options = {"table_only": True} if name == "ncnn" else {}
    report = written(name, "mlp" if name != "ncnn" else "conv_bn_relu", target, tmp_path, **options)
    exporter = find_exporter(name)
    q = quantized("mlp" if name != "ncnn" else "conv_bn_relu", target)
    assert exporter.read(q, report, None).differing == 0
    changed = 0
    for path in report.files:
        text, count = re.subn(find, put, path.read_text("utf-8"), count=1)  # type: ignore[call-overload]
        changed += count
        path.write_text(text, "utf-8")
    assert changed
    assert exporter.read(q, report, None).differing > 0


def test_a_changed_cache_is_a_mismatch(tmp_path: Path) -> None:
    q = quantized("mlp", "gpu")
    report = written("tensorrt", "mlp", "gpu", tmp_path)
    cache = report.files[1]
    lines = cache.read_text("utf-8").splitlines()
    lines[1] = lines[1][:-1] + ("0" if lines[1][-1] != "0" else "1")
    cache.write_text("\n".join(lines), "utf-8")
    with pytest.raises(Mismatch, match="disagree about tensor"):
        find_exporter("tensorrt").read(q, report, None)


# ---------------------------------------------------------------- the formats


@pytest.mark.parametrize("target", list_targets())
def test_qdq_has_a_format_on_every_edge(target: str, tmp_path: Path) -> None:
    """Each tensor that layers exchange is the output of a DequantizeLinear whose constants are the program's format."""
    q = quantized("residual", target)
    report = written("onnx-qdq", "residual", target, tmp_path)
    model = onnx.load(report.files[0])
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    formats = tensor_formats(q.program)
    assert report.facts["edges"] == len(formats)
    assert report.facts["float_edges"] == 0
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Add"}:
            continue
        for name in node.input:
            assert made[name].op_type == "DequantizeLinear", (node.op_type, name)
        weight = made[node.input[1]]
        if node.op_type == "Conv":
            assert constants[weight.input[0]].dtype.name == ("int4" if target.endswith("w4") else "int8")
    for tensor, format in formats.items():
        node = made[f"{tensor}_dequantized" if tensor in {i.name for i in model.graph.input} else tensor]
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert zero.dtype == np.uint8
        assert np.float32(format.scale) == scale
        assert int(zero) == int(format.zero_point) + (128 if format.signed else 0)


def test_qdq_signed_and_unsigned_are_the_same_numbers(tmp_path: Path) -> None:
    q = quantized("depthwise_relu6", "generic")
    from bitwright.export.running import make_codes

    codes = make_codes(q, samples("depthwise_relu6"), "zoo")
    results = []
    for signed in (True, False):
        report = written("onnx-qdq", "depthwise_relu6", "generic", tmp_path / str(signed), signed=signed)
        results.append(read_qdq(q, report, codes))
    assert results[0].result == results[1].result
    assert results[0].largest <= 1


def test_qdq_weights_of_four_bits_are_int4(tmp_path: Path) -> None:
    from bitwright.api import quantize
    from bitwright.export.running import make_codes
    from bitwright.targets.target import load_target

    collected = calibrated("residual")
    q = quantize(collected.model, collected, load_target("generic").with_overrides({"weight": {"bits": 4}}))
    report = find_exporter("onnx-qdq").export(q, tmp_path / "net.onnx")
    model = onnx.load(report.files[0])
    assert next(o.version for o in model.opset_import if not o.domain) >= 21
    assert sum(t.data_type == onnx.TensorProto.INT4 and len(t.dims) == 4 for t in model.graph.initializer) == 5
    found = read_qdq(q, report, make_codes(q, samples("residual"), "zoo"))
    assert found.largest <= 1


def test_vitis_is_powers_of_two_in_signed_bytes(tmp_path: Path) -> None:
    report = written("vitis", "conv_bn_relu", "dpu", tmp_path)
    model = onnx.load(report.files[0])
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert nodes
    for node in nodes:
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert (np.frexp(scale)[0] == 0.5).all()
        assert zero.dtype == np.int8
        assert not zero.any()


def test_vitis_averages_as_the_dpu_does(tmp_path: Path) -> None:
    """With the DPU's factor written in, what is left is rounding."""
    q = quantized("conv_bn_relu", "dpu")
    done = export(q, "vitis", tmp_path / "net.onnx", verify=True, samples=4)
    assert done.reading is not None
    assert done.reading.largest <= 2


def test_tensorrt_cache_is_read_as_documented() -> None:
    found = read_cache("TRT-8203-EntropyCalibration2\ndata: 3c00f9f4\nlayer:1/out: 3f800000\n")
    assert found["data"] == pytest.approx(0.0078721, abs=1e-7)
    assert found["layer:1/out"] == 1.0
    for text in ("nonsense\ndata: 3c00f9f4", "TRT-8203-EntropyCalibration2\ndata: 3c00", "TRT-8203-X\ndata 3c00f9f4"):
        with pytest.raises(ExportError):
            read_cache(text)


def test_ncnn_scales_follow_its_rule(tmp_path: Path) -> None:
    """127/absmax per output channel, 31/absmax where Winograd's kernels are used."""
    q = quantized("fire", "ncnn")
    report = written("ncnn", "fire", "ncnn", tmp_path)
    lines = dict(line.split(" ", 1) for line in report.files[-1].read_text("utf-8").splitlines())
    convolutions = [s for s in q.network.layers() if s.op == "Conv"]
    assert len(lines) == 2 * len(convolutions)
    for layer in convolutions:
        weights = q.network.constant(str(layer.main.inputs[1].name))
        assert weights is not None
        strides = list(q.network.attributes(layer.main)["strides"])  # type: ignore[call-overload]
        limit = 31 if weights.shape[2:] == (3, 3) and strides == [1, 1] else 127
        expected = limit / np.abs(weights).reshape(len(weights), -1).max(1)
        got = np.array(lines[f"{layer.name}_param_0"].split(), float)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_nnom_interleaves_as_the_kernel_reads() -> None:
    """The first block as CMSIS-NN's sources draw it, and every shape back again."""
    four = np.array([[10 * r + c for c in range(1, 7)] for r in range(1, 5)])
    drawn = [11, 21, 13, 23, 31, 41, 33, 43, 12, 22, 14, 24, 32, 42, 34, 44, 15, 25, 35, 45, 16, 26, 36, 46]
    assert interleaved(four).tolist() == drawn
    for rows in range(1, 10):
        for columns in range(1, 10):
            weights = np.arange(rows * columns).reshape(rows, columns)
            np.testing.assert_array_equal(deinterleaved(interleaved(weights).tolist(), rows, columns), weights)


def test_nnom_dialects(tmp_path: Path) -> None:
    new = written("nnom", "residual", "mcu-q7", tmp_path / "new").files[0].read_text("utf-8")
    old = written("nnom", "residual", "mcu-q7", tmp_path / "old", dialect="old").files[0].read_text("utf-8")
    assert "#define TENSOR_CONV3_KERNEL_0 {" in new
    assert re.search(r"#define TENSOR_CONV\d+_BIAS_0_DEC_BITS \{\d+\}", new)
    assert "_OUTPUT_OFFSET (0)" in new
    assert re.search(r"#if ADD\d+_OUTPUT_RSHIFT < 0\n#error", new)
    assert re.search(r"#define CONV\d+_KERNEL_0_SHIFT \(\d+\)", old)
    assert "_OUTPUT_SHIFT (" in old
    shifts = {k: v for k, v in read_header(new).items() if k.endswith("RSHIFT")}
    assert shifts
    assert shifts == {k: v for k, v in read_header(old).items() if k.endswith("RSHIFT")}
    with pytest.raises(ExportError, match="new or old"):
        written("nnom", "residual", "mcu-q7", tmp_path, dialect="newest")


def test_nnom_dense_weights_follow_height_width_channel(tmp_path: Path) -> None:
    """Flattened feature maps are in NNoM's order of axes: what the weights multiply stays the same."""
    from bitwright.export.nnom import nnom_weights
    from small_programs import Maker

    make = Maker(np.random.default_rng(3))
    x = make.input((1, 3, 2, 4))
    from bitwright.program.forms import Reshape

    make.enter("Flatten")
    flat = make.build.move(x, [Reshape((1, 24))])
    program = make.finish(make.contract(flat, 5))
    step, form = program.contracts()[0]
    feature_map = np.random.default_rng(0).integers(-9, 9, (3, 2, 4))
    ours = program.tensors[form.weight].astype(np.int64) @ feature_map.reshape(-1)
    theirs = nnom_weights(program, step, form) @ feature_map.transpose(1, 2, 0).reshape(-1)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", sorted(STRICT))
def test_formats_that_a_tool_has_not_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"Quantize for --target {HOME[name]}"):
        written(name, "residual", "generic", tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the registry


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "bitwright.exporters")


MINE = Exporter(
    name="mine",
    summary="A test.",
    promise="tables",
    path="file",
    suffix="",
    write=lambda q, path: ExportReport(format="mine", files=(), promise="tables"),
    read=lambda q, report, codes: None,  # type: ignore[arg-type, return-value]
    runs=False,
)


def test_other_packages_add_exporters() -> None:
    extra = [point("mine", "contract.test_exporters:MINE")]
    assert "mine" in exporter_names(extra)
    with pytest.raises(ExportError, match="failed with"):
        find_exporter("mine", [point("mine", "no_such_package:thing")])
    with pytest.raises(ExportError, match="no Exporter of that name"):
        find_exporter("mine", [point("mine", "json:dumps")])


def test_a_name_clash_is_an_error() -> None:
    with pytest.raises(ExportError, match="Two exporters are called 'onnx-int'"):
        exporter_names([point("onnx-int", "a:b")])
    with pytest.raises(ExportError, match="Two exporters are called 'mine'"):
        find_exporter("mine", [point("mine", "a:b"), point("mine", "c:d")])


def test_a_misspelt_name_is_told_the_nearest() -> None:
    with pytest.raises(ExportError, match="Did you mean 'onnx-int'"):
        find_exporter("onnx-imt")


def test_options() -> None:
    exporter = find_exporter("onnx-int")
    assert exporter.parse({"raw": "yes", "portable": "false"}) == {"raw": True, "portable": False}
    for texts in ({"raw": "perhaps"}, {"nothing": "1"}):
        with pytest.raises(ExportError, match="onnx-int"):
            exporter.parse(texts)
    with pytest.raises(ExportError, match="has no option 'colour'"):
        exporter.export(quantized("mlp", "fpga"), "nowhere", colour="red")


# ---------------------------------------------------------------- command line and documentation


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quantized("residual", "fpga").save(tmp_path / "net.bw")
    line = Line(capsys)
    answer = line(
        "export", "net.bw", "--to", "onnx-int", "-o", "net.onnx", "--raw", "--verify", "--samples", 2, "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.json["verified"]["differing"] == 0
    assert answer.json["facts"]["raw"] is True
    assert (tmp_path / "net.onnx.certificate.json").is_file()
    text = line("export", "net.bw", "--to", "onnx-qdq", "-o", "q.onnx", "--option", "signed=yes", "--verify").out
    assert "Verified" in text
    for arguments, words in (
        (("--to", "onnx"), "Did you mean"),
        (("--to", "csv", "--raw"), "has no option"),
        (("--to", "csv", "--samples", 3), "are for --verify"),
        (("--to", "csv", "--option", "x"), "NAME=VALUE"),
    ):
        answer = line("export", "net.bw", "-o", "x", *arguments)
        assert answer.code == 2
        assert words in " ".join(answer.err.split())


def test_summaries_of_the_command_are_those_of_the_exporters() -> None:
    assert format_summaries() == {name: find_exporter(name).summary for name in BUILT_IN}


def test_every_exporter_and_option_is_in_the_reference() -> None:
    text = DOCS.read_text("utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| (?:bit-exact|close|tables) \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(BUILT_IN)
    for name in BUILT_IN:
        exporter = find_exporter(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {exporter.promise} |" in row
        for option, parameter in exporter.options.items():
            assert re.search(rf"^### .*`{name}`", text, re.MULTILINE), name
            assert f"`{option}`" in text, (name, option)
            assert parameter.default is not inspect.Parameter.empty
