"""Calibrations in JSON: AIMET, Vitis AI, ONNX Runtime, Quark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitwright.calibrate.foreign import Numbers, Range, power
from bitwright.number.format import Format


def read_json(document: Any) -> Numbers | None:
    """The numbers in a document, or None if it is of no kind that is known.

    Raises:
        ValueError: (or a kin) if it is damaged.
    """
    if not isinstance(document, Mapping):
        return None
    if "activation_encodings" in document or "encodings" in document:
        return _aimet(document)
    if "param" in document and ("output" in document or "input" in document):
        return _vitis(document)
    data = document.get("data", document)
    if not isinstance(data, Mapping):
        return None
    if document.get("CLS") == "TensorsData" or any(isinstance(v, Mapping) and v.get("CLS") for v in data.values()):
        return _ort(data)
    if data and all(_is_range(v) for v in data.values()):
        return Numbers(kind="ONNX Runtime", ranges={str(k): _range(v) for k, v in data.items()})
    if any(_positions(v) for v in data.values()):
        return _vitis_layers(data)
    return None


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    )


def _range(value: Any) -> Range:
    low, high = float(value[0]), float(value[1])
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"the range [{low}, {high}]")
    return low, high


def _number(value: Any) -> float:
    """A number that ONNX Runtime's encoder may have wrapped: ``{"CLS": "numpy.array", "data": [1.0]}``."""
    while isinstance(value, (Mapping, list)):
        value = value["data"] if isinstance(value, Mapping) else value[0]
    return float(value)


def _ort(data: Mapping[str, Any]) -> Numbers:
    ranges = {}
    for name, entry in data.items():
        if isinstance(entry, Mapping) and "lowest" in entry and "highest" in entry:
            ranges[str(name)] = _range([_number(entry["lowest"]), _number(entry["highest"])])
    return Numbers(kind="ONNX Runtime", ranges=ranges)


# ---------------------------------------------------------------- AIMET


def _aimet(document: Mapping[str, Any]) -> Numbers:
    if "encodings" in document:  # version 2: one list of {"name", "output_dtype", "y_scale", "y_zero_point", "axis"}
        formats: dict[str, Format] = {}
        for entry in document["encodings"]:
            found = _aimet_two(entry)
            if found is not None:
                formats[str(entry["name"])] = found
        params = {n: f for n, f in formats.items() if n.endswith((".weight", "_weight")) or f.axis is not None}
        return Numbers(
            kind="AIMET",
            formats={n: f for n, f in formats.items() if n not in params and f.axis is None},
            weights=params,
        )
    activations, params = document["activation_encodings"], document.get("param_encodings") or {}
    return Numbers(kind="AIMET", formats=_aimet_part(activations, axis=False), weights=_aimet_part(params, axis=True))


def _aimet_part(part: Any, *, axis: bool) -> dict[str, Format]:
    found = {}
    if isinstance(part, list):  # version 1: [{"name", "bw", "dtype", "is_sym", "scale": [], "offset": []}]
        for entry in part:
            if str(entry.get("dtype", "INT")).upper() == "INT":
                made = _format(
                    int(entry.get("bw", 8)), entry["scale"], entry["offset"], bool(entry.get("is_sym")), axis=axis
                )
                found[str(entry["name"])] = made
        return found
    for name, entries in part.items():  # version 0.6: {name: [{"bitwidth", "scale", "offset", "is_symmetric"}]}
        if isinstance(entries, Mapping):  # of a module: {"input": {...}, "output": {"0": {...}}}
            entries = next((list(v.values()) for k, v in entries.items() if k == "output"), [])
        whole = [e for e in entries if str(e.get("dtype", "int")) == "int" and "scale" in e]
        if not whole:
            continue
        is_symmetric = str(whole[0].get("is_symmetric", "False")).lower() == "true"
        scales, offsets = [e["scale"] for e in whole], [e["offset"] for e in whole]
        found[str(name)] = _format(int(whole[0].get("bitwidth", 8)), scales, offsets, is_symmetric, axis=axis)
    return found


def _format(bits: int, scales: list[Any], offsets: list[Any], is_symmetric: bool, *, axis: bool) -> Format:
    """``real = scale · (q + offset)``, ``q`` from 0: a zero point of ``-offset``; symmetric ones are signed."""
    if not 2 <= bits <= 32:
        raise ValueError(f"{bits} bits")
    scale = np.asarray(scales, np.float64).reshape(-1)
    zero = -np.round(np.broadcast_to(np.asarray(offsets, np.float64).reshape(-1), scale.shape)).astype(np.int64)
    half = 1 << (bits - 1)
    signed = is_symmetric or bool((zero == half).all()) or bool((zero == 0).all() and is_symmetric)
    if signed:
        zero = np.where(np.isin(zero, (half, half - 1)), 0, zero if (zero == 0).all() else zero - half)
    if axis and len(scale) > 1:
        return Format(bits, signed, scale, zero, axis=0)
    return Format(bits, signed, scale[0], zero[0])


