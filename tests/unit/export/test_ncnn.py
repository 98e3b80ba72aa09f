"""The ``ncnn`` exporter: models that ncnn runs, its 6-bit rule, and its table."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from bitwright.errors import ExportError, Mismatch, ToolMissing
from bitwright.export.ncnn import EXPORTER
from bitwright.export.ncnn_file import FLOAT_TAG, INT8_TAG, MAGIC, NcnnGraph, parameter
from bitwright.export.running import make_codes
from exports import quantized, samples

RUNS = ("conv_bn_relu", "residual", "depthwise_relu6", "fire", "grouped", "unet", "mlp", "pools", "pads", "silu",
        "activations", "resize", "tf_style", "shape_chain", "shared", "scales", "split_slice")  # fmt: skip


def decibels(real: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((real**2).sum() / max(((other - real) ** 2).sum(), 1e-30)))


@pytest.mark.parametrize("network", RUNS)
def test_ncnn_runs_the_model_and_is_at_least_as_near_to_float_as_the_program(network: str, tmp_path: Path) -> None:
    """A wrong layer, layout, scale or bias would cost many decibels; ncnn rounds less than the program does."""
    q = quantized(network, "ncnn")
    report = EXPORTER.export(q, tmp_path / "net.param")
    inputs = samples(network, 4)
    codes = make_codes(q, inputs, "zoo")
    reading = EXPORTER.read(q, report, codes)
    assert reading.reader.startswith("ncnn")
    assert reading.compared == sum(x.size for x in codes.expected)
    floats = zoo.run(zoo.ZOO[network](), dict(zip(q.input_tensors, inputs, strict=True)))
    got, start = np.frombuffer(reading.result, "<i8"), 0
    for real, expected, buffer in zip(floats, codes.expected, q.program.outputs, strict=True):
        format = q.program.buffers[buffer].format
        ours = format.dequantize(expected)
        theirs = format.dequantize(np.clip(got[start : start + expected.size], format.lo, format.hi)).reshape(
            real.shape
        )
        start += expected.size
        assert decibels(real, theirs) > decibels(real, ours) - 1.5


def test_names_counts_and_splits(tmp_path: Path) -> None:
    """What ncnn's loader relies on: the magic number, right counts, no blob with two readers."""
    report = EXPORTER.export(quantized("shared", "ncnn"), tmp_path / "net.param")
    assert [p.name for p in report.files] == ["net.param", "net.bin", "net.table"]
    magic, counts, *lines = report.files[0].read_text("utf-8").splitlines()
    assert int(magic) == MAGIC
    layers, blobs = (int(n) for n in counts.split())
    assert layers == len(lines)
    made, read = [], []
    for line in lines:
        _, _, inputs, outputs, *words = line.split()
        read += words[: int(inputs)]
        made += words[int(inputs) : int(inputs) + int(outputs)]
    assert len(made) == len(set(made)) == blobs
    assert len(read) == len(set(read))
    assert set(read) <= set(made)
    assert any(line.startswith("Split ") for line in lines)


def test_weights_of_winograd_have_six_bits(tmp_path: Path) -> None:
    """The integers in the ``.bin`` are the program's; those of 3×3 convolutions of stride 1 reach 31 at most."""
    q = quantized("fire", "ncnn")
    report = EXPORTER.export(q, tmp_path / "net.param")
    data = report.files[1].read_bytes()
    place = 0
    for step, form in q.program.contracts():
        codes = q.program.tensors[form.weight]
        (tag,) = struct.unpack_from("<I", data, place)
        assert tag == INT8_TAG
        stored = np.frombuffer(data, np.int8, codes.size, place + 4)
        np.testing.assert_array_equal(stored, codes.reshape(-1))
        winograd = [(a.taps, a.stride) for a in form.axes] == [(3, 1), (3, 1)]
        assert np.abs(stored).max() == (31 if winograd else 127)
        place += 4 + codes.size + -codes.size % 4
        size = float(q.program.buffers[step.inputs[0]].format.scale)
        numbers = np.frombuffer(data, "<f4", 2 * len(codes) + 1, place)
        assert numbers[-1] == np.float32(1 / size)
        place += 4 * len(numbers)
    assert place == len(data)


def test_a_changed_weight_is_seen(tmp_path: Path) -> None:
    q = quantized("conv_bn_relu", "ncnn")
    report = EXPORTER.export(q, tmp_path / "net.param")
    codes = make_codes(q, samples("conv_bn_relu", 2), "zoo")
    before = EXPORTER.read(q, report, codes).largest
    data = bytearray(report.files[1].read_bytes())
    data[4:100] = data[5:101]
    report.files[1].write_bytes(bytes(data))
    assert EXPORTER.read(q, report, codes).largest > before + 3


def test_a_changed_scale_of_the_table_is_a_mismatch(tmp_path: Path) -> None:
    q = quantized("conv_bn_relu", "ncnn")
    report = EXPORTER.export(q, tmp_path / "net.param")
    lines = report.files[2].read_text("utf-8").splitlines()
    name, first, *rest = lines[0].split()
    report.files[2].write_text(
        "\n".join([" ".join([name, str(float(first) * 1.01), *rest]), *lines[1:]]) + "\n", "utf-8"
    )
    with pytest.raises(Mismatch, match="1 scales"):
        EXPORTER.read(q, report, make_codes(q, samples("conv_bn_relu", 1), "zoo"))


def test_the_table_alone(tmp_path: Path) -> None:
    q = quantized("shuffle", "ncnn")  # no model can be written, a table can
    with pytest.raises(ExportError, match="table_only=yes"):
        EXPORTER.export(q, tmp_path / "net.param")
    assert not list(tmp_path.iterdir())
    report = EXPORTER.export(q, tmp_path / "net.table", table_only=True)
    assert [p.name for p in report.files] == ["net.table"]
    found = EXPORTER.read(q, report, None)
    assert found.compared > 0
    assert found.differing == 0


def test_models_that_are_none_are_refused(tmp_path: Path) -> None:
    q = quantized("mlp", "ncnn")
    report = EXPORTER.export(q, tmp_path / "net.param")
    codes = make_codes(q, samples("mlp", 1), "zoo")
    report.files[0].write_text("7767517\n1 1\nNoSuchLayer a 0 1 b\n", "utf-8")
    with pytest.raises(ExportError, match="ncnn refuses"):
        EXPORTER.read(q, report, codes)


def test_without_the_package_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q = quantized("mlp", "ncnn")
    report = EXPORTER.export(q, tmp_path / "net.param")
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(ToolMissing, match="pip install ncnn"):
        EXPORTER.read(q, report, make_codes(q, samples("mlp", 1), "zoo"))


def test_pieces() -> None:
    assert parameter(3, 5) == "3=5"
    assert parameter(0, 0.1) == "0=0.1"
    assert parameter(1, 6.0) == "1=6.0"
    assert parameter(3, [0, 1]) == "-23303=2,0,1"
    graph = NcnnGraph()
    assert graph.name("a b") == "a_b"
    assert graph.name("a b") == "a_b_2"
    graph.bytes8(np.asarray([1, -2, 3]))
    graph.floats(np.asarray([0.5]), tagged=True)
    assert graph.chunks == [struct.pack("<I3bx", INT8_TAG, 1, -2, 3), struct.pack("<If", FLOAT_TAG, 0.5)]
