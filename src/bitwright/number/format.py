"""What an integer means: formats, and the rules by which a tensor gets one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


class Rounding(StrEnum):
    """How a real number between two integers becomes one of them.  Always declared, never the host's habit."""

    HALF_AWAY = "half-away"
    HALF_UP = "half-up"
    HALF_EVEN = "half-even"
    TOWARD_ZERO = "toward-zero"
    FLOOR = "floor"


def round_real(x: Floats, rounding: Rounding) -> NDArray[np.float64]:
    """Round every element of ``x`` to an integer-valued float64.

    ``np.round`` is half-to-even.  The other ties are found in ``|x| - floor(|x|)``, which float64 holds exactly; the
    fraction of a negative number, ``x - floor(x)``, it does not (``-0.5 + 2**-54`` would look like a tie).
    Infinities stay infinite.
    """
    x = np.asarray(x, np.float64)
    match rounding:
        case Rounding.FLOOR:
            return np.asarray(np.floor(x))
        case Rounding.TOWARD_ZERO:
            return np.asarray(np.trunc(x))
        case Rounding.HALF_EVEN:
            return np.asarray(np.rint(x))
        case Rounding.HALF_UP | Rounding.HALF_AWAY:
            magnitude = np.abs(x)
            whole = np.floor(magnitude)
            with np.errstate(invalid="ignore"):  # infinity less infinity: no fraction
                fraction = magnitude - whole
            up = fraction >= 0.5
            if rounding is Rounding.HALF_UP:
                up = np.where(x >= 0, up, fraction > 0.5)
            return np.asarray(np.copysign(whole + up, x))


