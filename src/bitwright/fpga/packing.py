"""Output channels in an order in which multipliers that make two products at once are exact.

``ecp5-pack2`` multiplies ``a * 2**10 + b`` with an activation, ``b`` and ``a`` being the weights of an even and the next
odd output channel.  That sum has 18 bits unless ``a`` is -128 while ``b`` is negative, so channels are paired in such a way
that this never happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.layout import HOLE

NEAR = 16
"""Channels among which a partner is looked for."""

Weights = NDArray[np.signedinteger[Any]]


def clashes(low: Weights, high: Weights) -> bool:
    """Whether the products of two channels would be wrong."""
    return bool(((high == -128) & (low < 0)).any())


def exact_order(weights: Weights, config: ProcessorConfig) -> list[int] | None:
    """The channel of each output of the array, ``HOLE`` where nothing is computed; None where any order will do.

    Args:
        weights: ``[outputs, ...]``.
        config: The processor.
    """
    flat = weights.reshape(len(weights), -1)
    if exact(flat, config):
        return None
    left = list(range(len(flat)))
    order: list[int] = []
    while left:
        order.append(left.pop(0))
        if len(order) % config.ocp == 0 or len(order) % config.ocp % 2 == 0 or not left:
            continue
        low = order[-1]
        # The next channel, in either order; else a near one, so that readers of a few channels find them together.
        if not clashes(flat[low], flat[left[0]]):
            order.append(left.pop(0))
        elif not clashes(flat[left[0]], flat[low]):
            order[-1:] = [left.pop(0), low]
        else:
            near = next((o for o in left[1:NEAR] if not clashes(flat[low], flat[o])), None)
            order.append(HOLE if near is None else near)
            if near is not None:
                left.remove(near)
    return order


def exact(flat: Weights, config: ProcessorConfig) -> bool:
    """Whether the array computes weights ``[outputs, n]`` exactly in the order in which they are."""
    if config.multiplier != "ecp5-pack2":
        return True
    odd = [o for o in range(len(flat)) if o % config.ocp % 2]
    return not clashes(flat[[o - 1 for o in odd]], flat[odd])
