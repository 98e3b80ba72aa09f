"""TensorFlow Lite's operators in ONNX, one function per kind; formats become QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, ModelError, UnsupportedOp, printable
from bitwright.network.frontends.channels_last import ChannelsLast, Held, Weights
from bitwright.network.frontends.registry import Found
from bitwright.network.frontends.tflite_file import Lite, Operation, Tensor, sizes

TARGET = "mcu-cmsis-nn"
_SAME, _ACTIVATIONS = 0, {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}
_LIMITS = {"RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0)}


class Reader:
    """The network while it is built: what each tensor of the file has become."""

    def __init__(self, lite: Lite, where: str) -> None:
        self.lite, self.where = lite, where
        self.build = ChannelsLast("")
        self.made: dict[int, Held] = {}
        self.constants: dict[int, NDArray[Any]] = {}

    def tensor(self, index: int) -> Tensor:
        """A tensor of the file."""
        return self.lite.tensors[index]

    def held(self, index: int) -> Held:
        """A tensor that the network computes, or a constant as one.

        Raises:
            BadModelFile: if nothing makes it.
        """
        if index in self.made:
            return self.made[index]
        tensor = self.tensor(index)
        weights = self.weights(index)
        if weights is None:
            raise BadModelFile(
                f"{printable(self.where)}: tensor '{printable(tensor.name)}' is used but nothing produces it. Convert the "
                "model again.",
                path=self.where,
            )
        return Held(self.build.constant(tensor.name, weights), tensor.shape)

    def weights(self, index: int) -> Weights | None:
        """A constant with its format, or None where the tensor is none."""
        tensor = self.tensor(index)
        if index in self.constants:
            return Weights(self.constants[index])
        if tensor.data is None:
            return None
        if tensor.scale is None or tensor.dtype.kind == "f":
            return Weights(tensor.data.astype(np.float32) if tensor.dtype.kind == "f" else tensor.data)
        data = tensor.data.astype(np.int32) if tensor.dtype == np.int64 else tensor.data
        if tensor.dtype == np.int64 and (data != tensor.data).any():
            raise ModelError(f"Tensor '{printable(tensor.name)}' holds integers beyond 32 bits, which are not read.")
        return Weights(data, tensor.scale, tensor.zero_point, tensor.axis)

    def needed(self, index: int, operation: Operation) -> Weights:
        """A constant that an operator must have.

        Raises:
            ModelError: if the network computes it.
        """
        found = self.weights(index) if index >= 0 else None
        if found is None:
            raise ModelError(
                f"Operator {printable(operation.kind)} ('{self.title(operation)}') of {printable(self.where)} needs a "
                "constant where the network computes a tensor. It is not read."
            )
        return found

    def numbers(self, index: int, operation: Operation) -> list[int]:
        """A constant list of integers (axes, shapes)."""
        return [int(n) for n in np.ravel(self.needed(index, operation).array)]

    def title(self, operation: Operation) -> str:
        """The operator's name: it has none of its own, so that of its output."""
        return printable(self.tensor(operation.outputs[0]).name)


def build(lite: Lite, where: str) -> Found:
    """The network of a file.

    Raises:
        UnsupportedOp: naming the first operator that is not read.
    """
    unknown = [o for o in lite.operations if o.kind not in OPERATIONS]
    reader = Reader(lite, where)
    if unknown:
        kinds = ", ".join(dict.fromkeys(printable(o.kind, 40) for o in unknown))
        raise UnsupportedOp(
            f"{printable(where)} uses TensorFlow Lite operators that are not read: {kinds}; the first is "
            f"'{reader.title(unknown[0])}'. Export the network to ONNX instead, or cut that part off.",
            op=unknown[0].kind,
            layer=reader.title(unknown[0]),
        )
    notes: list[str] = []
    for index in lite.inputs:
        tensor = lite.tensors[index]
        kind = "FLOAT" if tensor.is_quantized or tensor.dtype.kind == "f" else tensor.dtype.name.upper()
        given = reader.build.input(tensor.name, (None, *tensor.shape[1:]), kind)
        reader.made[index] = _formatted(reader, given, tensor)
        if tensor.is_quantized:
            notes.append(
                f"input '{printable(tensor.name, 60)}' is {tensor.dtype.name} in the file; it is given real numbers here "
                "and rounded to that format first"
            )
    for operation in lite.operations:
        _add(reader, operation)
    for index in lite.outputs:
        reader.build.output(reader.held(index), lite.tensors[index].name)
    quantized = any(t.is_quantized and t.data is None for t in lite.tensors)
    return Found(
        reader.build.model(),
        notes=tuple(notes),
        target=TARGET if quantized else None,
        last=frozenset(reader.build.last),
    )


