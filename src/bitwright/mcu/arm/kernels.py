"""The text of all kernels for Arm cores that a network uses, of both families."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bitwright.mcu.arm import dsp, mve
from bitwright.mcu.arm.dsp import Fast

FillIn = Callable[[str, Mapping[str, str]], str]


def declarations(used: list[Fast], prefix: str) -> str:
    """For the header that the network's own files share; empty if no such kernel is used."""
    families = ((dsp, _of(used, "bw_dsp_")), (mve, _of(used, "bw_mve_")))
    return "".join(family.declarations(own, prefix) for family, own in families if own)


def definitions(used: list[Fast], prefix: str, fill_in: FillIn) -> str:
    """For the file of kernels; empty if no such kernel is used."""
    families = ((dsp, _of(used, "bw_dsp_")), (mve, _of(used, "bw_mve_")))
    return "".join(family.definitions(own, prefix, fill_in) for family, own in families if own)


def _of(used: list[Fast], stem: str) -> list[Fast]:
    return [fast for fast in used if fast.driver.startswith(stem)]
