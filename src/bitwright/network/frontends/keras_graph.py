"""A Keras configuration walked: which layer reads what, models inside models, layers that are used twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, ModelError, UnsupportedOp, printable
from bitwright.network.frontends.channels_last import ChannelsLast, Held
from bitwright.network.frontends.registry import Found

if TYPE_CHECKING:
    from bitwright.network.frontends.keras_files import Arrays, Numbers

MODELS = frozenset({"Functional", "Model", "Sequential"})
DEEPEST = 16


@dataclass
class Layer:
    """A layer at one of its uses.

    Attributes:
        build: Where its nodes go.
        kind: Its class.
        name: Its name, with those of the models around it.
        config: Its configuration.
        arrays: Its numbers.
        inputs: What it reads: tensors, and numbers of functions such as ``x + 2``.
        options: Named arguments of the call.
        where: The file, for messages.
    """

    build: ChannelsLast
    kind: str
    name: str
    config: Mapping[str, Any]
    arrays: Arrays
    inputs: Sequence[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def x(self) -> Held:
        """Its first input.

        Raises:
            ModelError: if that is no tensor.
        """
        if not self.inputs or not isinstance(self.inputs[0], Held):
            raise ModelError(f"Layer '{printable(self.name)}' ({printable(self.kind)}) reads no tensor.")
        return self.inputs[0]

    def numbers(self, names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Its numbers by the names of its variables, in the order in which Keras makes them.

        Raises:
            BadModelFile: if one is missing.
        """
        if isinstance(self.arrays, Mapping):
            missing = [n for n in names if n not in self.arrays]
            found = [self.arrays[n] for n in names if n in self.arrays]
        else:
            missing = list(names[len(self.arrays) :])
            found = list(self.arrays[: len(names)])
        if missing:
            raise BadModelFile(
                f"{printable(self.where)}: the numbers '{missing[0]}' of layer '{printable(self.name)}' are missing. Save the "
                "model again.",
                path=self.where,
            )
        return [np.asarray(a, np.float32) for a in found]

    def refuse(self, why: str) -> UnsupportedOp:
        """An error about this layer."""
        return UnsupportedOp(
            f"Layer '{printable(self.name)}' ({printable(self.kind, 60)}) of {printable(self.where)} {why}.",
            op=self.kind,
            layer=self.name,
        )


def build(model: Mapping[str, Any], numbers: Numbers, where: str) -> Found:
    """The network of a configuration.

    Args:
        model: ``{"class_name": ..., "config": ...}``.
        numbers: Where its numbers are.
        where: The file, for messages.

    Raises:
        UnsupportedOp: naming a layer that is not read.
        UnknownShape: if an axis of an input other than the batch is free.
    """
    model = _lists(model)
    to = ChannelsLast("")
    walk = _Walk(to, where)
    outputs = walk.model(model, numbers, None, "", 0)
    for name, held in outputs:
        to.output(held, name)
    name = str(model.get("config", {}).get("name") or "") if isinstance(model.get("config"), Mapping) else ""
    return Found(to.model(), name=name or None, last=frozenset(to.last))


