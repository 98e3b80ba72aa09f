"""Where the outputs of linear layers have gone since the network was first seen: ``scale · y + shift`` for each channel.

A pass that scales or shifts the outputs of a layer, to take it back in the layers behind, writes it down here.  So whoever
has the network as it was knows what each layer of the new one should give, also where a clip that stayed in its place has
changed what the new network computes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.passes import normal

if TYPE_CHECKING:
    import onnx_ir as ir

Reals = NDArray[np.float64]

KEY = "bitwright.moved"
"""In a node's metadata: ``[[scale, ...], [shift, ...]]`` of its output channels."""


@dataclass(frozen=True, eq=False)
class Moved:
    """``scale · y + shift`` of what a layer gave.

    Attributes:
        scale: ``[channels]``.
        shift: ``[channels]``.
    """

    scale: Reals
    shift: Reals

    def then(self, scale: Reals, shift: Reals) -> Moved:
        """Moved once more."""
        return Moved(self.scale * scale, self.shift * scale + shift)

    def since(self, earlier: Moved) -> Moved:
        """What has happened after ``earlier``; a channel that was lost by then stays where it is now."""
        lost = earlier.scale == 0
        scale = np.where(lost, 0.0, self.scale / np.where(lost, 1.0, earlier.scale))
        return Moved(scale, self.shift - scale * earlier.shift)


def read(node: ir.Node, channels: int) -> Moved | None:
    """What is written on ``node``, no move if nothing is; None for anything but two lists of ``channels`` numbers."""
    text = node.metadata_props.get(KEY)
    if text is None:
        return Moved(np.ones(channels), np.zeros(channels))
    values = normal.two_lists(text)
    return None if values is None or values.shape[1] != channels else Moved(values[0], values[1])


def record(node: ir.Node, scale: Reals, shift: Reals) -> None:
    """Write down that the outputs of ``node`` are ``scale · y + shift`` now, ``[channels]`` each."""
    normal.rescale(node, scale, shift)
    known = read(node, len(scale))
    if known is not None:
        now = known.then(scale, shift)
        node.metadata_props[KEY] = json.dumps([now.scale.tolist(), now.shift.tolist()], separators=(",", ":"))


def between(before: ir.Node, after: ir.Node, channels: int) -> Moved | None:
    """What was done to the layer ``before`` to make it the layer ``after``, or None where that is not known."""
    first, last = read(before, channels), read(after, channels)
    return None if first is None or last is None else last.since(first)
