"""One normal form: what older opsets wrote as attributes becomes inputs, as in opset 18.

Files of opset 7 to 17 are rewritten node by node, in place: names, metadata and doc strings stay (which
``onnx.version_converter`` loses), and nothing is serialized, so a network of any size can pass.  Files of opset 18
and later already have this form.  Sources: the ONNX operator changelog, and for the first ``Resize`` and ``Upsample``
(whose text was vague) ONNX Runtime's kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bitwright.errors import ModelError, printable
from bitwright.network.values import stored

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.shapes import Shape

NORMAL_OPSET = 18


class Rewriter:
    """What a rewriting rule may do: read the node's opset and shapes, make constants and nodes beside the node."""

    def __init__(self, graph: ir.Graph, opset: int, shapes: Mapping[str, Shape], names: set[str]) -> None:
        self.graph, self.opset, self.shapes, self._names = graph, opset, shapes, names

    def shape(self, value: ir.Value | None) -> Shape | None:
        """The shape of ``value``, or None."""
        return None if value is None else self.shapes.get(str(value.name))

    def constant(self, node: ir.Node, role: str, array: ArrayLike) -> ir.Value:
        """A new initializer that belongs to ``node``."""
        return stored(self.graph, self.fresh(f"{node.name or node.op_type}.{role}"), array)

    def fresh(self, name: str) -> str:
        """A tensor name that nobody has."""
        from bitwright.network.names import fresh

        name = fresh(name, self._names)
        self._names.add(name)
        return name

    def take(self, node: ir.Node, name: str, default: Any = None) -> Any:
        """Remove an attribute and return its value."""
        attribute = node.attributes.pop(name, None)
        return default if attribute is None else attribute.value

    def set_inputs(self, node: ir.Node, *inputs: ir.Value | None) -> None:
        """Give ``node`` exactly these inputs."""
        node.resize_inputs(len(inputs))
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)


def normalize(model: ir.Model, shapes: Mapping[str, Shape]) -> None:
    """Rewrite ``model`` to opset 18 in place if it is older.

    Args:
        model: Any opset from 7 on.
        shapes: Tensor name → shape, needed only for Softmax of opset 12 and older.

    Raises:
        ModelError: if a node of an old opset has no equal in opset 18.
    """
    opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
    if opset >= NORMAL_OPSET or opset == 0:
        return
    for graph in graphs(model):
        names = {str(v.name) for v in graph.inputs} | set(graph.initializers)
        names |= {str(v.name) for node in graph for v in node.outputs}
        rewriter = Rewriter(graph, opset, shapes, names)
        for node in list(graph):
            rule = _RULES.get(node.op_type)
            if rule is not None and node.domain in {"", "ai.onnx"}:
                rule(node, rewriter)
        graph.opset_imports.pop("ai.onnx", None)
        if graph is model.graph or graph.opset_imports:
            graph.opset_imports[""] = NORMAL_OPSET
        for node in graph:
            if node.domain in {"", "ai.onnx"}:
                node.version = None