def _add(reader: Reader, operation: Operation) -> None:
    results = OPERATIONS[operation.kind](reader, operation)
    for index, result in zip(operation.outputs, results if isinstance(results, list) else [results], strict=False):
        if result is None:
            continue
        tensor = reader.tensor(index)
        wanted, got = tuple(sizes(tensor)), result.shape
        if tensor.shape and got[1:] != wanted[1:]:
            raise BadModelFile(
                f"{printable(reader.where)}: {printable(operation.kind)} makes '{printable(tensor.name)}' of shape "
                f"{list(got)}, and the file says {list(wanted)}. Convert the model again.",
                path=reader.where,
            )
        same = operation.kind in _MOVES and _same_format(tensor, reader.tensor(operation.inputs[0]))
        reader.made[index] = result if same else _formatted(reader, result, tensor)


def _formatted(reader: Reader, held: Held, tensor: Tensor) -> Held:
    if not tensor.is_quantized or tensor.scale is None or tensor.zero_point is None:
        return held
    if tensor.axis is not None:
        raise ModelError(f"Tensor '{printable(tensor.name)}' has a step per channel, which only constants may have.")
    return reader.build.quantized(
        held, float(tensor.scale), int(tensor.zero_point), tensor.dtype.type, tensor=tensor.name
    )


def _same_format(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.scale is not None
        and b.scale is not None
        and np.array_equal(a.scale, b.scale)
        and np.array_equal(np.asarray(a.zero_point), np.asarray(b.zero_point))
    )


# Operators that move elements: delaying a flattening past its format would lose the order.
_MOVES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "FLATTEN"})


def _name(reader: Reader, operation: Operation) -> str:
    return reader.tensor(operation.outputs[0]).name


def _fused(operation: Operation) -> int:
    """Number of the activation that the operator's options fuse onto it; 0 for none."""
    options = operation.options
    return int(options.FusedActivationFunction()) if hasattr(options, "FusedActivationFunction") else 0


def _inner(reader: Reader, operation: Operation) -> str | None:
    """Name of what the operator makes before a fused activation: the file's name is for the activation's output."""
    return f"{_name(reader, operation)}/linear" if _fused(operation) else None


def _activated(reader: Reader, operation: Operation, held: Held) -> Held:
    """The activation that the operator's options fuse onto it."""
    option = _fused(operation)
    if not option:
        return held
    if option not in _ACTIVATIONS:
        raise UnsupportedOp(
            f"'{reader.title(operation)}' has a fused activation that is not read (number {option} of the schema).",
            op=operation.kind,
            layer=reader.title(operation),
        )
    name = _name(reader, operation)
    return _limited(reader, held, _ACTIVATIONS[option], f"{name}/{_ACTIVATIONS[option].lower()}", name)


def _limited(reader: Reader, held: Held, kind: str, name: str, tensor: str | None = None) -> Held:
    if kind == "RELU":
        return reader.build.unary("Relu", held, name=name, tensor=tensor)
    low, high = _LIMITS[kind]
    return reader.build.unary("Clip", held, name=name, tensor=tensor, more=[np.float32(low), np.float32(high)])


def _strides(options: Any) -> list[int]:
    return [int(options.StrideH()), int(options.StrideW())]


def _padding(options: Any) -> str:
    return "SAME" if options.Padding() == _SAME else "VALID"


