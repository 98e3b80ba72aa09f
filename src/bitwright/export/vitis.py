"""``vitis``: QDQ with power-of-two scales, as the Vitis AI execution provider and Quark read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bitwright.export.demands import demand_powers
from bitwright.export.exporter import Exporter
from bitwright.export.onnx_qdq import read_qdq, write_qdq
from bitwright.export.qdq import Style
from bitwright.export.report import ExportReport

if TYPE_CHECKING:
    from bitwright.quantized import Quantized


def export_vitis(q: Quantized, path: str | os.PathLike[str]) -> ExportReport:
    """Write QDQ ONNX with signed bytes, steps of powers of two, and int8 biases with a step of their own.

    The DPU's factors of average pools and its slope of LeakyRelu are written into the graph.

    Args:
        q: Quantized for target ``dpu``, or another with one power of two per tensor.
        path: The ``.onnx`` file.

    Raises:
        ExportError: if a format is not of that kind.
    """
    demand_powers(q, "The DPU", "dpu")
    note = (
        "The DPU rounds halves up where ONNX Runtime, which reads this file too, rounds them to even: that is where the "
        "two differ."
    )
    return write_qdq(q, Path(path), Style(bias="own", limits=False), "vitis", (note,))


EXPORTER = Exporter(
    name="vitis",
    summary="QDQ in signed bytes and powers of two, for the Vitis AI execution provider.",
    promise="close",
    path="file",
    suffix=".onnx",
    write=export_vitis,
    read=read_qdq,
    runs=True,
)
