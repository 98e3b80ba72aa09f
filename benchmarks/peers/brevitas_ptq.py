"""Brevitas: equalization, GPTQ and bias correction, in the order of its own post-training example.

Ways: ``po2-w8``, ``po2-w4`` (one power of two per tensor), ``scale-w8``, ``scale-w4`` (a multiplier per channel), each with
``+gptq`` or without.
"""

from __future__ import annotations

from typing import Any

import _worker
import torch
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.quantize import preprocess_for_quantize
from brevitas_examples.imagenet_classification.ptq.ptq_common import quantize_model
from onnx2torch import convert

EQUALIZE = 20


def quantize(path: str, name: str, calib: _worker.Samples, way: str) -> _worker.Answer:
    """See :func:`_worker.main`."""
    power, bits = way.startswith("po2"), 4 if "w4" in way else 8
    read = convert(path).eval()
    for module in read.modules():  # its averages cannot have a kernel that is a list
        if isinstance(module, torch.nn.AvgPool2d):
            module.kernel_size, module.stride = _one(module.kernel_size), _one(module.stride)
    model = preprocess_for_quantize(read, equalize_iters=EQUALIZE, equalize_merge_bias=True)
    made = quantize_model(
        model, backend="fx", weight_bit_width=bits, act_bit_width=8, bias_bit_width=32,
        weight_quant_granularity="per_tensor" if power else "per_channel", act_quant_percentile=99.999,
        act_quant_type="sym", scale_factor_type="po2_scale" if power else "float_scale", quant_format="int",
        weight_param_method="mse" if bits == 4 else "stats",
    )  # fmt: skip
    parts = [torch.from_numpy(x) for x in _worker.batches(calib)]
    made.eval()
    with torch.no_grad():
        made(parts[0])
        with calibration_mode(made):
            for x in parts:
                made(x)
        if way.endswith("+gptq"):
            with gptq_mode(made, use_quant_activations=True, act_order=True) as gptq:
                for _ in range(gptq.num_layers):
                    for x in parts:
                        gptq.model(x)
                    gptq.update()
        with bias_correction_mode(made):
            for x in parts:
                made(x)

    def answer(x: _worker.Samples) -> object:
        with torch.no_grad():
            got = made(torch.from_numpy(x))
        return getattr(got, "value", got).numpy()

    return answer


def _one(size: Any) -> Any:
    return size[0] if isinstance(size, (list, tuple)) and len(set(size)) == 1 else size


if __name__ == "__main__":
    _worker.main("brevitas", quantize)
