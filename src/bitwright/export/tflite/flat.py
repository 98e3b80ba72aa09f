"""The ``.tflite`` file as tables: tensors, operators, buffers, packed by the schema's own functions.

Source: the TensorFlow Lite schema (``schema.fbs``, version 3) as the package ``tflite`` has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ToolMissing

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16
"""Of constants, as the schema's ``force_align`` asks."""

OLD_CODES = 127
"""Operators from this number on do not fit the field ``deprecated_builtin_code``, which then holds this number."""

# The first version of each operator that takes 8-bit integers (or has what is written here), for runtimes that check.
VERSIONS: Mapping[str, int] = {
    "ABS": 2, "ADD": 2, "ARG_MAX": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2, "EXP": 2, "FULLY_CONNECTED": 4, "GATHER": 2, "GELU": 2, "LEAKY_RELU": 2, "LOGISTIC": 2,
    "LOG_SOFTMAX": 2, "MAXIMUM": 2, "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2, "MUL": 2, "PAD": 2, "PADV2": 2,
    "QUANTIZE": 2, "REDUCE_MAX": 2, "RELU": 2, "RELU6": 2, "RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3,
    "SOFTMAX": 2, "STRIDED_SLICE": 2, "SUB": 2, "SUM": 2, "TANH": 2, "TRANSPOSE": 2, "TRANSPOSE_CONV": 3,
}  # fmt: skip

KINDS: Mapping[str, str] = {"int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float32": "FLOAT32"}


