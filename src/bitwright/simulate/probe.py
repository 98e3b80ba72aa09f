"""What this machine's ONNX Runtime computes exactly, found by asking it once."""

from __future__ import annotations

from functools import cache

import numpy as np

from bitwright.simulate.graph import GraphWriter


@cache
def int8_convolution_is_exact() -> bool:
    """Whether ``QLinearConv`` of uint8 inputs and int8 weights sums exactly.

    Without VNNI instructions, x86 kernels add pairs of products in 16 bits and saturate; the probe holds products
    that would.  It also checks the rounding that the engine relies on: one float32 product, ties to even.
    """
    import onnxruntime

    channels, outputs = 64, 32
    x = np.full((1, channels, 4, 4), 255, np.uint8)
    x[:, ::3] = 250
    signs = np.where(np.arange(outputs) % 2, -1, 1)[:, None]
    weights = (np.where(np.arange(channels) % 5 == 4, 90, 127) * signs).astype(np.int8)[:, :, None, None]
    # Biases that leave remainders on, just below and just above every kind of tie.
    totals = np.einsum("oi,i->o", weights[:, :, 0, 0].astype(np.int64), x[0, :, 0, 0].astype(np.int64))
    wanted = np.arange(outputs) * 8 * 256 + np.tile([127, 128, 129, 384], outputs // 4)
    bias = (wanted - totals).astype(np.int32)
    graph = GraphWriter()
    unit, zero = graph.constant(np.asarray(1.0, np.float32)), graph.constant(np.asarray(0, np.uint8))
    graph.node(
        "QLinearConv",
        "x",
        unit,
        zero,
        graph.constant(weights),
        graph.constant(np.full(outputs, 2.0**-8, np.float32)),
        graph.constant(np.zeros(outputs, np.int8)),
        unit,
        zero,
        graph.constant(bias),
        outputs=["y"],
    )
    model = graph.model([("x", x.dtype, x.shape)], [("y", x.dtype, (1, outputs, 4, 4))])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    expected = np.clip(np.rint(wanted.astype(np.float32) * np.float32(2.0**-8)), 0, 255).astype(np.uint8)
    return bool((session.run(None, {"x": x})[0] == expected[None, :, None, None]).all())