def _lists(value: Any, depth: int = 0) -> Any:
    """``value`` with the marked tuples and shapes of Keras's JSON as plain lists."""
    if depth > 200:
        raise ModelError("The configuration is nested more than 200 deep.")
    if isinstance(value, Mapping):
        if value.get("class_name") in {"__tuple__", "TensorShape"} and "items" in value:
            return [_lists(v, depth + 1) for v in value["items"]]
        return {k: _lists(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(v, depth + 1) for v in value]
    return value


class _Walk:
    def __init__(self, build: ChannelsLast, where: str) -> None:
        self.build, self.where = build, where

    def model(
        self, entry: Mapping[str, Any], numbers: Numbers, given: Sequence[Held] | None, prefix: str, depth: int
    ) -> list[tuple[str, Held]]:
        """The outputs of a model, by name; ``given`` are its inputs inside another model."""
        if depth > DEEPEST:
            raise ModelError(f"{printable(self.where)} has models inside models more than {DEEPEST} deep.")
        config = entry["config"]
        if entry["class_name"] == "Sequential" or "input_layers" not in config:
            if entry["class_name"] not in MODELS:
                raise UnsupportedOp(
                    f"{printable(self.where)} is a model of class '{printable(entry['class_name'], 60)}', whose layers only "
                    "its code knows. Build it as a functional or sequential model, or export it to ONNX.",
                    op=str(entry["class_name"]),
                )
            return self.sequential(config, numbers, given, prefix, depth)
        return self.functional(config, numbers, given, prefix, depth)

    def sequential(
        self, config: Any, numbers: Numbers, given: Sequence[Held] | None, prefix: str, depth: int
    ) -> list[tuple[str, Held]]:
        layers = config["layers"] if isinstance(config, Mapping) else config
        held: Held | None = given[0] if given else None
        name = ""
        for position, layer in enumerate(layers):
            name = _name(layer)
            if layer["class_name"] == "InputLayer":
                held = held or self.input(layer)
                continue
            if held is None:
                shape = layer["config"].get("batch_input_shape") or layer["config"].get("batch_shape")
                shape = shape or (config.get("build_input_shape") if isinstance(config, Mapping) else None)
                shape = shape or dict(layer.get("build_config") or {}).get("input_shape")
                if shape is None:
                    raise ModelError(
                        f"{printable(self.where)} does not say which shape its input has. Give the model an Input layer and "
                        "save it again."
                    )
                held = self.build.input(f"{name}_input", shape)
            (_, held), *_ = self.layer(layer, position, numbers, [held], {}, prefix, depth)
        if held is None:
            raise ModelError(f"{printable(self.where)} is a model without layers.")
        return [(prefix + name, held)]

    def input(self, layer: Mapping[str, Any]) -> Held:
        config = layer["config"]
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        dtype = str(config.get("dtype") or "float32")
        kinds = {"int32": "INT32", "int64": "INT64", "uint8": "FLOAT"}
        return self.build.input(str(config["name"]), shape, kinds.get(dtype, "FLOAT"))

    def functional(
        self, config: Mapping[str, Any], numbers: Numbers, given: Sequence[Held] | None, prefix: str, depth: int
    ) -> list[tuple[str, Held]]:
        made: dict[tuple[str, int, int], Held] = {}
        inputs = [_key(k) for k in _listed(config["input_layers"])]
        if given is not None and len(given) != len(inputs):
            raise ModelError(f"Model '{printable(prefix)}' takes {len(inputs)} inputs and is given {len(given)}.")
        for position, key in enumerate(inputs):
            entry = next(layer for layer in config["layers"] if _name(layer) == key[0])
            made[key[0], 0, 0] = given[position] if given is not None else self.input(entry)
        waiting = []
        for position, layer in enumerate(config["layers"]):
            # Numbers are found by position and class, so every layer is asked for in order.
            if layer["class_name"] != "InputLayer" and not _is_function(layer):
                touched = numbers.of(layer, position) if layer["class_name"] not in MODELS else None
                del touched
            waiting += [(layer, position, i, call) for i, call in enumerate(layer.get("inbound_nodes") or [])]
        while waiting:
            later = []
            for layer, position, index, call in waiting:
                try:
                    parts, options = _arguments(call, made)
                except _NotYet:
                    later.append((layer, position, index, call))
                    continue
                results = self.layer(layer, position, numbers, parts, options, prefix, depth, index)
                for i, (_, held) in enumerate(results):
                    made[_name(layer), index, i] = held
            if len(later) == len(waiting):
                names = ", ".join(printable(_name(layer), 40) for layer, *_ in later[:3])
                raise ModelError(f"The layers {names} of {printable(self.where)} read what nothing makes.")
            waiting = later
        outputs = [_key(k) for k in _listed(config["output_layers"])]
        return [(prefix + key[0], self._made(made, key)) for key in outputs]

    def _made(self, made: Mapping[tuple[str, int, int], Held], key: tuple[str, int, int]) -> Held:
        if key not in made:
            # A model inside a model counts its calls from 1 where the first built it.
            same = [held for (name, _, tensor), held in made.items() if name == key[0] and tensor == key[2]]
            if len(same) != 1:
                raise ModelError(f"Output '{printable(key[0])}' of {printable(self.where)} is not computed.")
            return same[0]
        return made[key]

    def layer(
        self,
        layer: Mapping[str, Any],
        position: int,
        numbers: Numbers,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
        prefix: str,
        depth: int,
        call: int = 0,
    ) -> list[tuple[str, Held]]:
        """The outputs of one use of a layer."""
        from bitwright.network.frontends.keras_layers import LAYERS, unwrapped

        layer = unwrapped(layer)
        kind, name = str(layer["class_name"]), prefix + _name(layer)
        if kind in MODELS:
            inside = numbers.inside(layer, position)
            return self.model(layer, inside, [x for x in inputs if isinstance(x, Held)], f"{name}/", depth + 1)
        found = Layer(
            self.build, kind, name if not call else f"{name}_{call}", layer["config"], [], inputs, options, self.where
        )
        if kind == "Lambda":
            raise found.refuse(
                "is a Lambda layer: Python code inside the file, which is not executed. Write it with layers or "
                "keras.ops functions, or export the model to ONNX"
            )
        rule = LAYERS.get(kind)
        custom = layer.get("registered_name")
        module = str(layer.get("module") or "keras")
        if rule is None or not module.startswith(("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")):
            known = f" (registered as '{printable(custom, 60)}')" if custom else ""
            raise found.refuse(
                f"is of a class that is not read{known}. Replace the layer, or export the model to ONNX "
                "(model.export(path, format='onnx'))"
            )
        if not _is_function(layer):
            found.arrays = numbers.of(layer, position)
        if found.config.get("data_format") == "channels_first":
            raise found.refuse("has its channels first; Keras networks are read with their channels last")
        result = rule(found)
        return [(name, held) for held in (result if isinstance(result, list) else [result])]


class _NotYet(Exception):
    """An argument is not computed yet."""


def _is_function(layer: Mapping[str, Any]) -> bool:
    """Whether an entry is a function of ``keras.ops``, which has no numbers and is not counted among the layers."""
    return ".ops" in str(layer.get("module") or "") or layer["class_name"] in {"TFOpLambda", "SlicingOpLambda"}


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("name") or layer["config"]["name"])