def _aimet_two(entry: Mapping[str, Any]) -> Format | None:
    kind = str(entry.get("output_dtype", ""))
    if not kind.startswith(("int", "uint")) or "y_scale" not in entry or entry.get("block_size"):
        return None
    bits, signed = int(kind.removeprefix("u").removeprefix("int")), not kind.startswith("u")
    scale = np.asarray(entry["y_scale"], np.float64).reshape(-1)
    zero = np.asarray(entry.get("y_zero_point") or np.zeros(len(scale)), np.int64).reshape(-1)
    if len(scale) == 1:
        return Format(bits, signed, scale[0], zero[0])
    return Format(bits, signed, scale, np.broadcast_to(zero, scale.shape), axis=0)


# ---------------------------------------------------------------- Vitis AI


def _pair(value: Any) -> Format | None:
    """``[8, 5]``, ``[[8, 5]]``: bits and fraction bits; several pairs, or positions in a list, are one per channel."""
    if not isinstance(value, list) or not value:
        return None
    pairs = value if isinstance(value[0], list) else [value]
    if pairs[0] is None or len(pairs[0]) != 2 or pairs[0][0] is None or pairs[0][1] is None:
        return None
    bits = int(pairs[0][0])
    if isinstance(pairs[0][1], list):
        places = [int(p) for p in pairs[0][1]]
        return power(bits, -np.asarray(places), axis=0) if len(places) > 1 else power(bits, -places[0])
    return power(bits, -int(pairs[0][1]))


def _vitis(document: Mapping[str, Any]) -> Numbers:
    """``quant_info.json``: param, output and input by names such as ``Net::Net/Sequential[layer1]/Conv2d[conv1]/input.3``."""
    parts: dict[str, dict[str, Format]] = {}
    for part in ("param", "output", "input"):
        entries = {str(n): _pair(v) for n, v in dict(document.get(part) or {}).items()}
        parts[part] = {module_path(n): f for n, f in entries.items() if f is not None}
    weights = {n.removesuffix(".weight"): f for n, f in parts["param"].items() if not n.endswith(".bias")}
    return Numbers(kind="Vitis AI", formats=parts["output"], inputs=parts["input"], weights=weights)


def module_path(name: str) -> str:
    """``layer1.0.conv1`` of ``Net::Net/Sequential[layer1]/BasicBlock[0]/Conv2d[conv1]/input.3``; others as they are."""
    inner = name.split("::", 1)[-1]
    parts = []
    for part in inner.split("/"):
        if part.endswith("]") and "[" in part:
            parts.append(part[part.index("[") + 1 : -1])
    return ".".join(parts) if parts else inner


def _positions(entry: Any) -> bool:
    """Whether an entry of a layer holds ``quantize_pos`` anywhere."""
    if isinstance(entry, Mapping):
        return any(k in {"quantize_pos", "quant_pos"} or _positions(v) for k, v in entry.items())
    return False


def _vitis_layers(data: Mapping[str, Any]) -> Numbers:
    """``quantize_info`` of TensorFlow 2: layer → ``{tensor: {"type", "info": {"bit_width", "quantize_pos"}}}``."""
    formats: dict[str, Format] = {}
    weights: dict[str, Format] = {}
    inputs: dict[str, Format] = {}
    for name, parts in data.items():
        layer = str(name).removeprefix("quant_")
        if not isinstance(parts, Mapping):
            continue
        entries = {"": parts} if "info" in parts else parts
        for entry in entries.values():
            info = entry.get("info") if isinstance(entry, Mapping) else None
            if not isinstance(info, Mapping):
                continue
            place = info.get("quantize_pos", info.get("quant_pos"))
            if place is None:
                continue
            format = power(int(info.get("bit_width", 8)), -int(_number(place)))
            kind = str(entry.get("type", "output"))
            if kind == "weight":
                weights.setdefault(layer, format)  # the bias follows the kernel
            elif kind in {"input", "pre_activation"}:
                inputs[layer] = format
            else:
                formats[layer] = format
    return Numbers(kind="Vitis AI", formats=formats, inputs=inputs, weights=weights)
