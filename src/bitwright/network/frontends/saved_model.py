"""TensorFlow SavedModels: those that Keras 2 wrote hold the configuration of the layers, and are read without TensorFlow.

Formats: tensorflow/core/protobuf/saved_model.proto, meta_graph.proto, saved_object_graph.proto and
keras/protobuf/saved_metadata.proto (the configuration); tensorflow/core/util/tensor_bundle and LevelDB's
table_format.md (the numbers).  Other SavedModels are graphs of operators; TensorFlow converts them, if it is installed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, BitwrightError, ModelError, ToolMissing, printable
from bitwright.network.frontends.registry import Found

INSTALL = "pip install 'bitwright[tensorflow]'"
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 19: np.float16}
_LARGEST = 4 << 30


def read_saved_model(folder: Path) -> Found:
    """A folder with a ``saved_model.pb``.

    Raises:
        BadModelFile: if it is damaged.
        UnsupportedOp: naming a layer that is not read.
        ToolMissing: if it is no Keras model and TensorFlow is not installed.
    """
    from bitwright.network.frontends.keras_graph import build

    where = str(folder)
    try:
        config = _configuration(folder)
        if config is None:
            return _converted(folder)
        return build(config, _Variables(Bundle(folder / "variables" / "variables", where), ""), where)
    except BitwrightError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError) as error:
        raise _damaged(where, f"{type(error).__name__}: {printable(error, 120)}") from error


def _damaged(where: str, why: str) -> BadModelFile:
    return BadModelFile(
        f"{printable(where)} is no SavedModel or is damaged: {why}. Save the model again, or download it again.",
        path=where,
    )


# ---------------------------------------------------------------- protocol buffers


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where the next begins.

    Raises:
        ValueError: if it does not end.
    """
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: (number, integer or bytes) each.

    Raises:
        ValueError: if it is cut off.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field has the unknown kind {kind}")
        if at + size > len(data):
            raise ValueError("a field is cut off")
        yield number, data[at : at + size]
        at += size


def _inside(data: bytes, *path: int) -> Iterator[bytes]:
    """The messages at a path of field numbers."""
    if not path:
        yield data
        return
    for number, value in fields(data):
        if number == path[0] and isinstance(value, bytes):
            yield from _inside(value, *path[1:])


def _configuration(folder: Path) -> dict[str, Any] | None:
    """The configuration of the outermost Keras model, or None if there is none."""
    beside = folder / "keras_metadata.pb"
    if beside.is_file():
        nodes = [(dict(fields(n)).get(4), dict(fields(n)).get(5)) for n in _inside(beside.read_bytes(), 1)]
    else:
        users = _inside((folder / "saved_model.pb").read_bytes(), 2, 7, 1, 4)
        nodes = [(dict(fields(u)).get(1), dict(fields(u)).get(3)) for u in users]
    for identifier, text in nodes:
        if not isinstance(identifier, bytes) or not isinstance(text, bytes):
            continue
        if identifier.startswith((b"_tf_keras_network", b"_tf_keras_sequential", b"_tf_keras_model")):
            found = json.loads(text)
            config = found.get("config")
            if isinstance(config, dict) and "layers" in config:
                kind = found.get("class_name") or ("Sequential" if b"sequential" in identifier else "Functional")
                return {"class_name": kind, "config": {**config, **_shape(found)}}
    return None


def _shape(found: Mapping[str, Any]) -> dict[str, Any]:
    shape = found.get("batch_input_shape") or found.get("build_input_shape")
    if isinstance(shape, Mapping):
        shape = shape.get("items")
    return {"build_input_shape": shape} if isinstance(shape, list) else {}


def _converted(folder: Path) -> Found:
    """Any other SavedModel, through TensorFlow's own converter to TensorFlow Lite, in float."""
    from bitwright.network.frontends.tflite_file import read_bytes

    try:
        import tensorflow as tf
    except ImportError as error:
        raise ToolMissing(
            f"{printable(folder)} is a SavedModel without Keras layers in it, which only TensorFlow can read: {INSTALL}",
            tool="tensorflow",
            install=INSTALL,
        ) from error
    try:
        data = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    except Exception as error:
        raise ModelError(
            f"TensorFlow cannot convert {printable(folder)}: {printable(str(error).splitlines()[0], 300)}. Export the network "
            "to ONNX and give that."
        ) from error
    return read_bytes(bytes(data), str(folder))


# ---------------------------------------------------------------- the numbers


