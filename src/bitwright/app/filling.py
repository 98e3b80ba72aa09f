"""Activations as they are seen while calibration is still counting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bitwright.view.seen import TensorSeen

if TYPE_CHECKING:
    from bitwright.calibrate.assign import Formats
    from bitwright.calibrate.spec import NetworkSpec
    from bitwright.calibrate.statistics import Statistics
    from bitwright.calibrate.tensor_stats import TensorStats
    from bitwright.number.format import Format


def activations_seen(spec: NetworkSpec, statistics: Statistics, formats: Formats) -> tuple[TensorSeen, ...]:
    """Inputs and outputs of layers, in order, in the formats that they would have now."""
    makers = {t: layer.name for layer in spec.layers for t in layer.outputs}
    found = []
    for tensor, format in formats.activations.items():
        stats = statistics.activations.get(tensor)
        if stats is None or not stats.finite or tensor in spec.integer:
            continue
        shape = "×".join(map(str, spec.shapes.get(tensor, ())[1:]))
        root = formats.group.get(tensor, tensor)
        found.append(
            activation_seen(tensor, makers.get(tensor, ""), stats, format, shape, "" if root == tensor else root)
        )
    return tuple(found)


def activation_seen(
    tensor: str, layer: str, stats: TensorStats, format: Format, shape: str = "", shares: str = ""
) -> TensorSeen:
    """One activation in a format, its figures estimated from the histogram."""
    from bitwright.tensors import estimate
    from bitwright.view.tensors import bits_of_stats, type_seen

    figures = estimate(stats, format)
    decibel = figures.get("sqnr_db")
    return TensorSeen(
        name=tensor,
        layer=layer,
        kind="Activations",
        type=type_seen(format),
        min=stats.lo,
        max=stats.hi,
        overflow=figures.get("overflow"),
        underflow=figures.get("underflow"),
        sqnr_db=None if decibel is None or math.isinf(decibel) else decibel,
        lossless=decibel == math.inf,
        bits=bits_of_stats(stats, format),
        shape=shape,
        shares=shares,
    )
