"""The text of all kernels for certain cores that a network uses, of all families."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bitwright.mcu.arm import dsp, mve, sums
from bitwright.mcu.arm.dsp import Fast
from bitwright.mcu.arm.sums import FastSum
from bitwright.mcu.cpu import kernels as cpu
from bitwright.mcu.cpu.kernels import VectorFast

FillIn = Callable[[str, Mapping[str, str]], str]


def declarations(used: list[Fast | VectorFast], prefix: str) -> str:
    """For the header that the network's own files share; empty if no such kernel is used."""
    families = ((dsp, _of(used, "bw_dsp_")), (mve, _of(used, "bw_mve_")))
    own_text = [family.declarations(own, prefix) for family, own in families if own]
    vector = _vectors(used)
    return "".join([*own_text, *([cpu.declarations(vector, prefix)] if vector else [])])


def definitions(used: list[Fast | VectorFast], prefix: str, fill_in: FillIn) -> str:
    """For the file of kernels; empty if no such kernel is used."""
    families = ((dsp, _of(used, "bw_dsp_")), (mve, _of(used, "bw_mve_")))
    own_text = [family.definitions(own, prefix, fill_in) for family, own in families if own]
    vector = _vectors(used)
    return "".join([*own_text, *([cpu.definitions(vector, prefix, fill_in)] if vector else [])])


# Bytes of the C around the assembly (gcc 12.2, -O2).
DRIVER_BYTES = {
    "bw_dsp_conv": 640,
    "bw_dsp_depthwise": 420,
    "bw_dsp_taps": 330,
    "bw_mve_conv": 480,
    "bw_mve_depthwise": 330,
}


def code_bytes(used: list[Fast | VectorFast], totals: list[FastSum]) -> int:
    """Code of these kernels: an instruction for a microcontroller takes at most four bytes."""
    own = sum(DRIVER_BYTES[driver] for driver in {fast.driver for fast in used if isinstance(fast, Fast)})
    own += cpu.code_bytes(_vectors(used))
    functions = (
        dsp.assembled(_of(used, "bw_dsp_"), "") + mve.assembled(_of(used, "bw_mve_"), "") + sums.assembled(totals, "")
    )
    return own + 4 * sum(line.startswith(" ") for text in functions for line in text)


def uses_float32(used: list[Fast | VectorFast]) -> bool:
    """Whether one of them requantizes in single precision."""
    return cpu.uses_float32(_vectors(used))


def _of(used: list[Fast | VectorFast], stem: str) -> list[Fast]:
    return [fast for fast in used if isinstance(fast, Fast) and fast.driver.startswith(stem)]


def _vectors(used: list[Fast | VectorFast]) -> list[VectorFast]:
    return [fast for fast in used if isinstance(fast, VectorFast)]
