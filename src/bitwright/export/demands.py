"""What other tools ask of formats, checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bitwright.errors import ExportError, printable
from bitwright.export.qdq import tensor_formats
from bitwright.number.format import Format

if TYPE_CHECKING:
    from bitwright.quantized import Quantized


def demand_symmetric(q: Quantized, tool: str, target: str) -> dict[str, Format]:
    """The activations' formats, all of them signed 8-bit with zero point 0.

    Raises:
        ExportError: naming the first that is not.
    """
    formats = tensor_formats(q.program)
    for tensor, format in formats.items():
        if not format.signed or format.bits != 8 or int(format.zero_point):
            raise ExportError(
                f"{tool} takes signed 8-bit activations without zero points; tensor '{printable(tensor)}' is {format}. "
                f"Quantize for --target {target}."
            )
    return formats


def demand_powers(q: Quantized, tool: str, target: str) -> dict[str, Format]:
    """The activations' formats, all of them (and those of weights and biases) per tensor with steps of powers of two.

    Raises:
        ExportError: naming the first that is not.
    """
    formats = demand_symmetric(q, tool, target)
    named = {f"tensor '{printable(name)}'": format for name, format in formats.items()}
    # A bias in steps of the accumulator has no exponent of its own; it follows from input and weights.
    named |= {
        f"the {x.parameter.lower()} of '{printable(x.layer)}'": x.format
        for x in q.program.learnables
        if x.parameter == "Weights" or x.format.bits <= 16
    }
    for name, format in named.items():
        if format.exponent is None or np.ndim(format.scale):
            raise ExportError(
                f"{tool} takes one power of two for each tensor; {name} is {format}. Quantize for --target {target}."
            )
    return formats