def schema() -> Any:
    """The package of the schema.

    Raises:
        ToolMissing: if it is not installed.
    """
    try:
        return import_module("tflite")
    except ImportError as error:
        raise ToolMissing(
            "Writing .tflite files needs the package tflite: pip install 'bitwright[tflite]'",
            tool="tflite",
            install="pip install 'bitwright[tflite]'",
        ) from error


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Scale and zero point of a tensor, one for all or one per index along ``axis``."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int = 0


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor: what flows, or a constant."""

    name: str
    shape: tuple[int, ...]
    kind: str
    quantization: Quantization | None = None
    data: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operator and its options, a table of the schema with its fields."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """A ``.tflite`` file under construction: one subgraph."""

    name: str
    tensors: list[Tensor] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._taken: set[str] = set()
        self._constants: dict[tuple[Any, ...], int] = {}

    def tensor(
        self, name: str, shape: Sequence[int], kind: str = "int8", quantization: Quantization | None = None
    ) -> int:
        """Add a tensor that flows; gives its index.  A name that is taken gets a number."""
        self.tensors.append(Tensor(name=self._fresh(name), shape=tuple(shape), kind=kind, quantization=quantization))
        return len(self.tensors) - 1

    def constant(self, name: str, values: NDArray[Any], quantization: Quantization | None = None) -> int:
        """Add a constant; equal ones without quantization are added once."""
        data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        key = (values.dtype.str, values.shape, data)
        if quantization is None and key in self._constants:
            return self._constants[key]
        self.tensors.append(
            Tensor(
                name=self._fresh(name),
                shape=values.shape,
                kind=str(values.dtype),
                quantization=quantization,
                data=data,
            )
        )
        if quantization is None:
            self._constants[key] = len(self.tensors) - 1
        return len(self.tensors) - 1

    def op(
        self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: str | None = None, **fields: Any
    ) -> int:
        """Add an operator; gives its first output."""
        self.operations.append(
            Operation(code=code, inputs=tuple(inputs), outputs=tuple(outputs), options=options, fields=fields)
        )
        return outputs[0]

    def _fresh(self, stem: str) -> str:
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name

    def packed(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]], description: str) -> bytes:
        """The file.

        Args:
            inputs: Names of the signature and tensors that the caller fills.
            outputs: Names and tensors of the result.
            description: Free text.

        Raises:
            ToolMissing: if the schema's package is not installed.
        """
        return _Packer(self).file(inputs, outputs, description)


class _Packer:
    """Writes a graph through the schema's functions, leaves first, as flatbuffers want it."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.schema = graph, schema()
        self.builder: Any = import_module("flatbuffers").Builder(1 << 16)

    def table(self, name: str, **fields: Any) -> int:
        """Write a table of numbers and offsets; fields are named as the schema's functions are."""
        getattr(self.schema, f"{name}Start")(self.builder)
        for key, value in fields.items():
            getattr(self.schema, f"{name}Add{key}")(self.builder, value)
        return int(getattr(self.schema, f"{name}End")(self.builder))

    def offsets(self, items: Sequence[int]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return int(self.builder.EndVector())

    def numbers(self, values: Any, dtype: str) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, np.dtype(dtype)).reshape(-1)))

    def aligned(self, data: bytes) -> int:
        self.builder.StartVector(1, len(data), ALIGNMENT)
        self.builder.head -= len(data)
        head = self.builder.Head()
        self.builder.Bytes[head : head + len(data)] = data
        return int(self.builder.EndVector())

    def file(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]], description: str) -> bytes:
        schema, graph = self.schema, self.graph
        buffers = [self.table("Buffer")]  # the first buffer is empty by convention
        places = []
        for tensor in graph.tensors:
            places.append(0 if tensor.data is None else len(buffers))
            if tensor.data is not None:
                buffers.append(self.table("Buffer", Data=self.aligned(tensor.data)))
        tensors = [self.tensor(tensor, place) for tensor, place in zip(graph.tensors, places, strict=True)]
        codes = list(dict.fromkeys(operation.code for operation in graph.operations))
        operators = [self.operator(operation, codes) for operation in graph.operations]
        name = self.builder.CreateString(graph.name)
        subgraph = self.table(
            "SubGraph",
            Tensors=self.offsets(tensors),
            Inputs=self.numbers([i for _, i in inputs], "<i4"),
            Outputs=self.numbers([i for _, i in outputs], "<i4"),
            Operators=self.offsets(operators),
            Name=name,
        )
        kinds = [
            self.table(
                "OperatorCode",
                DeprecatedBuiltinCode=min(getattr(schema.BuiltinOperator, code), OLD_CODES),
                Version=VERSIONS.get(code, 1),
                BuiltinCode=getattr(schema.BuiltinOperator, code),
            )
            for code in codes
        ]
        text = self.builder.CreateString(description)
        signature = self.signature(inputs, outputs)
        model = self.table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=self.offsets(kinds),
            Subgraphs=self.offsets([subgraph]),
            Description=text,
            Buffers=self.offsets(buffers),
            SignatureDefs=self.offsets([signature]),
        )
        self.builder.Finish(model, file_identifier=FILE_IDENTIFIER)
        return bytes(self.builder.Output())

    def tensor(self, tensor: Tensor, place: int) -> int:
        name = self.builder.CreateString(tensor.name)
        fields: dict[str, Any] = {
            "Shape": self.numbers(tensor.shape, "<i4"),
            "Type": getattr(self.schema.TensorType, KINDS[tensor.kind]),
            "Buffer": place,
            "Name": name,
        }
        if tensor.quantization is not None:
            found = tensor.quantization
            scale, zero = self.numbers(found.scale, "<f4"), self.numbers(found.zero_point, "<i8")
            fields["Quantization"] = self.table(
                "QuantizationParameters", Scale=scale, ZeroPoint=zero, QuantizedDimension=found.axis
            )
        return self.table("Tensor", **fields)

    def operator(self, operation: Operation, codes: list[str]) -> int:
        fields: dict[str, Any] = {
            "OpcodeIndex": codes.index(operation.code),
            "Inputs": self.numbers(operation.inputs, "<i4"),
            "Outputs": self.numbers(operation.outputs, "<i4"),
        }
        if operation.options is not None:
            given = {
                key: self.numbers(value, "<i4") if isinstance(value, tuple) else value
                for key, value in operation.fields.items()
            }
            fields["BuiltinOptionsType"] = getattr(self.schema.BuiltinOptions, operation.options)
            fields["BuiltinOptions"] = self.table(operation.options, **given)
        return self.table("Operator", **fields)

    def signature(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> int:
        maps = []
        for side in (inputs, outputs):
            entries = []
            for name, index in side:
                text = self.builder.CreateString(name)
                entries.append(self.table("TensorMap", Name=text, TensorIndex=index))
            maps.append(self.offsets(entries))
        key = self.builder.CreateString("serving_default")
        return self.table("SignatureDef", Inputs=maps[0], Outputs=maps[1], SignatureKey=key, SubgraphIndex=0)