class Bundle:
    """The tensors of a checkpoint by name; each is read when it is asked for."""

    def __init__(self, prefix: Path, where: str) -> None:
        self.prefix, self.where = prefix, where
        index = prefix.with_name(f"{prefix.name}.index")
        self.entries = dict(table(index.read_bytes()))
        header = dict(fields(self.entries.get(b"", b"")))
        self.shards = int(header.get(1, 1))
        if header.get(2, 0):
            raise ValueError("it was written on a big-endian machine")

    def __contains__(self, name: str) -> bool:
        return name.encode() in self.entries

    def array(self, name: str) -> NDArray[Any]:
        """The tensor ``name``.

        Raises:
            BadModelFile: if its file is too short for it.
        """
        known: dict[int, Any] = {}
        for number, value in fields(self.entries[name.encode()]):
            known[number] = value
        shape = []
        for part in _inside(known.get(2, b""), 2):
            shape.append(int(dict(fields(part)).get(1, 0)))
        dtype = _TYPES.get(int(known.get(1, 0)))
        if dtype is None:
            raise _damaged(self.where, f"'{printable(name, 80)}' has an element type that is not read")
        size, offset, shard = int(known.get(5, 0)), int(known.get(4, 0)), int(known.get(3, 0))
        if size != prod(shape) * np.dtype(dtype).itemsize or size > _LARGEST:
            raise _damaged(self.where, f"'{printable(name, 80)}' does not hold what its shape says")
        file = self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
        if len(data) != size:
            raise _damaged(self.where, f"the file of '{printable(name, 80)}' is too short")
        return np.frombuffer(data, dtype).reshape(shape)


def table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a LevelDB table.

    Raises:
        ValueError: if it is damaged or compressed.
    """
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("the index of its variables is no table")
    footer = data[-_FOOTER:]
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    offset, at = varint(footer, at)
    size, _ = varint(footer, at)
    for _, handle in _block(data, offset, size):
        offset, at = varint(handle, 0)
        size, _ = varint(handle, at)
        yield from _block(data, offset, size)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = data[offset : offset + size]
    if len(block) != size or size < 4 or offset + size >= len(data):
        raise ValueError("a block of its variables is cut off")
    if data[offset + size]:
        raise ValueError("the index of its variables is compressed")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


class _Variables:
    """The numbers of a model's layers: ``layer_with_weights-3/kernel`` is of the fourth layer that has any."""

    def __init__(self, bundle: Bundle, prefix: str) -> None:
        self.bundle, self.prefix = bundle, prefix
        self._places: dict[int, int] = {}

    def _path(self, position: int) -> str:
        return f"{self.prefix}layer-{position}"

    def _names(self, path: str) -> list[str]:
        begin = f"{path}/".encode()
        end = b"/.ATTRIBUTES/VARIABLE_VALUE"
        return [
            k[len(begin) : -len(end)].decode() for k in self.bundle.entries if k.startswith(begin) and k.endswith(end)
        ]

    def _counted(self, layer: Mapping[str, Any], position: int) -> str:
        from bitwright.network.frontends.keras_graph import MODELS

        if position not in self._places:
            path = f"{self.prefix}layer_with_weights-{len(self._places)}"
            names = self._names(path)
            kind = str(layer["class_name"])
            fits = bool(names) and (kind in MODELS or _WEIGHTED.get(kind, frozenset()) & set(names) != frozenset())
            if not fits:
                return self._path(position)
            self._places[position] = len(self._places)
        return f"{self.prefix}layer_with_weights-{self._places[position]}"

    def of(self, layer: Mapping[str, Any], position: int) -> Mapping[str, NDArray[Any]]:
        """See :class:`bitwright.network.frontends.keras_files.Numbers`."""
        path = self._counted(layer, position)
        plain = [name for name in self._names(path) if "/" not in name]
        return {name: self.bundle.array(f"{path}/{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in plain}

    def inside(self, layer: Mapping[str, Any], position: int) -> _Variables:
        """See :class:`bitwright.network.frontends.keras_files.Numbers`."""
        return _Variables(self.bundle, f"{self._counted(layer, position)}/")


# Layers with numbers, and one that each of them surely has.
_KERNEL = frozenset({"kernel", "depthwise_kernel"})
_NORM = frozenset({"gamma", "beta", "moving_mean", "mean"})
_WEIGHTED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        ("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Dense", "DepthwiseConv1D", "DepthwiseConv2D",
         "SeparableConv1D", "SeparableConv2D"), _KERNEL),
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization", "LayerNormalization", "Normalization"), _NORM),
    "PReLU": frozenset({"alpha"}),
}  # fmt: skip