def _convolution(reader: Reader, operation: Operation) -> Held:
    options, build = operation.options, reader.build
    x = build.whole(reader.held(operation.inputs[0]))
    depthwise = operation.kind == "DEPTHWISE_CONV_2D"
    given = reader.needed(operation.inputs[1], operation)
    # Stored [out, h, w, in] and, depthwise, [1, h, w, out].
    weights = given.turned((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    outputs, depth, *taps = weights.array.shape
    if x.shape[-1] % depth:
        raise ModelError(f"The weights of '{reader.title(operation)}' do not fit its input: the file is damaged.")
    bias = _bias(reader, operation, 2)
    name, hint = _name(reader, operation), reader.tensor(operation.inputs[1]).name
    held = build.window(
        "Conv",
        x,
        lambda: [build.constant(hint, weights), *([] if bias is None else [build.constant(f"{name}/bias", bias)])],
        taps=taps,
        strides=_strides(options),
        dilations=[int(options.DilationHFactor()), int(options.DilationWFactor())],
        padding=_padding(options),
        channels=outputs,
        name=name,
        tensor=_inner(reader, operation),
        group=x.shape[-1] // depth,
    )
    return _activated(reader, operation, held)


def _bias(reader: Reader, operation: Operation, position: int) -> Weights | None:
    if len(operation.inputs) <= position or operation.inputs[position] < 0:
        return None
    return reader.needed(operation.inputs[position], operation)


def _transposed(reader: Reader, operation: Operation) -> Held:
    options, build = operation.options, reader.build
    size = reader.numbers(operation.inputs[0], operation)
    weights = reader.needed(operation.inputs[1], operation).turned((3, 0, 1, 2))
    x = build.as_first(reader.held(operation.inputs[2]))
    bias = _bias(reader, operation, 3)
    name, hint = _name(reader, operation), reader.tensor(operation.inputs[1]).name
    taps, strides = weights.array.shape[2:], _strides(options)
    spare = [s * (n - 1) + k - out for n, s, k, out in zip(x.shape[1:-1], strides, taps, size[1:-1], strict=True)]
    pads = [max(t, 0) // 2 for t in spare] + [max(t, 0) - max(t, 0) // 2 for t in spare]
    inputs = [x.value, build.constant(hint, weights)]
    if bias is not None:
        inputs.append(build.constant(f"{name}/bias", bias))
    attributes = {
        "kernel_shape": list(taps),
        "strides": strides,
        "pads": pads,
        "output_padding": [max(-t, 0) for t in spare],
    }
    value = build.node("ConvTranspose", inputs, attributes, name=name, tensor=_inner(reader, operation))
    held = build.held(value, (1, *size[1:-1], weights.array.shape[1]), first=True)
    return _activated(reader, operation, held)


def _pool(reader: Reader, operation: Operation) -> Held:
    options, x = operation.options, reader.held(operation.inputs[0])
    held = reader.build.window(
        "AveragePool" if operation.kind == "AVERAGE_POOL_2D" else "MaxPool",
        x,
        list,
        taps=[int(options.FilterHeight()), int(options.FilterWidth())],
        strides=_strides(options),
        padding=_padding(options),
        channels=x.shape[-1],
        name=_name(reader, operation),
        tensor=_inner(reader, operation),
    )
    return _activated(reader, operation, held)


def _dense(reader: Reader, operation: Operation) -> Held:
    options, build = operation.options, reader.build
    x = reader.held(operation.inputs[0])
    weights = reader.needed(operation.inputs[1], operation)
    name = _name(reader, operation)
    if options.WeightsFormat():
        raise UnsupportedOp(f"'{reader.title(operation)}' has shuffled weights, which are not read.", op=operation.kind)
    if weights.array.ndim != 2:
        raise ModelError(f"'{reader.title(operation)}' has weights of {weights.array.ndim} axes: the file is damaged.")
    if not options.KeepNumDims() and len(x.shape) > 2:
        x = build.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))), name=f"{name}/flatten")
    hint = reader.tensor(operation.inputs[1]).name
    inner = _inner(reader, operation)
    held = build.dense(x, weights, _bias(reader, operation, 2), name=name, tensor=inner, hint=hint)
    return _activated(reader, operation, held)


