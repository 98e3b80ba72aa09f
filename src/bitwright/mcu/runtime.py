"""The C runtime: kernel texts that are filled in for the types and requantizers that a network needs.

The contract of a kernel, for whoever writes a faster one:

- **What it is called with.**  ``void NAME(const bw_conv_t *k, const IN *x, OUT *y)``; ``bw_conv_t`` is in
  ``kernels/bw.h``.  ``x`` and ``y`` lie channels last, with ``in_pitch`` and ``out_pitch`` elements from one pixel to
  the next (more than there are channels where a tensor is part of a concatenation).  They never overlap.  No pointer
  has more than the alignment of its type.
- **What it computes.**  For every output pixel and channel ``o``: ``acc = bias[o] + Σ w·x`` over all taps, taps
  outside the input counting as ``in_zero``, which makes them add nothing because ``bias`` has ``in_zero·Σw`` taken
  off; then ``y = clamp(scale(acc) + out_zero, lo, hi)`` by the requantizer of its name.
- **What is proven.**  ``|bias[o]| + Σ|w|·max|x|`` is below 2^31 for every channel, so sums in 32 bits do not overflow
  in any order, and ``scale`` gives 32 bits (``export/c/requant.py`` has the conditions).  ``Instance.small`` says that
  in addition ``|acc·2^left| < 2^30``, for cores whose high multiply wants it.
- **How its weights lie** is the kernel's choice: ``PACKINGS`` has a function per kernel name.
- Kernels keep no state, allocate nothing and may use ``memcpy`` and ``memset`` only.

A kernel for one core goes between ``#if``s of a feature macro (``__ARM_FEATURE_DSP`` …) or into a ``.S`` file that
defines the symbol of an :class:`Instance`; where the packing differs, it gets a name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.integer[Any]]


def pack_conv(weights: Weights) -> Weights:
    """``[O, I/g, kh, kw]`` → ``[O][kh][kw][I/g]``."""
    return np.ascontiguousarray(weights.transpose(0, 2, 3, 1))


def pack_pointwise(weights: Weights) -> Weights:
    """``[O, I, 1, 1]`` → ``[O][I]``."""
    return np.ascontiguousarray(weights.reshape(len(weights), -1))


def pack_depthwise(weights: Weights) -> Weights:
    """``[C, 1, kh, kw]`` → ``[kh][kw][C]``."""
    return np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0))


PACKINGS: Mapping[str, Callable[[Weights], Weights]] = {
    "conv": pack_conv,
    "pointwise": pack_pointwise,
    "depthwise": pack_depthwise,
}
NEEDS_DOT = {"conv", "pointwise"}


@dataclass(frozen=True, order=True)
class Instance:
    """A kernel for certain types and a certain requantizer.

    Attributes:
        kernel: Key of ``PACKINGS``.
        source: C suffix of the input type (``s8``, ``u8``, ``s16``).
        weight: C suffix of the weights' type.
        result: C suffix of the output type.
        scale: Requantizer: ``shift``, ``single``, ``double``, ``float32_even``, ``float32_away``, or the name of a
            function of the network's own.
        own: Whether ``scale`` is such a function; the kernel is then private to the network's file.
    """

    kernel: str
    source: str
    weight: str
    result: str
    scale: str
    own: bool = False

    @property
    def name(self) -> str:
        """Its C function."""
        return f"bw_{self.kernel}_{self.source}_{self.weight}_{self.result}_{self.scale}"

    @property
    def prototype(self) -> str:
        """Its declaration."""
        return f"void {self.name}(const bw_conv_t *k, const {C_TYPES[self.source]} *x, {C_TYPES[self.result]} *y)"


C_TYPES = {"s8": "int8_t", "u8": "uint8_t", "s16": "int16_t", "u16": "uint16_t", "s32": "int32_t"}


@cache
def text(name: str) -> str:
    """A file of ``kernels/``."""
    return (resources.files("bitwright.mcu") / "kernels" / name).read_text("utf-8")


def fill_in(template: str, values: Mapping[str, str]) -> str:
    """``template`` with every ``@KEY@`` replaced.

    Raises:
        KeyError: if a key has no value.
    """
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template)


def render(instance: Instance) -> str:
    """The C text of a kernel."""
    scale = instance.scale if instance.own else f"bw_scale_{instance.scale}"
    return fill_in(
        text(f"{instance.kernel}.c"),
        {
            "NAME": instance.name,
            "STATIC": "static " if instance.own else "",
            "SCALE": scale,
            "IN": C_TYPES[instance.source],
            "W": C_TYPES[instance.weight],
            "OUT": C_TYPES[instance.result],
            "IO": f"{instance.source}_{instance.weight}",
        },
    )


def render_helpers(instances: set[Instance]) -> str:
    """The inner products that ``instances`` call."""
    pairs = sorted({(i.source, i.weight) for i in instances if i.kernel in NEEDS_DOT})
    return "\n".join(fill_in(text("dot.c"), {"IN": C_TYPES[s], "W": C_TYPES[w], "IO": f"{s}_{w}"}) for s, w in pairs)
