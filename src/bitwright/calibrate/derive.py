"""Tensors that hold exactly the values of others need not be looked at: their statistics follow.

A concatenation holds what its inputs hold, so its statistics are their sum, exactly; reshaping and moving change
nothing that is counted.  In SqueezeNet that spares a third of all elements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from bitwright.calibrate.tensor_stats import TensorStats

if TYPE_CHECKING:
    from bitwright.network.network import Network

SAME_VALUES = frozenset(
    {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "DepthToSpace", "SpaceToDepth"}
)


def _origins(net: Network, tensor: str) -> tuple[str, ...] | None:
    """The tensors whose elements, together, ``tensor`` holds; None if it holds anything else."""
    node = net.producer(tensor)
    if node is None:
        return None
    inputs = [str(v.name) for v in node.inputs if v is not None]
    if node.op_type in SAME_VALUES:
        inputs = inputs[:1]
    elif node.op_type != "Concat":
        return None
    return None if any(net.is_constant(name) for name in inputs) else tuple(inputs)


def derivable(net: Network, tensors: Iterable[str], channels: Collection[str]) -> frozenset[str]:
    """Which of ``tensors`` follow from others of them.  One whose channels are wanted does not."""
    wanted = set(tensors)
    return frozenset(
        t
        for t in wanted
        if t not in channels and (origins := _origins(net, t)) is not None and wanted.issuperset(origins)
    )


def derived(net: Network, tensors: Iterable[str], counted: Mapping[str, TensorStats]) -> dict[str, TensorStats]:
    """The statistics of all ``tensors``, from those that were counted."""
    found = dict(counted)

    def get(tensor: str) -> TensorStats:
        if tensor not in found:
            origins = _origins(net, tensor)
            assert origins is not None
            parts = [get(origin).overall() for origin in origins]
            found[tensor] = sum(parts[1:], parts[0])
        return found[tensor]

    return {tensor: get(tensor) for tensor in tensors}
