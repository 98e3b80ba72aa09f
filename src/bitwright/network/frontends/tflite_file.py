"""TensorFlow Lite: the flatbuffer read into plain values, every number checked, and the network made of it.

Format: tensorflow/lite/schema/schema.fbs; meaning of the 8-bit tensors: the LiteRT 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, ModelError, ToolMissing, printable
from bitwright.network.frontends.registry import Found

INSTALL = "pip install 'bitwright[tflite]'"
TYPES = {
    0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 6: np.bool_, 7: np.int16, 9: np.int8,
    10: np.float64,
}  # fmt: skip
QUANTIZED = (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int16))


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file.

    Attributes:
        name: As the file calls it.
        shape: With the batch that the file was made for.
        dtype: Element type.
        data: Its numbers, if it is constant.
        scale: Step of its integers, one or one per index of ``axis``; None if it has none.
        zero_point: The integers that mean 0.
        axis: The axis along which the step varies, or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: NDArray[Any] | None
    scale: NDArray[np.float32] | None
    zero_point: NDArray[np.int64] | None
    axis: int | None

    @property
    def is_quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return self.scale is not None and self.dtype in QUANTIZED


@dataclass(frozen=True)
class Operation:
    """An operator of the file.

    Attributes:
        kind: Its name in the schema, or that of a custom operator.
        inputs: Indices of tensors, -1 where one is left out.
        outputs: Indices of tensors.
        options: The schema's options object, or None.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


