"""Calibrations of other tools, read: which tensor has which format or range there.

======================  =====================================================================================
TensorRT                calibration cache: ``TRT-8203-EntropyCalibration2``, then ``tensor: 8 hex digits`` of a float32 scale
ncnn                    table: ``LAYER_param_0 s …`` (weights) and ``LAYER s`` (what the layer reads), 127 / absmax each
Vitis AI                ``quant_info.json`` (PyTorch), ``quantize_info`` (TensorFlow): bits and fraction bits per tensor
NNoM                    ``weights.h``: ``LAYER_OUTPUT_DEC`` or ``LAYER_OUTPUT_SHIFT``, weights' fraction bits
AIMET                   ``.encodings`` of version 0.6, 1 and 2
ONNX Runtime, Quark     ``calibration.json`` of ranges, ``calibration.cache`` of largest magnitudes
======================  =====================================================================================

Sources: NVIDIA/TensorRT issue 2036; Tencent/ncnn tools/quantize/ncnn2table.cpp; Xilinx/Vitis-AI
nndct_shared/quantization/base_quantizer.py and vai_q_tensorflow quantize_utils.cc; majianjia/nnom scripts/nnom.py;
AIMET's encoding format specification; onnxruntime/quantization/quant_utils.py (``write_calibration_table``).
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bitwright.errors import CalibrationError, printable
from bitwright.number.format import Format

LARGEST_BYTES = 256 << 20
HEADER = re.compile(r"TRT-\d+-\w+")
MACRO = re.compile(r"^#define +(\w+) +[{(]?([^{}()]*)[})]?\s*$")
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a file says, by the names that it uses.

    Attributes:
        kind: Whose file it is.
        formats: Tensor, or layer for what it makes → format.
        ranges: The same, where the file has ranges only.
        inputs: Layer → format of what it reads.
        weights: Layer or weight tensor → format, per channel along axis 0.
    """

    kind: str
    formats: Mapping[str, Format] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    inputs: Mapping[str, Format] = field(default_factory=dict)
    weights: Mapping[str, Format] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """All names."""
        return {*self.formats, *self.ranges, *self.inputs, *self.weights}


