"""Brevitas: equalization, GPTQ and bias correction, in the order of its own post-training example.

Ways: ``po2-w8``, ``po2-w4`` (one power of two per tensor), ``scale-w8``, ``scale-w4`` (a multiplier per channel), each with
``+gptq`` or without.
"""

from __future__ import annotations

from typing import Any

import _worker
import numpy as np
import onnx
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
    read = convert(_without_slices(path)).eval()
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


def _without_slices(path: str) -> Any:
    """Slices with steps over the last axes, which cannot be traced, are poolings of one tap: the same values."""
    model = onnx.load(path)
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    constants |= {
        node.output[0]: onnx.numpy_helper.to_array(attribute.t)
        for node in model.graph.node if node.op_type == "Constant" for attribute in node.attribute
    }  # fmt: skip
    for i, node in enumerate(model.graph.node):
        if node.op_type != "Slice" or len(node.input) < 5:
            continue
        starts, ends, axes, steps = (constants.get(name, np.zeros(0, np.int64)) for name in node.input[1:5])
        wide = {int(a) % 4: int(s) for a, s in zip(axes, steps, strict=True) if s != 1}
        if (starts == 0).all() and (ends > 1 << 16).all() and set(wide) <= {2, 3}:
            strides = [wide.get(2, 1), wide.get(3, 1)]
            pooled = onnx.helper.make_node(
                "MaxPool", [node.input[0]], list(node.output), kernel_shape=[1, 1], strides=strides, name=node.name
            )
            model.graph.node.remove(node)
            model.graph.node.insert(i, pooled)
    return model


def _one(size: Any) -> Any:
    return size[0] if isinstance(size, (list, tuple)) and len(set(size)) == 1 else size


if __name__ == "__main__":
    _worker.main("brevitas", quantize)
