"""What folding did to the numbers of a layer: the ranges before and after, and the bits that they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.number.format import exponent_of

Floats = NDArray[np.floating[Any]]
Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Fold:
    """One tensor of one layer before and after something was folded into it.

    Attributes:
        layer: The layer whose tensor changed.
        kind: Which of its tensors.
        sources: Source nodes that were folded in.
        before: Smallest and largest value before; (0, 0) for a bias that did not exist.
        after: The same after.
        scales: The factor of each output channel (γ/√(σ²+ε) of a batch norm), ``[channels]``; empty if folding was
            along the input.
        channel_bits_lost: For each output channel the bits that it loses when the whole tensor has one power-of-two
            format, ``[channels]``: how far the tensor's exponent rose, less how far the channel's own maximum did.
            Negative where a channel gained.
    """

    layer: str
    kind: Literal["weights", "bias"]
    sources: tuple[str, ...]
    before: Range
    after: Range
    scales: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    channel_bits_lost: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def factor(self) -> float:
        """How much larger the largest magnitude became; 1 where there was nothing before or is nothing now."""
        before, after = _magnitude(self.before), _magnitude(self.after)
        return after / before if before > 0 and after > 0 else 1.0

    @property
    def bits_lost(self) -> int:
        """How far the exponent of a power-of-two format for the whole tensor rises (MathWorks' min-max rule).

        The rule is ``floor(log2 max) - bits + 2``, so the difference does not depend on the number of bits.
        """
        before, after = _magnitude(self.before), _magnitude(self.after)
        return exponent_of(after) - exponent_of(before) if before > 0 and after > 0 else 0

    @property
    def worst_channel(self) -> int | None:
        """The channel with the largest factor, or None."""
        return int(np.argmax(np.abs(self.scales))) if self.scales.size else None

    @property
    def worst_scale(self) -> float:
        """The factor of that channel; 1 without one."""
        worst = self.worst_channel
        return 1.0 if worst is None else float(self.scales[worst])

    @property
    def text(self) -> str:
        """For example ``weights ×11.4, 3 bits lost in channels that are not scaled``."""
        if self.kind == "bias":
            if _magnitude(self.before) == 0:
                return f"bias new, {self.after[0]:.4g}..{self.after[1]:.4g}"
            return f"bias {_bits(self.bits_lost)}" if self.bits_lost else f"bias ×{self.factor:.3g}"
        lost = self.bits_lost
        if lost > 0:
            return f"weights ×{self.factor:.3g}, {_bits(lost)} lost in channels that are not scaled"
        if lost < 0:
            return f"weights ×{self.factor:.3g}, {_bits(-lost)} gained in channels that are not scaled"
        return f"weights ×{self.factor:.3g}, no bits lost"

    def to_json(self) -> dict[str, Any]:
        """Plain values: the ranges, what they cost, and the sentence."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "sources": list(self.sources),
            "before": list(self.before),
            "after": list(self.after),
            "factor": self.factor,
            "bits_lost": self.bits_lost,
            "worst_channel": self.worst_channel,
            "worst_scale": self.worst_scale,
            "channel_bits_lost": [int(b) for b in self.channel_bits_lost],
            "text": self.text,
        }


def sentence(folds: tuple[Fold, ...]) -> str:
    """One sentence for the folds of one layer: ``conv1: weights ×11.4, 3 bits lost ...; bias 10 bits``."""
    text = f"{printable(folds[0].layer)}: " + "; ".join(fold.text for fold in folds)
    weights = next((fold for fold in folds if fold.kind == "weights" and fold.worst_channel is not None), None)
    if weights is not None:
        text += f" (largest factor {weights.worst_scale:.3g}, in channel {weights.worst_channel})"
    return text


def compare(
    layer: str,
    sources: tuple[str, ...],
    weights: tuple[Floats, Floats],
    biases: tuple[Floats | None, Floats | None],
    scales: Floats | None = None,
) -> tuple[Fold, ...]:
    """The folds of one layer from its tensors before and after.

    Args:
        layer: Name of the layer.
        sources: What was folded in.
        weights: ``[out, in, ...]`` before and after.
        biases: ``[out]`` before and after, None where there is none.
        scales: ``[out]`` factor of each channel, or None.
    """
    found = [_fold(layer, "weights", sources, *weights, scales)]
    if biases[1] is not None:
        before = np.zeros(0) if biases[0] is None else biases[0]
        found.append(_fold(layer, "bias", sources, before, biases[1], scales))
    return tuple(found)


def _fold(
    layer: str,
    kind: Literal["weights", "bias"],
    sources: tuple[str, ...],
    before: Floats,
    after: Floats,
    scales: Floats | None,
) -> Fold:
    return Fold(
        layer=layer,
        kind=kind,
        sources=sources,
        before=_range(before),
        after=_range(after),
        scales=np.zeros(0) if scales is None else np.asarray(scales, np.float64),
        channel_bits_lost=channel_bits_lost(before, after),
    )


def channel_bits_lost(before: Floats, after: Floats) -> NDArray[np.int64]:
    """Bits that each channel (axis 0) loses in one shared power-of-two format; zeros where a channel is all zero."""
    if before.shape != after.shape or before.ndim == 0 or before.size == 0:
        return np.zeros(0, np.int64)
    tops = [np.abs(x.reshape(len(x), -1)).max(axis=1) for x in (before, after)]
    tensors = [float(t.max()) for t in tops]
    if min(tensors) <= 0:
        return np.zeros(len(before), np.int64)
    rise = exponent_of(tensors[1]) - exponent_of(tensors[0])
    own = [np.frexp(np.where(t > 0, t, 1.0))[1].astype(np.int64) for t in tops]
    alive = (tops[0] > 0) & (tops[1] > 0)
    return np.where(alive, rise - (own[1] - own[0]), 0)


def _range(x: Floats) -> Range:
    return (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)


def _magnitude(limits: Range) -> float:
    magnitude = max(abs(limits[0]), abs(limits[1]))
    return magnitude if math.isfinite(magnitude) else 0.0


def _bits(count: int) -> str:
    return f"{count} bit" if abs(count) == 1 else f"{count} bits"