def explicit_casts(model: ir.Model, types: Mapping[str, int]) -> None:
    """Replace CastLike by Cast, in place, where the type is known: its second input is no data, but looks like it."""
    import onnx_ir as ir

    for node in model.graph:
        like = node.inputs[1] if node.op_type == "CastLike" and not node.domain else None
        if like is not None and str(like.name) in types:
            node.op_type = "Cast"
            node.resize_inputs(1)
            node.attributes["to"] = ir.AttrInt64("to", types[str(like.name)])


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and every subgraph."""
    import onnx_ir as ir

    todo = [model.graph]
    for graph in todo:
        yield graph
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    todo.append(attribute.value)
                elif attribute.type == ir.AttributeType.GRAPHS:
                    todo.extend(attribute.value)


def _ints(values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(values, np.int64).reshape(-1)


def _axes_to_input(since: int) -> Callable[[ir.Node, Rewriter], None]:
    def rule(node: ir.Node, to: Rewriter) -> None:
        if to.opset < since and (axes := to.take(node, "axes")) is not None:
            to.set_inputs(node, node.inputs[0], to.constant(node, "axes", _ints(axes)))

    return rule


def _split(node: ir.Node, to: Rewriter) -> None:
    sizes = to.take(node, "split") if to.opset < 13 else None
    if sizes is not None:
        to.set_inputs(node, node.inputs[0], to.constant(node, "split", _ints(sizes)))
    elif len(node.inputs) < 2 or node.inputs[1] is None:
        import onnx_ir as ir

        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _clip(node: ir.Node, to: Rewriter) -> None:
    if to.opset >= 11:
        return
    low, high = to.take(node, "min"), to.take(node, "max")
    limits = [
        None if v is None or abs(v) >= 3.4e38 else to.constant(node, role, np.float32(v))
        for v, role in ((low, "min"), (high, "max"))
    ]
    to.set_inputs(node, node.inputs[0], *limits)


def _pad(node: ir.Node, to: Rewriter) -> None:
    if to.opset >= 11:
        return
    pads, value = to.take(node, "pads"), to.take(node, "value", 0.0)
    to.set_inputs(
        node,
        node.inputs[0],
        to.constant(node, "pads", _ints(pads)),
        to.constant(node, "value", np.float32(value)),
    )


def _slice(node: ir.Node, to: Rewriter) -> None:
    if to.opset >= 10:
        return
    starts, ends, axes = to.take(node, "starts"), to.take(node, "ends"), to.take(node, "axes")
    axes = range(len(starts)) if axes is None else axes
    inputs = [to.constant(node, role, _ints(v)) for role, v in (("starts", starts), ("ends", ends), ("axes", axes))]
    to.set_inputs(node, node.inputs[0], *inputs)


def _topk(node: ir.Node, to: Rewriter) -> None:
    if to.opset < 10:
        to.set_inputs(node, node.inputs[0], to.constant(node, "k", _ints(to.take(node, "k"))))


def _dropout(node: ir.Node, to: Rewriter) -> None:
    if to.opset < 12:
        to.take(node, "ratio")  # only training looks at it


def _batch_norm(node: ir.Node, to: Rewriter) -> None:
    if to.opset < 9 and to.take(node, "spatial", 1) == 0:
        raise ModelError(
            f"Layer '{printable(node.name)}' is a BatchNormalization with spatial=0 (a mean per pixel), which newer "
            "ONNX no longer has. Export the model with opset 9 or later."
        )
    if to.opset < 14 and len(node.outputs) > 1:
        # The further outputs were for training; their number and order changed.
        if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
            raise ModelError(
                f"Layer '{printable(node.name)}' is a BatchNormalization in training mode. Export the model for inference."
            )
        node.resize_outputs(1)


def _upsample(node: ir.Node, to: Rewriter) -> None:
    import onnx_ir as ir

    scales = node.inputs[1] if to.opset >= 9 else to.constant(node, "scales", np.float32(to.take(node, "scales")))
    to.set_inputs(node, node.inputs[0], None, scales)
    node.op_type = "Resize"
    _old_resize_attributes(node, ir.AttrString("nearest_mode", "floor"))


def _resize(node: ir.Node, to: Rewriter) -> None:
    import onnx_ir as ir

    if to.opset < 11:
        scales = node.inputs[1]
        array = None if scales is None or scales.const_value is None else scales.const_value.numpy()
        shrinks = array is not None and bool((np.asarray(array) < 1).any())
        to.set_inputs(node, node.inputs[0], None, scales)
        _old_resize_attributes(node, ir.AttrString("nearest_mode", "ceil" if shrinks else "floor"))
        return
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode is not None and mode.value == "tf_half_pixel_for_nn":
        nearest = node.attributes.get("nearest_mode")
        if nearest is None or nearest.value != "floor":
            raise ModelError(
                f"Layer '{printable(node.name)}' is a Resize with tf_half_pixel_for_nn, which newer ONNX no longer has. "
                "Export the model with opset 13 or later."
            )
        # floor((i + 0.5)·s) = round-half-up((i + 0.5)·s - 0.5)
        node.attributes["coordinate_transformation_mode"] = ir.AttrString(
            "coordinate_transformation_mode", "half_pixel"
        )
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "round_prefer_ceil")
    # Opset 11 wrote "not given" as an empty tensor.
    for index, value in enumerate(node.inputs):
        if index and value is not None and value.const_value is not None and value.const_value.size == 0:
            node.replace_input_with(index, None)


def _old_resize_attributes(node: ir.Node, nearest: ir.Attr) -> None:
    import onnx_ir as ir

    mode = "coordinate_transformation_mode"
    node.attributes[mode] = ir.AttrString(mode, "asymmetric")
    if node.attributes["mode"].value == "nearest" if "mode" in node.attributes else True:
        node.attributes["nearest_mode"] = nearest


def _softmax(node: ir.Node, to: Rewriter) -> None:
    """Until opset 12 all axes from ``axis`` on were flattened into one; since 13 only ``axis`` itself counts."""
    import onnx_ir as ir

    if to.opset >= 13:
        return
    axis = to.take(node, "axis", 1)
    shape = to.shape(node.inputs[0])
    if shape is None:
        raise ModelError(
            f"Layer '{printable(node.name)}' is a {node.op_type} of opset {to.opset} on a tensor of unknown rank. "
            "Export the model with opset 13 or later."
        )
    axis += len(shape) if axis < 0 else 0
    rest = [i for i in range(axis, len(shape)) if shape[i] != 1]
    if len(rest) <= 1:
        node.attributes["axis"] = ir.AttrInt64("axis", rest[0] if rest else min(axis, len(shape) - 1))
        return
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
    data, result = node.inputs[0], node.outputs[0]
    flat_shape = [0] * axis + [-1]
    flat = _insert(node, to, "Reshape", [data, to.constant(node, "flat", _ints(flat_shape))], "flattened")
    to.set_inputs(node, flat)
    # The result keeps its name: downstream nodes and graph outputs refer to the unflattened one.
    inner = ir.Value(name=to.fresh(f"{result.name}.flat"), type=result.type)
    back = [0] * axis + list(shape[axis:])
    restored = ir.node("Reshape", [inner, to.constant(node, "back", _ints(back))], name=f"{node.name}.unflatten")
    restored.outputs[0].name = to.fresh(f"{result.name}.restored")
    result.replace_all_uses_with(restored.outputs[0], replace_graph_outputs=True)
    result.name, restored.outputs[0].name = inner.name, result.name
    restored.replace_input_with(0, result)
    restored.metadata_props.update(node.metadata_props)
    to.graph.insert_after(node, restored)


def _insert(node: ir.Node, to: Rewriter, op: str, inputs: list[ir.Value | None], role: str) -> ir.Value:
    import onnx_ir as ir

    new = ir.node(op, inputs, name=f"{node.name}.{role}")
    new.outputs[0].name = to.fresh(f"{node.name}.{role}")
    new.metadata_props.update(node.metadata_props)
    to.graph.insert_before(node, new)
    return new.outputs[0]


def _scatter(node: ir.Node, to: Rewriter) -> None:
    if to.opset < 11:
        node.op_type = "ScatterElements"


_RULES: dict[str, Callable[[Any, Rewriter], None]] = {
    "Squeeze": _axes_to_input(13),
    "Unsqueeze": _axes_to_input(13),
    "ReduceSum": _axes_to_input(13),
    **dict.fromkeys(
        [
            "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
            "ReduceLogSumExp", "ReduceSumSquare",
        ],
        _axes_to_input(18),
    ),
    "Split": _split,
    "Clip": _clip,
    "Pad": _pad,
    "Slice": _slice,
    "TopK": _topk,
    "Dropout": _dropout,
    "BatchNormalization": _batch_norm,
    "Upsample": _upsample,
    "Resize": _resize,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "Scatter": _scatter,
}  # fmt: skip