@dataclass(frozen=True, eq=False)
class Format:
    """How real numbers are stored in a tensor of integers: ``real = scale * (integer - zero_point)``.

    Invariants: ``2 <= bits <= 64``; every scale is positive and finite; every zero point lies in ``[lo, hi]``;
    ``scale`` and ``zero_point`` are 0-d, or 1-d along ``axis``.

    Attributes:
        bits: Width of the stored integer, sign included.
        signed: Two's complement if true.
        scale: Real value of one step, float64, shape ``[]`` or ``[shape[axis]]``.
        zero_point: The integer that means 0.0, int64, same shape as ``scale``.
        axis: The axis along which scale and zero point vary, or None for one format for the whole tensor.
        narrow: The lowest code is not used (-127..127 instead of -128..127).
    """

    bits: int
    signed: bool
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64] = field(default_factory=lambda: np.zeros((), np.int64))
    axis: int | None = None
    narrow: bool = False

    def __post_init__(self) -> None:
        scale = np.array(self.scale, np.float64)
        zero_point = np.array(np.broadcast_to(np.asarray(self.zero_point, np.int64), scale.shape))
        scale.flags.writeable = zero_point.flags.writeable = False
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)
        if not 2 <= self.bits <= 64:
            raise ValueError(f"bits must lie in 2..64, not {self.bits}")
        if scale.ndim > 1 or (scale.ndim == 1) != (self.axis is not None):
            raise ValueError(f"scale of shape {scale.shape} does not go with axis {self.axis}")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("every scale must be positive and finite")
        if ((zero_point < self.lo) | (zero_point > self.hi)).any():
            raise ValueError(f"zero point outside {self.lo}..{self.hi}")

    @classmethod
    def power_of_two(
        cls, bits: int, exponent: ArrayLike, *, signed: bool = True, axis: int | None = None, narrow: bool = False
    ) -> Format:
        """The format whose step is ``2**exponent``, for one exponent or one per channel."""
        return cls(bits, signed, np.exp2(np.asarray(exponent, np.float64)), axis=axis, narrow=narrow)

    @property
    def lo(self) -> int:
        """Lowest integer that may be stored."""
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def hi(self) -> int:
        """Highest integer that may be stored."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def exponent(self) -> NDArray[np.int64] | None:
        """The exponents of a power-of-two format, or None if any scale is not a power of two or is shifted."""
        mantissa, exponent = np.frexp(self.scale)
        if (mantissa != 0.5).any() or self.zero_point.any():
            return None
        return np.asarray(exponent - 1, np.int64)

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        """The smallest NumPy type that holds the integers."""
        width = next(w for w in (8, 16, 32, 64) if w >= self.bits)
        return np.dtype(f"{'int' if self.signed else 'uint'}{width}")

    @property
    def real_range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest real number that can be stored, each of the shape of ``scale``."""
        return self.scale * (self.lo - self.zero_point), self.scale * (self.hi - self.zero_point)

    def along(self, values: NDArray[Any], ndim: int) -> NDArray[Any]:
        """``values`` (of the shape of ``scale``) shaped to broadcast against a tensor of ``ndim`` axes."""
        if self.axis is None:
            return values
        shape = [1] * ndim
        shape[self.axis] = -1
        return values.reshape(shape)

    def quantize(self, x: ArrayLike, rounding: Rounding = Rounding.HALF_AWAY) -> Integers:
        """The integers nearest to real ``x``, saturated; same shape as ``x``.

        Raises:
            ValueError: if ``x`` holds NaN; infinities saturate.
        """
        x = np.asarray(x, np.float64)
        if np.isnan(x).any():
            raise ValueError("NaN cannot be quantized")
        with np.errstate(over="ignore"):  # beyond every float is beyond the format too
            q = round_real(x / self.along(self.scale, x.ndim), rounding) + self.along(self.zero_point, x.ndim)
        if self.bits <= 53:
            return np.asarray(np.clip(q, self.lo, self.hi).astype(self.dtype))
        # The highest code is no float64, and the float next to it does not fit the integer.
        top = np.nextafter(float(self.hi), 0)
        return np.where(q > top, self.dtype.type(self.hi), np.clip(q, self.lo, top).astype(self.dtype))

    def dequantize(self, q: Integers) -> NDArray[np.float64]:
        """The real numbers that integers ``q`` stand for; same shape as ``q``."""
        q = np.asarray(q)
        shifted = q.astype(np.int64) - self.along(self.zero_point, q.ndim)
        return np.asarray(shifted * self.along(self.scale, q.ndim), np.float64)

    def __str__(self) -> str:
        name = f"{'' if self.signed else 'u'}int{self.bits}"
        exponent = self.exponent
        if exponent is not None:
            low, high = int(exponent.min()), int(exponent.max())
            return f"{name}·2^{low}" if self.axis is None else f"{name}·2^[{low}..{high}] per channel"
        if self.axis is not None:
            return f"{name}·[{self.scale.min():.4g}..{self.scale.max():.4g}] per channel"
        zero_point = int(self.zero_point)
        return f"{name}·{float(self.scale):.6g}" + (f" (zero point {zero_point})" if zero_point else "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.bits, self.signed, self.scale.tobytes(), self.zero_point.tobytes(), self.axis, self.narrow)


CLASSES = ("exact", "precision loss", "underflow", "overflow")
"""What can happen to a number that is stored in a format; :func:`classify` returns these."""


def classify(x: ArrayLike, format: Format, rounding: Rounding = Rounding.HALF_AWAY) -> NDArray[np.str_]:
    """What storing each element of ``x`` in ``format`` does to it.

    - ``exact``: the stored number is the same.
    - ``precision loss``: it is another one, but neither zero nor cut off.
    - ``underflow``: a number other than zero is stored as zero.
    - ``overflow``: the rounded number lies outside the format and saturates.

    Args:
        x: Real numbers.
        format: What they are stored in.
        rounding: How.

    Returns:
        One of ``CLASSES`` per element, same shape as ``x``.

    Raises:
        ValueError: if ``x`` holds NaN.
    """
    x = np.asarray(x, np.float64)
    stored = format.quantize(x, rounding)
    with np.errstate(over="ignore"):
        steps = round_real(x / format.along(format.scale, x.ndim), rounding) + format.along(format.zero_point, x.ndim)
    value = format.dequantize(stored)
    which = np.select(
        [(steps < format.lo) | (steps > format.hi), value == x, value == 0],
        [CLASSES.index("overflow"), CLASSES.index("exact"), CLASSES.index("underflow")],
        CLASSES.index("precision loss"),
    )
    return np.asarray(np.asarray(CLASSES)[which], np.str_)


Scaling = Literal["power-of-two", "multiplier"]


@dataclass(frozen=True, kw_only=True)
class FormatRule:
    """What a target lets a tensor's format be, before the tensor's numbers are known.

    Attributes:
        bits: Width of the stored integer.
        signed: Whether it is two's complement; ``"auto"`` takes unsigned where the range has no negative number.
        scaling: Steps of 2^n only, or any positive step.
        symmetric: The zero point is fixed at 0 (or, unsigned, the range starts at 0).
        per_channel: One step per output channel.
        narrow: Leave out the lowest code.
        rounding: How constants and inputs are rounded into this format.
        exponent_rule: Which min-max rule gives the exponent of a power-of-two format: ``"mathworks"``
            (floor(log2 max) - bits + 2), ``"vitis"`` (max / (2^(bits-1) - 0.5), -128 used) or ``"nnom"``
            (ceil(log2(max·(1 - 2^-bits))) - bits + 1).  Semantics in ``docs/explanation/exponents.md``.
        exponent_range: Lowest and highest exponent that the hardware can hold.
    """

    bits: int = 8
    signed: bool | Literal["auto"] = True
    scaling: Scaling = "multiplier"
    symmetric: bool = True
    per_channel: bool = False
    narrow: bool = False
    rounding: Rounding = Rounding.HALF_AWAY
    exponent_rule: Literal["mathworks", "vitis", "nnom"] = "mathworks"
    exponent_range: tuple[int, int] = (-64, 63)

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise ValueError(f"bits must lie in 2..32, not {self.bits}")


@dataclass(frozen=True)
class Own:
    """A tensor whose format follows from its own statistics."""


@dataclass(frozen=True)
class Shared:
    """A tensor that must have the format of another one (concatenation, pooling, reshaping)."""

    tensor: str


@dataclass(frozen=True)
class Derived:
    """A tensor whose step is the product of two others (bias at the scale of the accumulator)."""

    input: str
    weight: str


@dataclass(frozen=True)
class Fixed:
    """A tensor whose format the target or the operator prescribes (softmax, sigmoid)."""

    format: Format


FormatSource = Own | Shared | Derived | Fixed


def exponent_of(value: float) -> int:
    """``floor(log2(value))`` for a positive float, exactly."""
    return math.frexp(value)[1] - 1
