"""esp-ppq: one power of two per tensor (Espressif's ESP32-S3), with layer-wise equalization or without.

Ways: ``s3`` and ``s3+equalize``, activations by ``kl`` (the tool's own choice); ``s3-mse`` by the squared error.
"""

from __future__ import annotations

import tempfile

import _worker
import torch
from esp_ppq.api import QuantizationSettingFactory, espdl_quantize_onnx
from esp_ppq.executor import TorchExecutor


def quantize(path: str, name: str, calib: _worker.Samples, way: str) -> _worker.Answer:
    """See :func:`_worker.main`."""
    setting = QuantizationSettingFactory.espdl_setting()
    if "+equalize" in way:
        setting.equalization = True
        setting.equalization_setting.iterations = 6
        setting.equalization_setting.value_threshold = 0.5
        setting.equalization_setting.opt_level = 2
    if "-mse" in way:
        setting.quantize_activation_setting.calib_algorithm = "mse"
    loader = [torch.from_numpy(calib[i : i + 1]) for i in range(len(calib))]
    graph = espdl_quantize_onnx(
        onnx_import_file=path, espdl_export_file=f"{tempfile.mkdtemp()}/made.espdl", calib_dataloader=loader,
        calib_steps=len(loader), input_shape=[1, *calib.shape[1:]], target="esp32s3", num_of_bits=8,
        setting=setting, device="cpu", error_report=False, skip_export=True, collate_fn=lambda x: x, verbose=0,
    )  # fmt: skip
    executor = TorchExecutor(graph=graph, device="cpu")
    return lambda x: executor.forward(torch.from_numpy(x))[0].detach().numpy()


if __name__ == "__main__":
    _worker.main("esp-ppq", quantize, batch=1)
