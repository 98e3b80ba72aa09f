"""How deep the pipelines of a configuration are: what hardware, cycle model and compiler agree on.

Stages are clock edges from the counters of a step.  Multipliers of an ECP5 are slow, and the logic around them is, so a
configuration for one has more stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitwright.fpga.config import Multiplier, ProcessorConfig

PRODUCTS: dict[Multiplier, int] = {"infer": 1, "ecp5": 1, "ecp5-pack2": 3, "ice40-mac16": 1}
"""Stages from registered activations and weights to registered products."""
DATA = 4
"""Elements are at their lanes and weights beside them, in both pipelines."""
PRODUCT_TOTAL = 6
"""The vector unit's window is summed up, where it multiplies."""


@dataclass(frozen=True)
class Stages:
    """Of one pipeline.

    Attributes:
        total: A word's products are summed up (CONV), or a window's (VEC).
        rounded: There is a register between rounding and shifting.
        result: The byte is there.
    """

    total: int
    rounded: bool
    result: int

    @property
    def leaves(self) -> int:
        """Clock edges from the last step of an instruction to its end."""
        return self.result + 1


def deep(config: ProcessorConfig) -> bool:
    """Whether rounding and shifting take a stage each."""
    return config.multiplier.startswith("ecp5")


def conv_stages(config: ProcessorConfig) -> Stages:
    """The array's: products, sums of some, sums of all; accumulator, bias, shift, clamp."""
    total = DATA + PRODUCTS[config.multiplier] + 2
    return Stages(total, deep(config), total + 4 + deep(config))


def vec_stages(config: ProcessorConfig) -> Stages:
    """The vector unit's: the window; scale, bias, shift where it multiplies; clamp and two for the table, where they are."""
    units = config.units
    if units.multiply:
        return Stages(PRODUCT_TOTAL, deep(config), PRODUCT_TOTAL + 6 + deep(config))
    total = DATA if config.control == "small" else DATA + 1
    return Stages(total, False, total + 3 * units.table)


def copied_bytes(config: ProcessorConfig) -> int:
    """Bytes of an instruction that small control gives to a unit in a cycle: as wide as a small block of memory is."""
    return max(config.bus.bytes, 2)
