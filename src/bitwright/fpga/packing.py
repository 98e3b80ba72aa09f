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
    harmful = [o for o in range(len(flat)) if (flat[o] == -128).any()]
    harmless = [o for o in range(len(flat)) if o not in set(harmful)]
    order: list[int] = []
    while harmful or harmless:
        lane = len(order) % config.ocp
        if lane % 2 == 0:
            # A channel with -128 where it does no harm; the others are kept for odd lanes.
            order.append((harmful or harmless).pop(0))
            continue
        low = flat[order[-1]]
        fits = next((o for o in (*harmless, *harmful) if not clashes(low, flat[o])), None)
        if fits is None:
            order.append(HOLE)
        else:
            (harmless if fits in harmless else harmful).remove(fits)
            order.append(fits)
    return order


def exact(flat: Weights, config: ProcessorConfig) -> bool:
    """Whether the array computes weights ``[outputs, n]`` exactly in the order in which they are."""
    if config.multiplier != "ecp5-pack2":
        return True
    odd = [o for o in range(len(flat)) if o % config.ocp % 2]
    return not clashes(flat[[o - 1 for o in odd]], flat[odd])
