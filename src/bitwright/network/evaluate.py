"""The value of one node whose inputs are known numbers.

Shape arithmetic (``Shape → Gather → Concat``) is evaluated by small NumPy functions below, everything else by
``onnx.reference``, the standard's own executable text.  Nothing random, no control flow, nothing of a foreign domain.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

Array = NDArray[Any]

# A file of a few bytes may ask for a tensor of terabytes (ConstantOfShape, Expand, Range, Tile).
LARGEST_RESULT = 1 << 24

_NEVER = frozenset(
    {
        "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
        "If", "Loop", "Scan", "SequenceMap", "Optional", "SequenceConstruct", "SequenceEmpty", "SplitToSequence",
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ImageDecoder", "StringNormalizer",
    }
)  # fmt: skip
_GROWS = frozenset({"ConstantOfShape", "Expand", "Range", "Tile", "Resize", "Upsample", "Pad", "OneHot", "EyeLike"})


def can_evaluate(node: ir.Node) -> bool:
    """Whether the result of ``node`` follows from its inputs and may be computed here."""
    return node.domain in {"", "ai.onnx"} and node.op_type not in _NEVER


def constant_of(node: ir.Node) -> Array | None:
    """The value of a ``Constant`` node; None for strings and sparse tensors."""
    import onnx_ir as ir

    for name, attribute in node.attributes.items():
        if name == "value" and attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.value
            return None if tensor.dtype == ir.DataType.STRING else np.asarray(tensor.numpy())
        if name in {"value_float", "value_floats"}:
            return np.asarray(attribute.value, np.float32)
        if name in {"value_int", "value_ints"}:
            return np.asarray(attribute.value, np.int64)
    return None


def evaluate(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> tuple[Array, ...] | None:
    """The outputs of ``node`` for ``inputs``, or None if they cannot be computed here.

    A result larger than both ``LARGEST_RESULT`` elements and four times the inputs is refused, so that a small file
    cannot fill the memory.
    """
    if not can_evaluate(node):
        return None
    if node.op_type == "Constant":
        value = constant_of(node)
        return None if value is None else (value,)
    if node.op_type in _GROWS and _result_size(node, inputs) > max(
        LARGEST_RESULT, 4 * sum(x.size for x in inputs if x is not None)
    ):
        return None
    function = _SIMPLE.get(node.op_type)
    try:
        # Divisions by zero and overflows of constants give the infinities that ONNX Runtime would give.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            if function is not None:
                result = function(node, inputs)
                if result is not None:
                    return (np.asarray(result),)
            return _by_reference(node, inputs, opset)
    except Exception:  # whatever a foreign node does wrong, it is then left in the graph for ONNX Runtime to judge
        return None


def _by_reference(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> tuple[Array, ...] | None:
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    proto = ir.to_proto(node)
    names = [f"i{k}" if x is not None else "" for k, x in enumerate(inputs)]
    del proto.input[:]
    proto.input.extend(names)
    wanted = [f"o{k}" if v.name else "" for k, v in enumerate(node.outputs)]
    del proto.output[:]
    proto.output.extend(wanted)
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
        if x is not None
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in wanted if n]
    graph = onnx.helper.make_graph([proto], "one", infos, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {n: x for n, x in zip(names, inputs, strict=True) if x is not None}
    results = ReferenceEvaluator(model).run(None, feeds)
    arrays = tuple(np.asarray(r) for r in results)
    if any(a.dtype == object for a in arrays):
        return None
    return arrays if len(arrays) == len(wanted) else None


def _result_size(node: ir.Node, inputs: Sequence[Array | None]) -> float:
    """How many elements a growing operator would make; infinity if that is not obvious."""
    first = inputs[0] if inputs else None
    second = inputs[1] if len(inputs) > 1 else None
    if first is None:
        return float("inf")
    match node.op_type:
        case "ConstantOfShape":
            return float(np.prod(first.astype(np.float64)))
        case "Expand" if second is not None:
            return float(first.size * np.prod(second.astype(np.float64)))
        case "Tile" if second is not None:
            return float(first.size * np.prod(second.astype(np.float64)))
        case "Range" if second is not None and len(inputs) > 2 and inputs[2] is not None:
            step = float(inputs[2])
            return abs(float(second) - float(first)) / abs(step) if step else float("inf")
        case "Pad" if second is not None and second.size == 2 * first.ndim:
            before, after = second.reshape(2, -1).astype(np.float64)
            return float(np.prod(np.asarray(first.shape) + before + after))
        case "EyeLike":
            return float(first.size)
    return float("inf")


def _attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _gather(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    data, indices = x[0], x[1]
    assert data is not None
    assert indices is not None
    return np.take(data, indices, axis=_attribute(node, "axis", 0))


def _slice(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    if len(x) < 3:
        return None
    data, starts, ends = x[0], x[1], x[2]
    assert data is not None
    assert starts is not None
    assert ends is not None
    axes = x[3] if len(x) > 3 and x[3] is not None else np.arange(starts.size)
    steps = x[4] if len(x) > 4 and x[4] is not None else np.ones(starts.size, np.int64)
    index: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = data.shape[int(axis)]
        low, high = int(start), int(end)
        # A negative end beyond the front means "to the very front" when walking backwards; Python spells that None.
        stop = None if step < 0 and high < -size else high
        index[int(axis)] = slice(low, stop, int(step))
    return data[tuple(index)]


def _squeeze(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    data = x[0]
    assert data is not None
    axes = x[1] if len(x) > 1 and x[1] is not None else _attribute(node, "axes")
    return np.squeeze(data) if axes is None else np.squeeze(data, tuple(int(a) for a in axes))


def _unsqueeze(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    data = x[0]
    assert data is not None
    axes = x[1] if len(x) > 1 and x[1] is not None else _attribute(node, "axes")
    return np.expand_dims(data, tuple(int(a) for a in axes))


def _reshape(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    data, target = x[0], x[1]
    assert data is not None
    assert target is not None
    shape = [int(d) for d in target]
    if not _attribute(node, "allowzero", 0):
        shape = [data.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return data.reshape(shape)


def _cast(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    import onnx_ir as ir

    data = x[0]
    assert data is not None
    to = ir.DataType(_attribute(node, "to"))
    if to in {ir.DataType.STRING, ir.DataType.BFLOAT16} or to.bitwidth < 8 or data.dtype.kind not in "biuf":
        return None
    return data.astype(to.numpy())


def _constant_of_shape(node: ir.Node, x: Sequence[Array | None]) -> Array | None:
    shape = x[0]
    assert shape is not None
    value = _attribute(node, "value")
    fill = np.zeros(1, np.float32) if value is None else np.asarray(value.numpy())
    return np.full([int(d) for d in shape], fill.reshape(-1)[0], fill.dtype)


def _divide(_: ir.Node, x: Sequence[Array | None]) -> Array | None:
    a, b = x[0], x[1]
    assert a is not None
    assert b is not None
    if a.dtype.kind != "f":
        # ONNX divides integers toward zero; NumPy's // floors.
        return None if (b == 0).any() else (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[ir.Node, Sequence[Array | None]], Array | None]:
    return lambda _, x: function(x[0], x[1])


def _where(_: ir.Node, x: Sequence[Array | None]) -> Array | None:
    condition, a, b = x
    assert condition is not None
    assert a is not None
    assert b is not None
    return np.asarray(np.where(condition, a, b))


def _range(_: ir.Node, x: Sequence[Array | None]) -> Array | None:
    start, limit, delta = x
    assert start is not None
    assert limit is not None
    assert delta is not None
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _expand(_: ir.Node, x: Sequence[Array | None]) -> Array | None:
    data, target = x[0], x[1]
    assert data is not None
    assert target is not None
    shape = np.broadcast_shapes(data.shape, tuple(int(d) for d in target))
    return np.array(np.broadcast_to(data, shape))


_SIMPLE: dict[str, Callable[[Any, Sequence[Array | None]], Array | None]] = {
    "Identity": lambda _, x: x[0],
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Cast": _cast,
    "ConstantOfShape": _constant_of_shape,
    "Concat": lambda n, x: np.concatenate([a for a in x if a is not None], axis=_attribute(n, "axis")),
    "Transpose": lambda n, x: np.transpose(np.asarray(x[0]), _attribute(n, "perm")),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divide,
    "Equal": _binary(np.equal),
    "Where": _where,
    "Range": _range,
    "Expand": _expand,
}