def _listed(keys: Any) -> list[Any]:
    """One key or several, in a list or by name."""
    if isinstance(keys, Mapping):
        return list(keys.values())
    return [keys] if keys and isinstance(keys[0], str) else list(keys)


def _key(key: Any) -> tuple[str, int, int]:
    return str(key[0]), int(key[1]), int(key[2])


def _arguments(call: Any, made: Mapping[tuple[str, int, int], Held]) -> tuple[list[Any], dict[str, Any]]:
    """What a call reads, in either form: Keras 3's ``{"args", "kwargs"}`` or Keras 2's lists."""
    if isinstance(call, Mapping):
        args = [_resolved(a, made) for a in call.get("args", [])]
        options = {k: _resolved(v, made) for k, v in dict(call.get("kwargs") or {}).items()}
        return list(_flat(args)), options
    if call and isinstance(call[0], str):
        call = [call]
    parts: list[Any] = []
    options = {}
    for item in call:
        parts.append(_found(_key(item), made))
        for key, value in (item[3] if len(item) > 3 else {}).items():
            is_tensor = isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
            options[key] = _found(_key(value), made) if is_tensor and value[0] != "_CONSTANT_VALUE" else value
    return parts, options


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    for argument in args:
        if isinstance(argument, list) and any(isinstance(part, Held) for part in argument):
            yield from argument
        else:
            yield argument


def _resolved(value: Any, made: Mapping[tuple[str, int, int], Held]) -> Any:
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        return _found(_key(value["config"]["keras_history"]), made)
    if isinstance(value, Mapping) and value.get("class_name") == "__numpy__":
        return np.asarray(value["config"]["value"], value["config"]["dtype"])
    if isinstance(value, list):
        return [_resolved(v, made) for v in value]
    return value


def _found(key: tuple[str, int, int], made: Mapping[tuple[str, int, int], Held]) -> Held:
    if key in made:
        return made[key]
    # Calls of a model inside a model are counted differently by its versions: a layer that is used once is that one.
    raise _NotYet
