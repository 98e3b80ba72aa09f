"""What a batch normalization says of its output: mean and deviation of every channel, without any data.

A normalized channel has mean 0 and variance 1 over the training data, so after scale and shift its mean is β and its
deviation |γ| (Nagel et al. 2019, arXiv:1906.04721, section 4.2.1).  Folding writes these numbers onto the linear layer
that takes the normalization in; passes that scale or shift its outputs change them along.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

Reals = NDArray[np.float64]

KEY = "bitwright.normal"
"""In a node's metadata: ``[[mean, ...], [deviation, ...]]`` of its output channels."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Moments of the channels of a tensor.

    Attributes:
        mean: ``[channels]``.
        deviation: Not negative, ``[channels]``.
    """

    mean: Reals
    deviation: Reals

    def scaled(self, scale: Reals, shift: Reals) -> Normal:
        """Moments of ``scale · x + shift``, ``[channels]`` or 0-d each."""
        return Normal(self.mean * scale + shift, self.deviation * np.abs(scale))


def of_batch_norm(gamma: NDArray[Any], beta: NDArray[Any], variance: NDArray[Any], epsilon: float) -> Normal:
    """Moments of a batch normalization's output; all ``[channels]``."""
    variance = np.asarray(variance, np.float64)
    share = np.sqrt(variance / (variance + epsilon))  # epsilon takes some of the variance away
    return Normal(np.asarray(beta, np.float64), np.abs(np.asarray(gamma, np.float64)) * share)


def read(node: ir.Node) -> Normal | None:
    """What is written on ``node``, or None; anything else than two equally long lists of numbers counts as nothing."""
    values = two_lists(node.metadata_props.get(KEY, ""))
    return None if values is None or (values[1] < 0).any() else Normal(values[0], values[1])


def two_lists(text: str) -> Reals | None:
    """Two equally long lists of finite numbers as ``[2, n]``, or None if ``text`` is anything else."""
    try:
        values = np.asarray(json.loads(text), np.float64)
    except (ValueError, TypeError, RecursionError):
        return None
    return values if values.ndim == 2 and len(values) == 2 and np.isfinite(values).all() else None


def write(node: ir.Node, normal: Normal | None) -> None:
    """Write moments onto ``node``; None takes them away."""
    if normal is None or not (np.isfinite(normal.mean).all() and np.isfinite(normal.deviation).all()):
        node.metadata_props.pop(KEY, None)
        return
    rows = [[float(f"{x:.7g}") for x in part] for part in (normal.mean, normal.deviation)]
    node.metadata_props[KEY] = json.dumps(rows, separators=(",", ":"))


def rescale(node: ir.Node, scale: Reals, shift: Reals) -> None:
    """Change what is written on ``node`` along with its outputs, ``scale · y + shift``."""
    known = read(node)
    if known is not None:
        write(node, known.scaled(scale, shift))