def _binary(op: str) -> Callable[[Reader, Operation], Held]:
    def add(reader: Reader, operation: Operation) -> Held:
        parts: list[Held | Weights | NDArray[Any] | np.generic] = []
        for index in operation.inputs:
            constant = None if index in reader.made else reader.weights(index)
            parts.append(constant if constant is not None else reader.held(index))
        held = reader.build.elementwise(op, parts, name=_name(reader, operation), tensor=_inner(reader, operation))
        return _activated(reader, operation, held)

    return add


def _unary(op: str, attributes: Mapping[str, Any] | None = None) -> Callable[[Reader, Operation], Held]:
    def add(reader: Reader, operation: Operation) -> Held:
        return reader.build.unary(op, reader.held(operation.inputs[0]), attributes, name=_name(reader, operation))

    return add


def _relu(reader: Reader, operation: Operation) -> Held:
    return _limited(reader, reader.held(operation.inputs[0]), operation.kind, _name(reader, operation))


def _leaky(reader: Reader, operation: Operation) -> Held:
    alpha = float(operation.options.Alpha())
    return reader.build.unary(
        "LeakyRelu", reader.held(operation.inputs[0]), {"alpha": alpha}, name=_name(reader, operation)
    )


def _gelu(reader: Reader, operation: Operation) -> Held:
    how = "tanh" if operation.options is not None and operation.options.Approximate() else "none"
    return reader.build.unary(
        "Gelu", reader.held(operation.inputs[0]), {"approximate": how}, name=_name(reader, operation)
    )


def _softmax(op: str) -> Callable[[Reader, Operation], Held]:
    def add(reader: Reader, operation: Operation) -> Held:
        x, name = reader.held(operation.inputs[0]), _name(reader, operation)
        beta = float(operation.options.Beta()) if operation.options is not None else 1.0
        if beta != 1.0:
            x = reader.build.elementwise("Mul", [x, np.float32(beta)], name=f"{name}/beta")
        return reader.build.along(op, x, -1, name=name)

    return add


def _reshape(reader: Reader, operation: Operation) -> Held:
    x = reader.held(operation.inputs[0])
    return reader.build.reshape(x, sizes(reader.tensor(operation.outputs[0])), name=_name(reader, operation))


def _concat(reader: Reader, operation: Operation) -> Held:
    parts = [reader.held(i) for i in operation.inputs]
    axis, name = int(operation.options.Axis()), _name(reader, operation)
    held = reader.build.concat(parts, axis, name=name, tensor=_inner(reader, operation))
    return _activated(reader, operation, held)


def _pad(reader: Reader, operation: Operation) -> Held:
    x = reader.held(operation.inputs[0])
    pads = np.reshape(reader.numbers(operation.inputs[1], operation), (-1, 2)).tolist()
    fill, mode = 0.0, "constant"
    if len(operation.inputs) > 2:
        given = reader.needed(operation.inputs[2], operation)
        zero = 0 if given.zero_point is None else given.zero_point
        fill = float(np.ravel((given.array - zero) * (1 if given.scale is None else given.scale))[0])
    if operation.kind == "MIRROR_PAD":
        if operation.options.Mode():
            raise UnsupportedOp(f"'{reader.title(operation)}' pads symmetrically, which is not read.", op="MIRROR_PAD")
        mode = "reflect"
    return reader.build.pad(x, pads, name=_name(reader, operation), mode=mode, fill=fill)


def _reduce(op: str) -> Callable[[Reader, Operation], Held]:
    def add(reader: Reader, operation: Operation) -> Held:
        axes = reader.numbers(operation.inputs[1], operation)
        keep = bool(operation.options.KeepDims())
        x = reader.held(operation.inputs[0])
        return reader.build.reduce(op, x, axes, keep=keep, name=_name(reader, operation))

    return add


