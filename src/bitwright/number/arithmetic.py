"""How a machine turns an accumulator into an output integer: the declaration that every back end reads.

Also here, because they are arithmetic and not policy: the multipliers by which the DPU averages and leaks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from bitwright.number.format import Rounding

Requantize = Literal["shift", "multiplier-single", "multiplier-double", "float32"]

# Every named profile of integer semantics, and the requantizer and rounding that it stands for.  A name is a promise:
# what it computes never changes; a corrected meaning gets a new name.
SEMANTICS: Mapping[str, tuple[Requantize, Rounding]] = MappingProxyType(
    {
        "pow2-halfup": ("shift", Rounding.HALF_UP),
        "pow2-halfaway": ("shift", Rounding.HALF_AWAY),
        "pow2-halfeven": ("shift", Rounding.HALF_EVEN),
        "pow2-floor": ("shift", Rounding.FLOOR),
        "tflite-double": ("multiplier-double", Rounding.HALF_AWAY),
        "tflite-single": ("multiplier-single", Rounding.HALF_UP),
        "ort-cpu": ("float32", Rounding.HALF_EVEN),
        "float32-half-even": ("float32", Rounding.HALF_EVEN),
        "float32-half-away": ("float32", Rounding.HALF_AWAY),
    }
)


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How an accumulator becomes an output integer.

    With ``acc`` the accumulator, ``ratio`` its step over the output's step, and ``rnd`` the declared rounding:

    - ``shift``: ``rnd(acc * 2**-s)``, where ``ratio = 2**-s``.
    - ``multiplier-single``: ``rnd(acc * m * 2**-s)`` with an integer ``m``; one rounding.
    - ``multiplier-double``: ``high = floor(acc * 2**left * m / 2**31 + 1/2)``, then ``high / 2**right`` rounded half
      away from zero; two roundings.  (TensorFlow Lite and CMSIS-NN by default.)
    - ``float32``: ``rnd(float32(acc) * float32(ratio))``, where both the conversion and the product round to nearest
      even as IEEE 754 says.

    The result is then saturated to the output's format.

    Attributes:
        requantize: Which of the four.
        rounding: Of the shift, of the single-rounding multiplier, or of the float32 product; for
            ``multiplier-double`` of its second step (the first is always half-up).
        multiplier_bits: Magnitude bits of the integer multiplier (31 for Q31).
        accumulator_bits: Width of the accumulator, sign included.  That it never overflows is proven per layer.
        shift_bits: Lowest and highest right shift of the requantizer; negative is left.
        bias_shift_bits: Lowest and highest left shift that brings a bias with its own exponent to the accumulator's;
            None for no limit.
        bias_shift_rule: ``"vitis"`` replaces the lowest bias shift by ``min(0, -(24 - (8 + s)))``, ``s`` being the
            layer's right shift.  A negative bias shift means that the bias is finer than the accumulator; the bias
            is then rounded half up to the accumulator's steps.  (Limits: Vitis AI, ``fix_pos_adjust.py``; where in
            the array the DPU rounds such a bias is not documented, so this choice is ours.)
        semantics: Name of the profile, a key of ``SEMANTICS``.

    Raises:
        ValueError: a number is out of range, or the profile's name says something else than the other fields.
    """

    requantize: Requantize
    rounding: Rounding
    multiplier_bits: int = 31
    accumulator_bits: int = 32
    shift_bits: tuple[int, int] = (-31, 62)
    bias_shift_bits: tuple[int, int] | None = None
    bias_shift_rule: Literal["none", "vitis"] = "none"
    semantics: str

    def __post_init__(self) -> None:
        if not 2 <= self.multiplier_bits <= 31:
            raise ValueError(f"multiplier_bits must lie in 2..31, not {self.multiplier_bits}")
        if not 8 <= self.accumulator_bits <= 64:
            raise ValueError(f"accumulator_bits must lie in 8..64, not {self.accumulator_bits}")
        for name, limits in (("shift_bits", self.shift_bits), ("bias_shift_bits", self.bias_shift_bits)):
            if limits is not None and not -63 <= limits[0] <= limits[1] <= 63:
                raise ValueError(f"{name} must be [lowest, highest] within -63..63, not {list(limits)}")
        if self.semantics not in SEMANTICS:
            raise ValueError(f'semantics must be one of {", ".join(SEMANTICS)}, not "{self.semantics}"')
        if SEMANTICS[self.semantics] != (self.requantize, self.rounding):
            kind, rounding = SEMANTICS[self.semantics]
            fits = [name for name, meaning in SEMANTICS.items() if meaning == (self.requantize, self.rounding)]
            advice = f"; say semantics = {' or '.join(fits)}" if fits else ""
            raise ValueError(
                f'semantics "{self.semantics}" means requantize "{kind}" with rounding "{rounding}", not '
                f'"{self.requantize}" with "{self.rounding}"{advice}'
            )

    def bias_shift_limits(self, shift: int) -> tuple[int, int] | None:
        """Lowest and highest left shift of a bias in a layer whose requantizer shifts right by ``shift``."""
        if self.bias_shift_bits is None or self.bias_shift_rule == "none":
            return self.bias_shift_bits
        return min(0, -(24 - (8 + shift))), self.bias_shift_bits[1]


DPU_LEAKY_SLOPE = (26, 8)
"""The only slope of the DPU's LeakyRelu, as ``(k, n)`` for ``k / 2**n``: 0.1015625, for networks trained with 0.1."""

# Kernel → (k, n) for which Vitis AI does not search; sums are multiplied by k / 2**n.
_DPU_POOL = {
    (3, 3): (7, 6),
    (5, 5): (10, 8),
    (6, 6): (7, 8),
    (3, 6): (14, 8),
    (6, 3): (14, 8),
    (7, 7): (21, 10),
    (14, 14): (21, 12),
}


def dpu_pool_factor(kernel: Sequence[int]) -> tuple[int, int]:
    """``(k, n)`` such that the DPU's mean over a window is ``sum * k / 2**n``.

    Seven kernels have prescribed factors.  For the others ``k / 2**n`` is the nearest to ``1 / size`` with
    ``n < ceil(log2(128 * size))``; on ties the smallest ``n``.

    Args:
        kernel: Window height and width (or any number of extents), each >= 1.

    Raises:
        ValueError: an extent is below 1.

    Source: Vitis AI ``pytorch_nndct/nn/modules/avgpool.py`` (3×6 and 6×3 as ``36·7/256`` of the mean).
    """
    if not kernel or min(kernel) < 1:
        raise ValueError(f"a pooling window needs extents of at least 1, not {list(kernel)}")
    known = _DPU_POOL.get(tuple(kernel))  # type: ignore[arg-type]
    if known:
        return known
    size = math.prod(kernel)
    limit = (128 * size - 1).bit_length()  # ceil(log2(128 * size)), exactly
    # round() is half-even, as in the Python of the source; min() keeps the first of equals.
    n = min(range(limit), key=lambda n: abs(Fraction(round(Fraction(1 << n, size)), 1 << n) - Fraction(1, size)))
    return round(Fraction(1 << n, size)), n
