"""AMD Quark, the successor of Vitis AI's quantizer: one power of two per tensor (XINT8).

Ways: ``xint8``, ``xint8+cle``, ``xint8+adaround``, ``xint8+adaquant``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import _worker
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import ModelQuantizer, get_library_path
from quark.onnx.quantization.config.algorithm import AdaQuantConfig, AdaRoundConfig, CLEConfig
from quark.onnx.quantization.config.config import QConfig
from quark.onnx.quantization.config.spec import QLayerConfig, XInt8Spec


class Reader(CalibrationDataReader):
    """The samples, one by one."""

    def __init__(self, name: str, samples: _worker.Samples) -> None:
        self.rows: Iterator[dict[str, _worker.Samples]] = ({name: samples[i : i + 1]} for i in range(len(samples)))

    def get_next(self) -> dict[str, _worker.Samples] | None:
        """The next sample, or None."""
        return next(self.rows, None)


def quantize(path: str, name: str, calib: _worker.Samples, way: str) -> _worker.Answer:
    """See :func:`_worker.main`."""
    algorithms = {
        "cle": CLEConfig,
        "adaround": lambda: AdaRoundConfig(learning_rate=0.1, num_iterations=1000),
        "adaquant": lambda: AdaQuantConfig(learning_rate=0.00001, num_iterations=1000),
    }
    chosen = [algorithms[one]() for one in way.split("+")[1:]]
    config = QConfig(
        global_config=QLayerConfig(activation=XInt8Spec(), weight=XInt8Spec()),
        algo_config=chosen or None,
        extra_options={"ForceQuantizeNoInputCheck": True},
    )
    folder = Path(tempfile.mkdtemp())
    made = folder / "made.onnx"
    ModelQuantizer(config).quantize_model(path, str(made), Reader(name, calib))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(get_library_path())
    session = ort.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {name: x})[0]


if __name__ == "__main__":
    _worker.main("amd-quark", quantize)
