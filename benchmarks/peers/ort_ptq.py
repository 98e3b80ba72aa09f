"""ONNX Runtime's own quantizer: QDQ, unsigned activations, a multiplier per channel.

Ways: ``w8`` (ranges by MinMax), ``w8+percentile``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import _worker
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    """The samples, one by one."""

    def __init__(self, name: str, samples: _worker.Samples) -> None:
        self.rows: Iterator[dict[str, _worker.Samples]] = ({name: samples[i : i + 1]} for i in range(len(samples)))

    def get_next(self) -> dict[str, _worker.Samples] | None:
        """The next sample, or None."""
        return next(self.rows, None)


def quantize(path: str, name: str, calib: _worker.Samples, way: str) -> _worker.Answer:
    """See :func:`_worker.main`."""
    folder = Path(tempfile.mkdtemp())
    ready, made = folder / "ready.onnx", folder / "made.onnx"
    quant_pre_process(path, str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(made), Reader(name, calib), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Percentile if "+percentile" in way else CalibrationMethod.MinMax,
    )  # fmt: skip
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {name: x})[0]


if __name__ == "__main__":
    _worker.main("onnxruntime", quantize)
