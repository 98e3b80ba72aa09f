"""``openvino``: QDQ as OpenVINO's ONNX frontend turns it into its own integer graph."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitwright.export.exporter import Exporter
from bitwright.export.onnx_int import back_to_codes
from bitwright.export.onnx_qdq import read_qdq, write_qdq
from bitwright.export.qdq import Style
from bitwright.export.report import ExportReport, Reading, compare_codes

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized

SIGNED_AROUND = frozenset({"Pad"})
"""Measured with OpenVINO 2026.4 on x86: around a Pad it loses zero points, and outputs are off by half their range."""


def export_openvino(q: Quantized, path: str | os.PathLike[str]) -> ExportReport:
    """Write QDQ ONNX with unsigned activations, signed weights per channel, and biases in float.

    OpenVINO adds biases in float, so a dequantized int32 bias would only be work for its constant folding.

    Args:
        q: The quantized network.
        path: The ``.onnx`` file; ``ovc FILE`` converts it, ``openvino.Core().read_model`` reads it as it is.
    """
    style = Style(unsigned=True, signed_around=SIGNED_AROUND, four_bits=False, bias="float")
    return write_qdq(q, Path(path), style, "openvino")


def read_openvino(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the file in OpenVINO where it is installed, else in ONNX Runtime, and compare every output."""
    try:
        openvino = import_module("openvino")
    except ImportError:
        found = read_qdq(q, report, codes)
        note = "OpenVINO is not installed (pip install openvino), so ONNX Runtime read the file in its place."
        return Reading(**{**found.__dict__, "notes": (*found.notes, note)})
    assert codes is not None  # this format runs
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(report.files[0]), "CPU")
    step = codes.samples if q.program.batchable else 1
    parts = []
    for i in range(0, codes.samples, step):
        feeds = {name: x[i : i + step] for name, x in zip(q.input_tensors, codes.reals, strict=True)}
        results = compiled(feeds)
        parts.append([np.asarray(results[name]) for name in q.output_tensors])
    got = [np.concatenate(column) for column in zip(*parts, strict=True)]
    formats = [q.program.buffers[b].format for b in q.program.outputs]
    integers = [back_to_codes(values, format) for values, format in zip(got, formats, strict=True)]
    return compare_codes(f"openvino {openvino.__version__}", codes.expected, integers)


EXPORTER = Exporter(
    name="openvino",
    summary="QDQ as OpenVINO's frontend reads it, biases in float.",
    promise="close",
    path="file",
    suffix=".onnx",
    write=export_openvino,
    read=read_openvino,
    runs=True,
)
