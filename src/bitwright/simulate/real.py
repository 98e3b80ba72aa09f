"""A contraction of a program with real weights: what its sums would be if only some of its numbers were rounded."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.program.forms import Axis, Contract
from bitwright.simulate.reference import along_channels

if TYPE_CHECKING:
    import onnxruntime

Reals = NDArray[np.float32]


def contract_real(form: Contract, x: Reals, weights: NDArray[Any], bias: NDArray[Any] | None = None) -> Reals:
    """The sums of products of ``form`` in float32.

    Args:
        form: Says how windows slide; its own integers are not used.
        x: Real inputs ``[n, channels, *size]``, or ``[n, channels]`` for a dense layer.
        weights: Real weights ``[out, in/groups, *taps]``.
        bias: Real bias ``[out]``, or None.
    """
    weights = np.ascontiguousarray(weights, np.float32)
    x = np.ascontiguousarray(x, np.float32)
    if form.axes:
        spread = placed_real(x, form.axes)
        strides = tuple(axis.stride for axis in form.axes)
        dilations = tuple(axis.dilation for axis in form.axes)
        made = _convolution(strides, dilations, form.groups).run(None, {"x": spread, "w": weights})[0]
    else:
        made = x @ weights.T
    return np.asarray(made if bias is None else made + along_channels(np.asarray(bias, np.float32), made.ndim))


def placed_real(x: Reals, axes: tuple[Axis, ...]) -> Reals:
    """``x`` spread out and padded with zeros along its last axes, in its own type."""
    if all(axis.before == axis.after == 0 and axis.spread == 1 for axis in axes):
        return x
    shape, where, cut = list(x.shape), [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for i, axis in enumerate(axes, x.ndim - len(axes)):
        reach = (shape[i] - 1) * axis.spread + 1
        where[i] = slice(max(axis.before, 0), max(axis.before, 0) + reach, axis.spread)
        shape[i] = max(axis.before, 0) + reach + max(axis.after, 0)
        cut[i] = slice(max(-axis.before, 0), shape[i] - max(-axis.after, 0))  # negative padding cuts
    out = np.zeros(shape, x.dtype)
    out[tuple(where)] = x
    return np.ascontiguousarray(out[tuple(cut)])


@lru_cache(maxsize=64)
def _convolution(strides: tuple[int, ...], dilations: tuple[int, ...], groups: int) -> onnxruntime.InferenceSession:
    import onnxruntime as ort
    from onnx import TensorProto, helper

    size = [None] * (len(strides) + 2)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=strides, dilations=dilations, group=groups)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("x", "w", "y")]
    graph = helper.make_graph([node], "contraction", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
