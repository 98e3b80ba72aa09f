"""The text of all kernels for Arm cores that a network uses, of both families."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bitwright.mcu.arm import dsp, mve, sums
from bitwright.mcu.arm.dsp import Fast
from bitwright.mcu.arm.sums import FastSum

FillIn = Callable[[str, Mapping[str, str]], str]


def declarations(used: list[Fast], prefix: str) -> str:
    """For the header that the network's own files share; empty if no such kernel is used."""
    families = ((dsp, _of(used, "bw_dsp_")), (mve, _of(used, "bw_mve_")))
    return "".join(family.declarations(own, prefix) for family, own in families if own)


def definitions(used: list[Fast], prefix: str, fill_in: FillIn) -> str:
    """For the file of kernels; empty if no such kernel is used."""
    families = ((dsp, _of(used, "bw_dsp_")), (mve, _of(used, "bw_mve_")))
    return "".join(family.definitions(own, prefix, fill_in) for family, own in families if own)


# Bytes of the C around the assembly (gcc 12.2, -O2).
DRIVER_BYTES = {"bw_dsp_conv": 640, "bw_dsp_depthwise": 420, "bw_mve_conv": 480, "bw_mve_depthwise": 330}


def code_bytes(used: list[Fast], totals: list[FastSum]) -> int:
    """Code of these kernels: an instruction takes at most four bytes."""
    own = sum(DRIVER_BYTES[driver] for driver in {fast.driver for fast in used})
    functions = (
        dsp.assembled(_of(used, "bw_dsp_"), "") + mve.assembled(_of(used, "bw_mve_"), "") + sums.assembled(totals, "")
    )
    return own + 4 * sum(line.startswith(" ") for text in functions for line in text)


def _of(used: list[Fast], stem: str) -> list[Fast]:
    return [fast for fast in used if fast.driver.startswith(stem)]
