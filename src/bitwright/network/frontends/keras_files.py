"""Keras networks: the JSON of their layers and the HDF5 of their numbers, read without Keras, so that nothing executes.

Formats: ``.h5`` of Keras 2 and 3 (one file: ``model_config`` and a group of weights per layer), ``.keras`` of Keras 3 (a
zip of ``config.json`` and ``model.weights.h5``, whose groups are named after the classes of the layers), and a model in
memory, which is asked for both.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, BitwrightError, ModelError, ToolMissing, printable
from bitwright.network.frontends.registry import Found

INSTALL = "pip install 'bitwright[keras]'"
LARGEST_CONFIG, LARGEST_WEIGHTS = 64 << 20, 8 << 30
Arrays = Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]


class Numbers(Protocol):
    """Where the numbers of a model's layers are."""

    def of(self, layer: Mapping[str, Any], position: int) -> Arrays:
        """Those of a layer, by the names of its variables or in their order.

        Args:
            layer: Its entry in the configuration.
            position: Its place among the layers.
        """
        ...

    def inside(self, layer: Mapping[str, Any], position: int) -> Numbers:
        """Where those of the layers of a model inside the model are."""
        ...


def read_file(path: Path) -> Found:
    """A ``.keras`` or ``.h5`` file.

    Raises:
        BadModelFile: if it is missing or damaged, or its numbers lie in other files.
        UnsupportedOp: naming a layer that is not read; a Lambda layer is code, and is refused.
        ToolMissing: if h5py is not installed.
    """
    from bitwright.network.frontends.keras_graph import build

    h5py = _h5py()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadModelFile(
            f"{printable(path)} cannot be read: {error.strerror}. Give the path of a .keras or .h5 file.",
            path=str(path),
        ) from error
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            config, weights = _unzipped(data, path)
            file = h5py.File(io.BytesIO(weights), "r")
            numbers: Numbers = ByClass(file, str(path))
        else:
            file = h5py.File(io.BytesIO(data), "r")
            text = file.attrs.get("model_config")
            if text is None:
                raise BadModelFile(
                    f"{printable(path)} holds weights and no network. Save the whole model: model.save('NAME.keras').",
                    path=str(path),
                )
            config = json.loads(_text(text))
            group = _inner(file, "model_weights", str(path))
            if group is None:
                raise _damaged(str(path), "it holds no weights")
            numbers = ByName(group, str(path))
    except BitwrightError:
        raise
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile, EOFError) as error:
        raise _damaged(str(path), f"{type(error).__name__}: {printable(error, 120)}") from error
    try:
        return build(config, numbers, str(path))
    except BitwrightError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OSError) as error:
        raise _damaged(str(path), f"{type(error).__name__}: {printable(error, 120)}") from error


def read_object(model: Any) -> Found:
    """A Keras model in memory: its own configuration and variables."""
    from bitwright.network.frontends.keras_graph import build

    get = getattr(model, "get_config", None)
    try:
        config = get() if get is not None else None
    except NotImplementedError:
        config = None
    if not isinstance(config, Mapping) or "layers" not in config:
        raise ModelError(
            f"{type(model).__name__} is a model of its own class, whose layers only its code knows. Build it as a "
            "functional or sequential Keras model, or export it to ONNX (model.export(path, format='onnx'))."
        )
    whole = {"class_name": type(model).__name__, "config": config}
    if not model.built:
        raise ModelError(
            "The Keras model is not built, so it has no weights yet. Call it once, or give it an Input layer."
        )
    if "Sequential" in whole["class_name"] and "build_input_shape" not in config:
        whole["config"] = {**config, "build_input_shape": list(model.input_shape)}
    return build(whole, OfObject(model), f"the given {type(model).__name__}")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ToolMissing(
            f"h5py, which reads Keras files, is not installed: {INSTALL}", tool="h5py", install=INSTALL
        ) from error
    return h5py


def _damaged(where: str, why: str) -> BadModelFile:
    return BadModelFile(
        f"{printable(where)} is no Keras file or is damaged: {why}. Save the model again, or download it again.",
        path=where,
    )


