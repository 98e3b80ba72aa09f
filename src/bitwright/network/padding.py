"""Explicit numbers where ONNX allows a rule: pads instead of ``auto_pad``, scales instead of target sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bitwright.network.values import stored

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.shapes import Shape, Shapes


def same_pads(shape: Shape, kernel: Shape, strides: Shape, dilations: Shape, *, upper: bool) -> tuple[int, ...]:
    """Pads ``[begin..., end...]`` of SAME padding (the output has ``ceil(input / stride)`` elements); ONNX, Conv.

    Args:
        shape: Spatial input sizes.
        kernel: Spatial kernel sizes.
        strides: Spatial strides.
        dilations: Spatial dilations.
        upper: An odd pad goes to the end (SAME_UPPER) instead of the beginning.
    """
    begin, end = [], []
    for size, k, stride, dilation in zip(shape, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if upper else large)
        end.append(large if upper else small)
    return (*begin, *end)


def transposed_pads(total: Shape, *, upper: bool) -> tuple[int, ...]:
    """The same for ConvTranspose, from the total padding of each axis; ONNX, ConvTranspose."""
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (*small, *large) if upper else (*large, *small)


def explicit_pads(model: ir.Model, found: Shapes) -> None:
    """Replace ``auto_pad`` (and ConvTranspose's ``output_shape``) by ``pads``, in place, wherever shapes are known."""
    import onnx_ir as ir

    from bitwright.network.defaults import complete

    opset = model.graph.opset_imports.get("", 18)
    for node in model.graph:
        if node.op_type not in {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}:
            continue
        mode = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
        if mode == "NOTSET" and "output_shape" not in node.attributes:
            node.attributes.pop("auto_pad", None)
            continue
        first = node.inputs[0]
        shape = found.shapes.get(str(first.name)) if first is not None else None
        result = found.shapes.get(str(node.outputs[0].name))
        if shape is None or result is None:
            continue
        values = complete(node, opset, found.shapes)
        if "kernel_shape" not in values:
            continue
        kernel, strides, dilations = (_ints(values[k]) for k in ("kernel_shape", "strides", "dilations"))
        pads: tuple[int, ...] = (0,) * (2 * len(kernel))
        if node.op_type == "ConvTranspose":
            extra = _ints(values["output_padding"])
            reach = [
                s * (n - 1) + e + (k - 1) * d + 1
                for s, n, e, k, d in zip(strides, shape[2:], extra, kernel, dilations, strict=True)
            ]
            if mode == "VALID" and "output_shape" not in values:
                wanted: Shape = tuple(reach)
            elif "output_shape" in values:
                wanted = _ints(values["output_shape"])[-len(kernel) :]
            else:
                wanted = tuple(n * s for n, s in zip(shape[2:], strides, strict=True))
            total = tuple(r - w for r, w in zip(reach, wanted, strict=True))
            if any(t < 0 for t in total):
                # More output than the kernel reaches: the rest is output_padding at the end.
                grown = tuple(e + max(-t, 0) for e, t in zip(extra, total, strict=True))
                node.attributes["output_padding"] = ir.AttrInt64s("output_padding", grown)
                total = tuple(max(t, 0) for t in total)
            pads = transposed_pads(total, upper=mode == "SAME_UPPER")
            node.attributes.pop("output_shape", None)
        elif mode in {"SAME_UPPER", "SAME_LOWER"}:
            pads = same_pads(shape[2:], kernel, strides, dilations, upper=mode == "SAME_UPPER")
        node.attributes.pop("auto_pad", None)
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _ints(values: object) -> tuple[int, ...]:
    return tuple(int(v) for v in values)  # type: ignore[attr-defined]


def resize_by_scales(model: ir.Model, found: Shapes) -> None:
    """Replace constant target sizes of Resize by scales, in place: the scale of the batch is then 1 for any batch.

    A scale is the float32 nearest to ``out / in``, the number that ONNX Runtime derives from sizes itself, and it is
    only taken if ``floor(in * scale)`` gives the size back.
    """
    for node in model.graph:
        if node.op_type != "Resize" or len(node.inputs) < 4 or node.inputs[3] is None or "axes" in node.attributes:
            continue
        first = node.inputs[0]
        shape = found.shapes.get(str(first.name)) if first is not None else None
        result = found.shapes.get(str(node.outputs[0].name))
        policy = node.attributes.get("keep_aspect_ratio_policy")
        mode = node.attributes.get("coordinate_transformation_mode")
        special = mode is not None and mode.value == "tf_crop_and_resize"
        if shape is None or result is None or special or (policy is not None and policy.value != "stretch"):
            continue
        scales = np.asarray(result, np.float32) / np.asarray(shape, np.float32)
        back = np.floor(np.asarray(shape, np.float32) * scales)
        if (back != np.asarray(result)).any():
            continue
        name = f"{node.name}.scales"
        while name in model.graph.initializers or name in found.shapes:
            name += "_"
        node.replace_input_with(3, None)
        node.replace_input_with(2, stored(model.graph, name, scales))
        node.resize_inputs(3)