def read_numbers(path: str | Path) -> Numbers:
    """Read a file of any of these kinds; which one it is follows from its content.

    Raises:
        CalibrationError: if it cannot be read, is of no kind that is known, or is damaged.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise _bad(file, "is far larger than a calibration")
        data = file.read_bytes()
    except OSError as error:
        raise CalibrationError(f"{printable(file)} cannot be read: {error.strerror or error}.") from error
    try:
        found = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _bad(file, "is no text") from error
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError, struct.error) as error:
        raise _bad(file, f"is damaged ({printable(error, 120)})") from error
    if found is None:
        raise _bad(file, "is of no kind that is known")
    if not found.names:
        raise _bad(file, f"({found.kind}) holds no numbers")
    return found


def _bad(file: Path, why: str) -> CalibrationError:
    return CalibrationError(
        f"{printable(file)} {why}. --from takes calibration caches of TensorRT, tables of ncnn, quant_info.json and "
        "quantize_info of Vitis AI, weights.h of NNoM, encodings of AIMET, and calibration.json or .cache of ONNX Runtime."
    )


def parse(text: str) -> Numbers | None:
    """The numbers in a text, or None if it is of no kind that is known.

    Raises:
        ValueError: (or a kin) if it is damaged.
    """
    start = text.lstrip()
    if start.startswith("{"):
        from bitwright.calibrate.foreign_json import read_json

        return read_json(json.loads(text))
    if HEADER.match(start):
        return _tensorrt(text)
    if "#define" in text:
        return _nnom(text)
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if any(line[0].endswith("_param_0") for line in lines):
        return _ncnn(text)
    if lines and all(len(line) == 3 and _whole(line[1]) and _whole(line[2]) for line in lines):
        return Numbers(kind="Vitis AI", formats={n: power(int(b), -int(p)) for n, b, p in lines})
    if lines and all(len(line) == 2 and _real(line[1]) for line in lines):
        largest = {name: abs(float(value)) for name, value in lines}
        return Numbers(kind="ONNX Runtime", ranges={name: (-value, value) for name, value in largest.items()})
    return None


def _whole(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,4}", text) is not None


def _real(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def power(bits: int, exponent: Any, *, axis: int | None = None) -> Format:
    """A signed power-of-two format; one exponent, or one per channel.

    Raises:
        ValueError: if the numbers are absurd.
    """
    exponents = np.asarray(exponent, np.float64)
    if np.abs(exponents).max(initial=0) > 127:
        raise ValueError(f"a step of 2^{exponents.max()}")
    return Format.power_of_two(bits, exponents, axis=axis)


def symmetric(scale: Any, bits: int = 8) -> Format:
    """A signed format with zero point 0; one step, or one per channel."""
    steps = np.asarray(scale, np.float64)
    return Format(bits, True, steps, axis=0 if steps.ndim else None)


def read_cache(text: str) -> dict[str, float]:
    """Tensor → scale, from a calibration cache of TensorRT.

    Raises:
        ValueError: if a line is of another form.
    """
    first, *lines = text.splitlines() or [""]
    if not HEADER.fullmatch(first.strip()):
        raise ValueError(
            f"a TensorRT cache starts with a line like TRT-8203-EntropyCalibration2, not '{printable(first)}'"
        )
    found = {}
    for line in lines:
        if not line.strip():
            continue
        name, colon, digits = line.rpartition(":")
        try:
            (found[name],) = struct.unpack(">f", bytes.fromhex(digits.strip()))
        except (ValueError, struct.error) as error:
            raise ValueError(f"'{printable(line)}' is no line of a TensorRT cache: 8 hex digits are wanted") from error
        if not colon:
            raise ValueError(f"'{printable(line)}' is no line of a TensorRT cache")
    return found


def _tensorrt(text: str) -> Numbers:
    found = {name: symmetric(np.float32(s)) for name, s in read_cache(text.lstrip()).items() if s > 0}
    return Numbers(kind="TensorRT", formats=found)


def read_table(text: str) -> dict[str, list[float]]:
    """Line name → scales, from an ncnn table; lines that start with ``#`` are switched off."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, *values = line.split()
            found[name] = [float(v) for v in values]
    return found


def _ncnn(text: str) -> Numbers:
    inputs, weights = {}, {}
    for name, scales in read_table(text).items():
        # A dead channel has the scale 0 (or, from newer tools, infinity): any step will do for its zeros.
        steps = np.asarray([1 / s if s > 0 and math.isfinite(s) else np.nan for s in scales])
        if not np.isfinite(steps).any():
            continue
        steps = np.where(np.isfinite(steps), steps, np.nanmax(steps))
        if name.endswith("_param_0"):
            weights[name.removesuffix("_param_0")] = symmetric(steps if len(steps) > 1 else steps[0])
        else:
            inputs[name] = symmetric(steps[0])
    return Numbers(kind="ncnn", inputs=inputs, weights=weights)


def read_header(text: str) -> dict[str, list[int]]:
    """Macro → its whole numbers, from a ``weights.h`` of NNoM; macros that hold something else are left out."""
    found = {}
    for line in text.splitlines():
        match = MACRO.match(line)
        parts = [] if match is None else [part.strip() for part in match[2].split(",")]
        if match is not None and parts and all(re.fullmatch(r"-?\d+", part) for part in parts):
            found[match[1]] = [int(part) for part in parts]
    return found


def _nnom(text: str) -> Numbers:
    formats: dict[str, Format] = {}
    weights: dict[str, Format] = {}
    ends: tuple[tuple[str, str, Callable[[str, Format], None]], ...] = (
        ("TENSOR_", "_KERNEL_0_DEC_BITS", weights.__setitem__),
        ("", "_KERNEL_0_SHIFT", weights.__setitem__),
        ("", "_OUTPUT_DEC", formats.__setitem__),
        ("", "_OUTPUT_SHIFT", formats.__setitem__),
    )
    for macro, bits in read_header(text).items():
        for begin, end, put in ends:
            if macro.startswith(begin) and macro.endswith(end):
                name = macro[len(begin) : -len(end)]
                put(name, power(8, -np.asarray(bits) if len(bits) > 1 else -bits[0], axis=0 if len(bits) > 1 else None))
                break
    return Numbers(kind="NNoM", formats=formats, weights=weights)
