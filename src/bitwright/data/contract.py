"""The input contract: how a sample becomes a tensor of the network, and what the output means.

It is read from ``MODEL.toml`` beside ``MODEL.onnx``, travels inside ``.bw`` files and is generated into C, so that the
board sees exactly the numbers that were measured.  Order of operations (``bitwright.data.transform`` has each of them):

1. *resize*: to exactly ``[h, w]``, or the shorter side to one number; PIL's bilinear filter;
2. *crop*: the centre ``[h, w]``;
3. *color*: RGB as it is, BGR swaps, gray is ``0.299 R + 0.587 G + 0.114 B``, not rounded;
4. ``x = (pixel - mean) * float32(1 / std)`` in float32, pixel in 0..255;
5. *layout*: NCHW or NHWC.

``layout = "raw"`` leaves out 1, 2, 3 and 5.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bitwright.data import transform
from bitwright.data.first_batch import check_first_batch
from bitwright.errors import InputMismatch, printable

__all__ = ["InputContract", "check_first_batch", "default_contract"]

LAYOUTS = ("NCHW", "NHWC", "raw")
COLORS = ("RGB", "BGR", "gray")
TASKS = ("classification", "detection", "segmentation", "reconstruction", "language model", "none")
INPUT_KEYS = ("name", "layout", "color", "resize", "crop", "mean", "std", "shape", "dtype")
OUTPUT_KEYS = ("name", "task", "offset")

Size = int | tuple[int, int]
MAX_SIDE = 32768


@dataclass(frozen=True)
class InputContract:
    """How samples become tensors, and what the first output means.

    Attributes:
        name: Graph input that gets the sample; None where the network has only one.
        layout: ``NCHW``, ``NHWC``, or ``raw`` (arrays pass through; only mean and std, if any, are applied, along the
            last axis).
        color: Channel order that the network wants: ``RGB``, ``BGR`` or ``gray``.
        resize: ``(h, w)`` exactly, or one number for the shorter side (the longer one keeps the ratio, rounded down).
        crop: Centre crop ``(h, w)``; a single number in a file means a square.  Rows and columns left over are split
            evenly, the odd one at the bottom and on the right.
        mean: Per channel, or one for all, in pixel units 0..255.
        std: Per channel, or one for all; positive.
        output: Name of the output that the task is about; None for the first.
        task: What the output means: one of ``TASKS``.
        offset: Index of the first class in the output (1 for networks with a background class).
        shape: Shape of the graph input without its batch axis, None where an axis is free; set by ``bind``.
        dtype: Element type of the graph input; set by ``bind``.
    """

    name: str | None = None
    layout: str = "NCHW"
    color: str = "RGB"
    resize: Size | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    output: str | None = None
    task: str = "classification"
    offset: int = 0
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None

    KEYS: ClassVar[Mapping[str, tuple[str, ...]]] = {"input": INPUT_KEYS, "output": OUTPUT_KEYS}

    def __post_init__(self) -> None:
        if isinstance(self.crop, int):
            object.__setattr__(self, "crop", (self.crop, self.crop))
        for field in ("mean", "std"):
            object.__setattr__(self, field, tuple(float(v) for v in np.atleast_1d(getattr(self, field))))
        for field in ("resize", "crop"):
            value = getattr(self, field)
            sides = value if isinstance(value, tuple | list) else (value,) if value is not None else ()
            if sides and max(sides) > MAX_SIDE:
                raise InputMismatch(f"{field} = {printable(value)} is more than {MAX_SIDE} pixels to a side.")
            if isinstance(value, list):
                object.__setattr__(self, field, tuple(value))
        for field, choices in (("layout", LAYOUTS), ("color", COLORS), ("task", TASKS)):
            if (value := getattr(self, field)) not in choices:
                raise InputMismatch(f"{field} = {printable(repr(value))} is not known{nearest(value, choices)}.")
        if self.layout == "raw" and (self.resize is not None or self.crop is not None):
            raise InputMismatch('layout = "raw" passes arrays through unchanged, so resize and crop cannot be given.')
        if not all(math.isfinite(v) for v in (*self.mean, *self.std)) or min(self.std, default=0) <= 0:
            raise InputMismatch("Every mean must be a finite number and every std a positive one.")
        if not self.mean or (1 not in (len(self.mean), len(self.std)) and len(self.mean) != len(self.std)):
            raise InputMismatch(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}: give one per channel each."
            )
        if self.layout != "raw" and self.color == "gray" and self._listed > 1:
            raise InputMismatch('color = "gray" has one channel: give one mean and one std.')

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read ``MODEL.toml``.

        Raises:
            InputMismatch: if the file cannot be read, has an unknown key or a value of the wrong kind; it names the
                file and the key.
        """
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text("utf-8")))
        except OSError as error:
            raise InputMismatch(f"The input contract {printable(path)} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputMismatch(f"The input contract {printable(path)} is not valid TOML: {error}.") from error
        except InputMismatch as error:
            raise InputMismatch(f"The input contract {printable(path)} has a fault: {error}") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The contract of ``{"input": {...}, "output": {...}}``; the inverse of ``to_dict``.

        Raises:
            InputMismatch: on an unknown key (naming the nearest one) or a value of the wrong kind.
        """
        for table, keys in data.items():
            if table not in cls.KEYS:
                raise InputMismatch(f"[{printable(table)}] is not known{nearest(table, tuple(cls.KEYS))}.")
            if not isinstance(keys, Mapping):
                raise InputMismatch(f"[{table}] must be a table of keys, not {printable(repr(keys))}.")
            for key in keys:
                if key not in cls.KEYS[table]:
                    hint = nearest(key, cls.KEYS[table])
                    raise InputMismatch(f"[{table}] has no key {printable(repr(key))}{hint}.")
        into, out = data.get("input", {}), data.get("output", {})
        fields: dict[str, Any] = {k: _text(into, k) for k in ("name", "layout", "color", "dtype") if k in into}
        fields |= {k: _numbers(into, k) for k in ("mean", "std") if k in into}
        fields |= {k: _size(into, k) for k in ("resize", "crop") if k in into}
        fields |= {"output": _text(out, "name")} if "name" in out else {}
        fields |= {"task": _text(out, "task")} if "task" in out else {}
        if "offset" in out:
            if not _is_int(out["offset"], lowest=0):
                raise InputMismatch(f"offset must be a whole number from 0, not {printable(repr(out['offset']))}.")
            fields["offset"] = out["offset"]
        if "shape" in into:
            shape = into["shape"]
            if not isinstance(shape, Sequence) or not all(_is_int(v, lowest=0) for v in shape):
                raise InputMismatch(f"shape must be a list of whole numbers, 0 if free, not {printable(repr(shape))}.")
            fields["shape"] = tuple(v or None for v in shape)
        return cls(**fields)

    @classmethod
    def find(cls, model_path: str | Path) -> Self | None:
        """The contract ``MODEL.toml`` beside ``MODEL.onnx``, or None if there is no such file."""
        path = Path(model_path).with_suffix(".toml")
        return cls.from_toml(path) if path.is_file() else None

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The contract as plain values, with the keys of the TOML file; ``shape`` and ``dtype`` only if bound."""
        into: dict[str, Any] = {"layout": self.layout, "color": self.color}
        into |= {"name": self.name} if self.name is not None else {}
        into |= {"mean": list(self.mean), "std": list(self.std)}
        for key in ("resize", "crop"):
            value = getattr(self, key)
            if value is not None:
                into[key] = value if isinstance(value, int) else list(value)
        into |= {"shape": [v or 0 for v in self.shape]} if self.shape is not None else {}
        into |= {"dtype": self.dtype} if self.dtype is not None else {}
        out: dict[str, Any] = {"task": self.task, "offset": self.offset}
        out |= {"name": self.output} if self.output is not None else {}
        return {"input": into, "output": out}

    def bind(self, shape: Sequence[int | None], dtype: DTypeLike = np.float32, *, name: str | None = None) -> Self:
        """The same contract, told which graph input it serves.

        A bound contract knows how many channels the network wants, so that a gray picture can become RGB, and gives
        raw arrays the network's own shape.

        Args:
            shape: Shape of the graph input *with* its batch axis, as ``Network.shape`` gives it; None for a free axis.
            dtype: Its element type.
            name: Its name, taken if the contract names none.

        Raises:
            InputMismatch: if mean, std or color contradict the number of channels.
        """
        bound = replace(
            self, shape=tuple(v or None for v in shape[1:]), dtype=np.dtype(dtype).name, name=self.name or name
        )
        channels, listed = bound.channels, self._listed
        if bound.layout != "raw" and channels is not None:
            if listed > 1 and listed != channels:
                raise InputMismatch(
                    f"The input contract lists mean and std for {listed} channels, but in layout {self.layout} the "
                    f"network's input {_plain(shape)} has {channels}: correct mean and std, or layout."
                )
            if self.color == "gray" and channels != 1:
                raise InputMismatch(
                    f'The input contract says color = "gray", but in layout {self.layout} the network\'s input '
                    f"{_plain(shape)} has {channels} channels: correct color or layout."
                )
        return bound

    @property
    def channels(self) -> int | None:
        """How many channels the network wants, as far as the contract knows."""
        if self.layout == "raw":
            return None
        if self.shape is not None and len(self.shape) == 3:
            return self.shape[0 if self.layout == "NCHW" else 2]
        if self.color == "gray":
            return 1
        return self._listed if self._listed > 1 else None

    @property
    def _listed(self) -> int:
        return max(len(self.mean), len(self.std))

    @property
    def scale(self) -> NDArray[np.float32]:
        """``float32(1 / std)``, the factor that is used: shape ``[1]`` or ``[channels]``."""
        return (1.0 / np.asarray(self.std, np.float64)).astype(np.float32)

    @property
    def normalizes(self) -> bool:
        """Whether mean and std change anything."""
        return any(v != 0 for v in self.mean) or any(v != 1 for v in self.std)

    def apply(self, sample: object) -> NDArray[Any]:
        """Turn one sample into what the graph input wants, without the batch axis.

        Args:
            sample: A PIL image (any mode, see ``bitwright.data.image``), or an array: ``[h, w]``, ``[h, w, c]`` or
                ``[c, h, w]`` in pixel units, uint8 or float; any shape for layout raw.

        Returns:
            float32 of shape ``[c, h, w]`` (NCHW), ``[h, w, c]`` (NHWC), or the network's own (raw); integer inputs
            such as token ids keep their integers.

        Raises:
            InputMismatch: if the sample cannot become what the contract says; it names the key to correct.
        """
        return transform.apply(self, sample)


def default_contract(
    shape: Sequence[int | None], dtype: DTypeLike = np.float32, *, name: str | None = None
) -> tuple[InputContract, tuple[str, ...]]:
    """The contract that a graph input suggests where no ``MODEL.toml`` says better, and a sentence that says so.

    Args:
        shape: Shape of the graph input with its batch axis; None for a free axis.
        dtype: Its element type.
        name: Its name.

    Returns:
        The bound contract and the notes to show the user.
    """
    inner = tuple(v or None for v in shape[1:])
    few = (1, 3, 4)
    layout = "raw"
    if len(inner) == 3 and np.issubdtype(np.dtype(dtype), np.floating):
        layout = "NCHW" if inner[0] in few else "NHWC" if inner[2] in few else "raw"
    if layout == "raw":
        what = "arrays go into the network unchanged"
        return InputContract(name, "raw").bind(shape, dtype, name=name), (_no_contract(shape, what),)
    channels = inner[0] if layout == "NCHW" else inner[2]
    height, width = inner[1:] if layout == "NCHW" else inner[:2]
    size = None if height is None or width is None else (height, width)
    color = "gray" if channels == 1 else "RGB"
    what = f"layout {layout}, color {color}, " + (f"images resized to {size[0]}x{size[1]}, " if size else "")
    what += "pixels 0..255 go in without mean and std"
    return InputContract(name, layout, color, resize=size).bind(shape, dtype, name=name), (_no_contract(shape, what),)


def _no_contract(shape: Sequence[int | None], what: str) -> str:
    return (
        f"No input contract was found, so it was taken from the input's shape {_plain(shape)}: {what}. "
        "Write MODEL.toml beside the model if it was trained otherwise."
    )


def nearest(word: object, choices: Sequence[str]) -> str:
    """``": did you mean X?"`` or the list of choices, to end a sentence with."""
    close = difflib.get_close_matches(str(word), choices, 1, 0.6) or [
        c for c in choices if c.lower() == str(word).lower()
    ]
    return f": did you mean {close[0]!r}" if close else f"; known are {', '.join(choices)}"


def _plain(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if v is None else str(v) for v in shape) + "]"


def _is_int(value: object, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value:
        raise InputMismatch(f"{key} must be a text in quotes, not {printable(repr(value))}.")
    return value


def _numbers(table: Mapping[str, Any], key: str) -> tuple[float, ...]:
    value = table[key]
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise InputMismatch(f"{key} must be a list of numbers, one per channel, not {printable(repr(value))}.")
    return tuple(float(v) for v in values)


def _size(table: Mapping[str, Any], key: str) -> Size:
    value = table[key]
    if _is_int(value, lowest=1):
        return int(value) if key == "resize" else (int(value), int(value))
    if isinstance(value, list | tuple) and len(value) == 2 and all(_is_int(v, lowest=1) for v in value):
        return (int(value[0]), int(value[1]))
    raise InputMismatch(f"{key} must be a positive whole number or [height, width], not {printable(repr(value))}.")
