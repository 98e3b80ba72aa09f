"""What training left in batch normalizations: the mean and the deviation that each channel had on the training data.

Folding makes them part of weights and biases.  They are kept, because inputs that give a layer another mean and another
deviation than it had in training are not prepared as they were in training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.passes.affine import read_batch_norm
from bitwright.passes.fold import Fold

if TYPE_CHECKING:
    from bitwright.network.network import Network

MOST = 3
"""Layers that are kept: those nearest to the input."""


@dataclass(frozen=True, eq=False)
class Norm:
    """What one layer's outputs were like in training.

    Attributes:
        layer: The layer that a batch normalization was folded into.
        source: The batch normalization.
        mean: β, the mean of its output in training, ``[channels]``.
        deviation: |γ|, its standard deviation (Ioffe and Szegedy, *Batch Normalization*, 2015, algorithm 1).
    """

    layer: str
    source: str
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "layer": self.layer,
            "source": self.source,
            "mean": [float(f"{x:.7g}") for x in self.mean],
            "deviation": [float(f"{x:.7g}") for x in self.deviation],
        }


def trained_norms(source: Network, folds: Iterable[Fold]) -> tuple[Norm, ...]:
    """The batch normalizations nearest to the input that were folded into the layers before them.

    Args:
        source: The network before folding.
        folds: What was folded.
    """
    norms: dict[str, Norm] = {}
    for node in source.nodes():
        if node.op_type == "BatchNormalization" and not isinstance(read_batch_norm(source, node), str):
            gamma, beta = (source.constant(str(node.inputs[i].name)) for i in (1, 2))  # type: ignore[union-attr]
            assert gamma is not None
            assert beta is not None  # read_batch_norm asks for constants
            norms[str(node.name)] = Norm("", str(node.name), beta.astype(np.float64), np.abs(gamma.astype(np.float64)))
    found: dict[str, Norm] = {}
    order = [str(node.name) for node in source.nodes()]
    # A fold along the outputs has a factor for each of them; the last one folded in is what the layer gives.
    for fold in folds:
        if fold.kind != "weights" or not fold.scales.size:
            continue
        inside = [norms[name] for name in fold.sources if name in norms]
        if inside:
            last = inside[-1]
            found[fold.layer] = Norm(fold.layer, last.source, last.mean, last.deviation)
        else:
            found.pop(fold.layer, None)  # something else was put behind it
    ranked = sorted(found.values(), key=lambda norm: order.index(norm.source))
    return tuple(ranked[:MOST])
