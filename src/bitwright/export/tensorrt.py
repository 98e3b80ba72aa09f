"""``tensorrt``: explicit QDQ for TensorRT, and a calibration cache for its older, implicit way."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitwright.calibrate.foreign import HEADER
from bitwright.errors import ExportError, Mismatch, printable
from bitwright.export.demands import demand_symmetric
from bitwright.export.exporter import Exporter
from bitwright.export.onnx_qdq import read_qdq, write_qdq
from bitwright.export.qdq import Style, tensor_formats
from bitwright.export.report import ExportReport, Reading, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitwright.export.running import Codes
    from bitwright.number.format import Format
    from bitwright.quantized import Quantized


def export_tensorrt(
    q: Quantized, path: str | os.PathLike[str], *, header: str = "TRT-8203-EntropyCalibration2"
) -> ExportReport:
    """Write QDQ ONNX, and beside it the calibration cache ``PATH.cache`` with the float network ``PATH.float.onnx``.

    Explicit quantization reads the QDQ file alone.  Implicit quantization (removed in TensorRT 11) reads the float
    network and the cache, in which each tensor has the scale amax/127.

    Args:
        q: Quantized for target ``gpu``, or another without zero points.
        path: The ``.onnx`` file.
        header: First line of the cache: version and calibrator that TensorRT must believe it was made by.

    Raises:
        ExportError: if an activation is not signed 8-bit with zero point 0, or the header is none.
    """
    if not HEADER.fullmatch(header):
        raise ExportError(
            f"'{printable(header, 60)}' is no header of a TensorRT cache; one is TRT-8203-EntropyCalibration2."
        )
    formats = demand_symmetric(q, "TensorRT", "gpu")
    base = Path(path)
    report = write_qdq(q, base, Style(bias="float", limits=False), "tensorrt")
    cache = write_bytes(base.with_name(f"{base.name}.cache"), cache_text(formats, header).encode("utf-8"))
    network = write_bytes(base.with_name(f"{base.name}.float.onnx"), q.network.serialize())
    return ExportReport(
        format="tensorrt",
        files=(report.files[0], cache, network),
        promise="close",
        notes=report.notes,
        facts={**report.facts, "cached": len(formats)},
    )


def cache_text(formats: Mapping[str, Format], header: str) -> str:
    """A calibration cache: the header, then ``tensor: hex`` with the float32 scale in big-endian digits."""
    lines = [f"{tensor}: {struct.pack('>f', float(format.scale)).hex()}" for tensor, format in formats.items()]
    return "\n".join([header, *lines]) + "\n"


def read_cache(text: str) -> dict[str, float]:
    """Tensor → scale, from a calibration cache.

    Raises:
        ExportError: if a line is of another form.
    """
    from bitwright.calibrate.foreign import read_cache as read

    try:
        return read(text)
    except ValueError as error:
        raise ExportError(f"{printable(error, 300)[:1].upper()}{printable(error, 300)[1:]}.") from error


def read_tensorrt(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Run the QDQ file in ONNX Runtime, and compare every scale of the cache with the program's formats.

    Raises:
        Mismatch: if the cache holds other scales.
    """
    cached = read_cache(report.files[1].read_text("utf-8"))
    wanted = {tensor: np.float32(format.scale) for tensor, format in tensor_formats(q.program).items()}
    wrong = [t for t in {*wanted, *cached} if t not in cached or t not in wanted or np.float32(cached[t]) != wanted[t]]
    if wrong:
        raise Mismatch(
            f"The cache {printable(report.files[1])} and the program disagree about tensor '{printable(wrong[0])}'. This "
            "is a bug in bitwright: please report it.",
            tensor=wrong[0],
        )
    found = read_qdq(q, report, codes)
    note = f"{len(cached)} scales of the cache read back, 0 differ. TensorRT itself was not run."
    return Reading(**{**found.__dict__, "notes": (*found.notes, note)})


EXPORTER = Exporter(
    name="tensorrt",
    summary="QDQ for TensorRT, and a calibration cache for its implicit quantization.",
    promise="close",
    path="file",
    suffix=".onnx",
    write=export_tensorrt,
    read=read_tensorrt,
    runs=True,
)