@dataclass(frozen=True)
class Lite:
    """A file.

    Attributes:
        tensors: All of them.
        operations: In order.
        inputs: Indices of tensors.
        outputs: Indices of tensors.
    """

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_file(path: Path) -> Found:
    """A ``.tflite`` file.

    Raises:
        BadModelFile: if it is missing or damaged.
        ModelError: if it holds what is not read: operators that are unknown, several graphs, control flow.
        ToolMissing: if the package ``tflite`` is not installed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadModelFile(
            f"{printable(path)} cannot be read: {error.strerror}. Give the path of a .tflite file.", path=str(path)
        ) from error
    return read_bytes(data, str(path))


def read_bytes(data: bytes, where: str) -> Found:
    """The network in the bytes of a ``.tflite`` file; see :func:`read_file`."""
    from bitwright.network.frontends.tflite_ops import build

    try:
        lite = parse(data, where)
    except (BadModelFile, ModelError, ToolMissing):
        raise
    except Exception as error:  # flatbuffers has no checks: offsets that lead nowhere raise whatever they hit
        raise BadModelFile(
            f"{printable(where)} is no TensorFlow Lite file or is damaged ({type(error).__name__}: "
            f"{printable(error, 120)}). Convert or download it again.",
            path=where,
        ) from error
    return build(lite, where)


def parse(data: bytes, where: str) -> Lite:
    """The flatbuffer as plain values.

    Raises:
        BadModelFile: if it contradicts itself.
    """
    try:
        import tflite
    except ImportError as error:
        raise ToolMissing(
            f"The package that reads TensorFlow Lite files is not installed: {INSTALL}", tool="tflite", install=INSTALL
        ) from error

    def damaged(why: str) -> BadModelFile:
        return BadModelFile(
            f"{printable(where)} is no TensorFlow Lite file or is damaged: {why}. Convert or download it again.",
            path=where,
        )

    if len(data) < 8 or data[4:8] != b"TFL3":
        raise damaged("it does not start as one")
    model = tflite.Model.GetRootAsModel(data, 0)
    if model.SubgraphsLength() != 1:
        raise ModelError(
            f"{printable(where)} holds {model.SubgraphsLength()} graphs, so it has control flow or several signatures. "
            "Convert it again with one signature and without control flow."
        )
    graph = model.Subgraphs(0)
    # Every element of a list takes at least 4 bytes, so a length beyond the file is damage (and hours of reading).
    lengths = [graph.TensorsLength(), graph.OperatorsLength(), model.BuffersLength(), model.OperatorCodesLength()]
    if max(lengths) > len(data) // 4:
        raise damaged("it says to hold more than it can")
    tensors = tuple(_tensor(model, graph.Tensors(i), damaged) for i in range(graph.TensorsLength()))
    kinds = {
        number: name
        for name, number in vars(tflite.BuiltinOperator).items()
        if isinstance(number, int) and name.isupper()
    }
    operations = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = kinds.get(number, f"operator {number}")
        if kind == "CUSTOM":
            kind = _text(code.CustomCode())
        inputs = tuple(int(operator.Inputs(j)) for j in range(operator.InputsLength()))
        outputs = tuple(int(operator.Outputs(j)) for j in range(operator.OutputsLength()))
        if any(not -1 <= j < len(tensors) for j in inputs) or any(not 0 <= j < len(tensors) for j in outputs):
            raise damaged(f"operator {i} ({kind}) names a tensor that is not there")
        operations.append(Operation(kind, inputs, outputs, _options(tflite, kind, operator)))
    ends = [
        tuple(int(ask(j)) for j in range(count))
        for ask, count in ((graph.Inputs, graph.InputsLength()), (graph.Outputs, graph.OutputsLength()))
    ]
    if any(not 0 <= j < len(tensors) for end in ends for j in end) or not all(ends):
        raise damaged("its inputs or outputs are not among its tensors")
    return Lite(tensors, tuple(operations), ends[0], ends[1])


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value or "")


def _tensor(model: Any, tensor: Any, damaged: Any) -> Tensor:
    name = _text(tensor.Name())
    number = int(tensor.Type())
    if number not in TYPES:
        raise ModelError(
            f"Tensor '{printable(name)}' has an element type that is not read (number {number} of the schema). Convert "
            "the network in float or with 8 bits."
        )
    dtype = np.dtype(TYPES[number])
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    if any(n < 0 for n in shape) or len(shape) > 8:
        raise damaged(f"tensor '{printable(name)}' has the shape {printable(shape)}")
    index = int(tensor.Buffer())
    if not 0 <= index < max(model.BuffersLength(), 1):
        raise damaged(f"tensor '{printable(name)}' has no buffer")
    data = None
    if index and model.Buffers(index).DataLength():
        raw = model.Buffers(index).DataAsNumpy()
        if raw.nbytes != prod(shape) * dtype.itemsize:
            raise damaged(
                f"tensor '{printable(name)}' holds {raw.nbytes} bytes and its shape {list(shape)} needs others"
            )
        data = np.frombuffer(raw.tobytes(), dtype).reshape(shape)
    scale = zero = axis = None
    quantization = tensor.Quantization()
    if quantization is not None and quantization.ScaleLength():
        scale = np.asarray(quantization.ScaleAsNumpy(), np.float32)
        count = quantization.ZeroPointLength()
        zero = np.asarray(quantization.ZeroPointAsNumpy(), np.int64) if count else np.zeros(len(scale), np.int64)
        axis = int(quantization.QuantizedDimension()) if len(scale) > 1 else None
        if axis is not None and len(shape) == 1:
            axis = 0  # biases of old converters name the axis of their weights
        if len(zero) == 1 and len(scale) > 1:
            zero = np.repeat(zero, len(scale))
        wrong = len(zero) != len(scale) or not (np.isfinite(scale).all() and (scale >= 0).all())
        if wrong or (axis is not None and (axis >= len(shape) or shape[axis] != len(scale))):
            raise damaged(f"the quantization of tensor '{printable(name)}' contradicts itself")
        # A dead channel may have the step 0; its integers are zero, so any step will do.
        scale = np.where(scale == 0, np.float32(1), scale)
        if axis is None:
            scale, zero = scale.reshape(()), zero.reshape(())
    return Tensor(name, shape, dtype, data, scale, zero, axis)


# Operator → its options object, where the name does not follow from the operator's.
_OPTIONS = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "TRANSPOSE_CONV": "TransposeConvOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions", "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions", "FULLY_CONNECTED": "FullyConnectedOptions", "ADD": "AddOptions", "SUB": "SubOptions",
    "MUL": "MulOptions", "DIV": "DivOptions", "SOFTMAX": "SoftmaxOptions", "CONCATENATION": "ConcatenationOptions",
    "LEAKY_RELU": "LeakyReluOptions", "RESIZE_BILINEAR": "ResizeBilinearOptions", "GELU": "GeluOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions", "MIRROR_PAD": "MirrorPadOptions",
    "STRIDED_SLICE": "StridedSliceOptions", "SQUEEZE": "SqueezeOptions", "SPLIT": "SplitOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions", "SPACE_TO_DEPTH": "SpaceToDepthOptions", "BATCH_MATMUL": "BatchMatMulOptions",
}  # fmt: skip


def _options(tflite: Any, kind: str, operator: Any) -> Any:
    name = _OPTIONS.get(kind)
    table = operator.BuiltinOptions()
    if name is None or table is None:
        return None
    options = getattr(tflite, name)()
    options.Init(table.Bytes, table.Pos)
    return options


def sizes(tensor: Tensor) -> Sequence[int]:
    """The shape with a batch of 1 in front, as the builder counts."""
    return (1, *tensor.shape[1:]) if tensor.shape else ()