def _unzipped(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = {info.filename: info for info in archive.infolist()}
        for name, limit in (("config.json", LARGEST_CONFIG), ("model.weights.h5", LARGEST_WEIGHTS)):
            if name not in found:
                raise _damaged(str(path), f"there is no {name} in it")
            if found[name].file_size > min(limit, 1100 * max(found[name].compress_size, 1)):
                raise _damaged(str(path), f"{name} would unpack to an absurd size")
        config = json.loads(archive.read("config.json"))
        if not isinstance(config, dict):
            raise _damaged(str(path), "config.json describes no model")
        return config, archive.read("model.weights.h5")


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _inner(group: Any, name: str, where: str) -> Any:
    """A member of an HDF5 group that lies in the same file, or None; links elsewhere are not followed."""
    import h5py

    here = group
    for part in name.strip("/").split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise _damaged(where, f"'{printable(part, 60)}' points to another place, which was not opened")
        here = here[part]
    return here


def _array(data: Any, where: str) -> NDArray[Any]:
    """The numbers of a dataset that are stored where it stands."""
    import h5py

    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise _damaged(where, "its numbers lie in other files, which were not opened")
    if prod(data.shape or (1,)) * data.dtype.itemsize > LARGEST_WEIGHTS or data.dtype.kind not in "fiub":
        raise _damaged(where, f"'{printable(data.name, 80)}' is too large or holds no numbers")
    return np.asarray(data[()])


@dataclass(frozen=True)
class ByName:
    """The ``.h5`` of a whole model: a group per layer, whose ``weight_names`` list its variables in their order."""

    group: Any
    where: str

    def of(self, layer: Mapping[str, Any], position: int) -> Arrays:
        """See :class:`Numbers`."""
        del position
        return {name.rsplit("/", 1)[-1]: array for name, array in self.all(layer).items()}

    def all(self, layer: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """By the variables' full names, without ``:0``."""
        group = _inner(self.group, _name(layer), self.where)
        if group is None:
            return {}
        found = {}
        for raw in group.attrs.get("weight_names", ()):
            name = _text(raw)
            data = _inner(group, name, self.where)
            if data is None:
                raise _damaged(self.where, f"the numbers of '{printable(name, 80)}' are missing")
            found[name.removesuffix(":0")] = _array(data, self.where)
        return found

    def inside(self, layer: Mapping[str, Any], position: int) -> Numbers:
        """See :class:`Numbers`."""
        del position
        return ByPath(self.all(layer))


@dataclass(frozen=True)
class ByPath:
    """Variables whose names hold the name of their layer: ``inner/conv/kernel``."""

    arrays: Mapping[str, NDArray[Any]]

    def of(self, layer: Mapping[str, Any], position: int) -> Arrays:
        """See :class:`Numbers`."""
        del position
        return {path.rsplit("/", 1)[-1]: array for path, array in self._under(layer).items()}

    def _under(self, layer: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        name = _name(layer)
        return {p: a for p, a in self.arrays.items() if f"/{name}/" in f"/{p}"}

    def inside(self, layer: Mapping[str, Any], position: int) -> Numbers:
        """See :class:`Numbers`."""
        del position
        under = self._under(layer)
        return ByPath(under or self.arrays)


class ByClass:
    """``model.weights.h5``: ``layers/conv2d_1/vars/0``, the second layer of class Conv2D, its first variable."""

    def __init__(self, group: Any, where: str) -> None:
        self.group, self.where = group, where
        self._names: dict[int, str] = {}
        self._used: dict[str, int] = {}

    def _path(self, layer: Mapping[str, Any], position: int) -> str:
        if position not in self._names:
            text = re.sub(r"\W+", "", str(layer.get("class_name", "")))
            text = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", text)
            text = re.sub("([a-z])([A-Z])", r"\1_\2", text).lower()
            count = self._used.get(text, 0)
            self._used[text] = count + 1
            self._names[position] = f"layers/{text}_{count}" if count else f"layers/{text}"
        return self._names[position]

    def of(self, layer: Mapping[str, Any], position: int) -> Arrays:
        """See :class:`Numbers`."""
        group = _inner(self.group, f"{self._path(layer, position)}/vars", self.where)
        if group is None:
            return []
        return [_array(_inner(group, str(i), self.where), self.where) for i in range(len(group))]

    def inside(self, layer: Mapping[str, Any], position: int) -> Numbers:
        """See :class:`Numbers`."""
        group = _inner(self.group, self._path(layer, position), self.where)
        if group is None:
            raise _damaged(self.where, f"the numbers of '{printable(_name(layer), 80)}' are missing")
        return ByClass(group, self.where)


@dataclass(frozen=True)
class OfObject:
    """The variables of a model's layers in memory."""

    model: Any

    def of(self, layer: Mapping[str, Any], position: int) -> Arrays:
        """See :class:`Numbers`."""
        del position
        owner = self.model.get_layer(_name(layer))
        found: dict[str, NDArray[Any]] = {}
        for variable in owner.weights:
            name = str(variable.name).removesuffix(":0").rsplit("/", 1)[-1]
            value = variable.detach() if hasattr(variable, "detach") else variable
            found[name] = _plain(value)
        return found

    def inside(self, layer: Mapping[str, Any], position: int) -> Numbers:
        """See :class:`Numbers`."""
        del position
        return OfObject(self.model.get_layer(_name(layer)))


def _plain(variable: Any) -> NDArray[Any]:
    """A variable of any back end as an array."""
    value = getattr(variable, "value", variable)
    value = value() if callable(value) else value
    for step in ("detach", "cpu", "numpy"):
        if hasattr(value, step):
            value = getattr(value, step)()
    return np.asarray(value)


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("name") or layer["config"]["name"])
