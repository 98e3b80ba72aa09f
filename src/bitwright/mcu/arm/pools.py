"""The text of the kernels for pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bitwright.mcu.arm.dsp import text

KINDS = {"s8": ("int8_t", "int8x16_t", "ssub8"), "u8": ("uint8_t", "uint8x16_t", "usub8")}
CODE_BYTES = 420  # of one of them (gcc 12.2, -O2, Cortex-M4)


def declarations(used: list[str], prefix: str) -> str:
    """For the header that the network's own files share.

    Args:
        used: C suffixes of the types.
        prefix: Of the network.
    """
    lines = []
    for kind in sorted(set(used)):
        name = f"bw_max_{kind}"
        lines += [
            f"#define {name} {prefix}_{name}",
            f"void {name}(const bw_conv_t *k, const {KINDS[kind][0]} *x, {KINDS[kind][0]} *y);",
        ]
    return "\n".join([*lines, ""])


def definitions(used: list[str], fill_in: Callable[[str, Mapping[str, str]], str]) -> str:
    """For the file of kernels; empty if none is used."""
    if not used:
        return ""
    out = ["#if defined(__ARM_FEATURE_MVE)", "#include <arm_mve.h>", "#elif defined(__ARM_FEATURE_SIMD32)"]
    out += ["#include <arm_acle.h>", "#endif", ""]
    for kind in sorted(set(used)):
        c_type, vector, subtract = KINDS[kind]
        values = {"NAME": f"bw_max_{kind}", "IN": c_type, "VECTOR": vector, "TYPE": kind, "SUB": subtract}
        out.append(fill_in(text("max.c"), values))
    return "\n".join(out)