def _resize(reader: Reader, operation: Operation) -> Held:
    options = operation.options
    size = reader.numbers(operation.inputs[1], operation)
    mode = "align_corners" if options.AlignCorners() else "half_pixel" if options.HalfPixelCenters() else "asymmetric"
    attributes: dict[str, Any] = {"coordinate_transformation_mode": mode, "mode": "linear"}
    if operation.kind == "RESIZE_NEAREST_NEIGHBOR":
        # Half pixel: floor((i + 1/2) · scale) is ((i + 1/2) · scale - 1/2) rounded up at ties.
        nearest = "floor" if mode == "asymmetric" else "round_prefer_ceil"
        attributes |= {"mode": "nearest", "nearest_mode": nearest}
    return reader.build.resize(reader.held(operation.inputs[0]), size, attributes, name=_name(reader, operation))


def _transpose(reader: Reader, operation: Operation) -> Held:
    order = reader.numbers(operation.inputs[1], operation)
    return reader.build.transpose(reader.held(operation.inputs[0]), order, name=_name(reader, operation))


def _strided(reader: Reader, operation: Operation) -> Held:
    x, options = reader.held(operation.inputs[0]), operation.options
    begin, end, step = (reader.numbers(i, operation) for i in operation.inputs[1:4])
    if options.EllipsisMask() or options.NewAxisMask():
        raise UnsupportedOp(f"'{reader.title(operation)}' slices with new axes, which is not read.", op="STRIDED_SLICE")
    gone, starts, ends, steps = [], [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    for i, (b, e, s) in enumerate(zip(begin, end, step, strict=True)):
        single = bool(options.ShrinkAxisMask() >> i & 1)
        low = None if options.BeginMask() >> i & 1 else b
        high = None if options.EndMask() >> i & 1 else e
        chosen = range(x.shape[i])[slice(low, high, s)] if not single else [range(x.shape[i])[b]]
        if s < 1 or not len(chosen) or (i == 0 and (single or len(chosen) != x.shape[0])):
            raise UnsupportedOp(f"'{reader.title(operation)}' slices in a way that is not read.", op="STRIDED_SLICE")
        starts[i], ends[i], steps[i] = chosen[0], chosen[-1] + 1, s
        if single:
            gone.append(i)
    held = reader.build.slice(x, starts, ends, steps, name=_name(reader, operation))
    if not gone:
        return held
    shape = [n for i, n in enumerate(held.shape) if i not in gone]
    return reader.build.reshape(held, shape, name=f"{_name(reader, operation)}/squeeze")


def _slice(reader: Reader, operation: Operation) -> Held:
    x = reader.held(operation.inputs[0])
    begin, size = (reader.numbers(i, operation) for i in operation.inputs[1:3])
    end = [n if s < 0 else b + s for b, s, n in zip(begin, size, x.shape, strict=True)]
    return reader.build.slice(x, begin, end, [1] * len(begin), name=_name(reader, operation))


def _split(reader: Reader, operation: Operation) -> Sequence[Held]:
    axis = reader.numbers(operation.inputs[0], operation)[0]
    x = reader.build.whole(reader.held(operation.inputs[1]))
    axis %= len(x.shape)
    found, at = [], 0
    for index in operation.outputs:
        tensor = reader.tensor(index)
        begin, end = [0] * len(x.shape), list(x.shape)
        begin[axis], end[axis] = at, at + tensor.shape[axis]
        at = end[axis]
        found.append(reader.build.slice(x, begin, end, [1] * len(begin), name=tensor.name))
    return found


def _blocks(op: str) -> Callable[[Reader, Operation], Held]:
    def add(reader: Reader, operation: Operation) -> Held:
        x, size = reader.build.as_first(reader.held(operation.inputs[0])), int(operation.options.BlockSize())
        n, h, w, c = x.shape
        into = op == "SpaceToDepth"
        shape = (n, h // size, w // size, c * size**2) if into else (n, h * size, w * size, c // size**2)
        value = reader.build.node(op, [x.value], {"blocksize": size}, name=_name(reader, operation))
        return reader.build.held(value, shape, first=True)

    return add


def _convert(reader: Reader, operation: Operation) -> Held | None:
    """QUANTIZE and DEQUANTIZE: a constant becomes real numbers, a tensor stays as it is and gets the output's format."""
    index = operation.inputs[0]
    constant = None if index in reader.made else reader.weights(index)
    if constant is None:
        return reader.held(index)
    real: NDArray[Any] = constant.array.astype(np.float32)
    if constant.scale is not None:
        shape = [1] * real.ndim
        if constant.axis is not None:
            shape[constant.axis] = -1
        zero = np.zeros(()) if constant.zero_point is None else constant.zero_point
        real = (real - zero.reshape(shape if zero.ndim else ())) * constant.scale.reshape(shape if zero.ndim else ())
    reader.constants[operation.outputs[0]] = np.asarray(real, np.float32)
    return None


def _prelu(reader: Reader, operation: Operation) -> Held:
    x = reader.build.whole(reader.held(operation.inputs[0]))
    slope = reader.needed(operation.inputs[1], operation)
    real: NDArray[Any] = slope.array.astype(np.float32)
    if slope.scale is not None and slope.zero_point is not None:
        real = (real - slope.zero_point) * slope.scale
    whole = np.asarray(real, np.float32).reshape((1,) * (len(x.shape) - real.ndim) + real.shape)
    if x.first:
        whole = np.moveaxis(whole, -1, 1)
    value = reader.build.node(
        "PRelu", [x.value, reader.build.constant(f"{_name(reader, operation)}/slope", Weights(whole[0]))],
        name=_name(reader, operation),
    )  # fmt: skip
    return reader.build.held(value, x.shape, first=x.first)


OPERATIONS: Mapping[str, Callable[[Reader, Operation], Any]] = {
    "ABS": _unary("Abs"),
    "ADD": _binary("Add"),
    "AVERAGE_POOL_2D": _pool,
    "CEIL": _unary("Ceil"),
    "CONCATENATION": _concat,
    "CONV_2D": _convolution,
    "COS": _unary("Cos"),
    "DEPTHWISE_CONV_2D": _convolution,
    "DEPTH_TO_SPACE": _blocks("DepthToSpace"),
    "DEQUANTIZE": _convert,
    "DIV": _binary("Div"),
    "ELU": _unary("Elu"),
    "EXP": _unary("Exp"),
    "EXPAND_DIMS": _reshape,
    "FLOOR": _unary("Floor"),
    "FULLY_CONNECTED": _dense,
    "GELU": _gelu,
    "HARD_SWISH": _unary("HardSwish"),
    "LEAKY_RELU": _leaky,
    "LOG": _unary("Log"),
    "LOGISTIC": _unary("Sigmoid"),
    "LOG_SOFTMAX": _softmax("LogSoftmax"),
    "MAXIMUM": _binary("Max"),
    "MAX_POOL_2D": _pool,
    "MEAN": _reduce("ReduceMean"),
    "MINIMUM": _binary("Min"),
    "MIRROR_PAD": _pad,
    "MUL": _binary("Mul"),
    "NEG": _unary("Neg"),
    "PAD": _pad,
    "PADV2": _pad,
    "PRELU": _prelu,
    "QUANTIZE": _convert,
    "REDUCE_MAX": _reduce("ReduceMax"),
    "RELU": _relu,
    "RELU6": _relu,
    "RELU_0_TO_1": _relu,
    "RELU_N1_TO_1": _relu,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SIN": _unary("Sin"),
    "SLICE": _slice,
    "SOFTMAX": _softmax("Softmax"),
    "SPACE_TO_DEPTH": _blocks("SpaceToDepth"),
    "SPLIT": _split,
    "SQRT": _unary("Sqrt"),
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided,
    "SUB": _binary("Sub"),
    "SUM": _reduce("ReduceSum"),
    "TANH": _unary("Tanh"),
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transposed,
}
"""Kind → what makes it; the outputs, in order, or None where there is nothing to compute."""
