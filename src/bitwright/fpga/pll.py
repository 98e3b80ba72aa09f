"""Clocks of boards: dividers of the PLLs in Lattice ECP5 and iCE40 devices, within the limits of their data sheets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bitwright.errors import DoesNotFit


@dataclass(frozen=True)
class Range:
    """Frequencies in hertz."""

    lowest: float
    highest: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is one of them."""
        return self.lowest <= value <= self.highest


# ECP5 and ECP5-5G Family Data Sheet FPGA-DS-02012, "sysCLOCK PLL Timing".
ECP5_INPUT = Range(8e6, 400e6)
ECP5_DETECTOR = Range(3.125e6, 400e6)
ECP5_OSCILLATOR = Range(400e6, 800e6)
ECP5_OUTPUT = Range(3.125e6, 400e6)
ECP5_DIVIDER = 128
# iCE40 UltraPlus Family Data Sheet FPGA-DS-02008, "sysCLOCK PLL Timing".
ICE40_INPUT = Range(10e6, 133e6)
ICE40_DETECTOR = Range(10e6, 133e6)
ICE40_OSCILLATOR = Range(533e6, 1066e6)
ICE40_OUTPUT = Range(16e6, 275e6)
ICE40_FILTER = (17e6, 26e6, 44e6, 66e6, 101e6)
"""Below which frequency of the detector each ``FILTER_RANGE`` from 1 on is chosen; FPGA-TN-02052."""


@dataclass(frozen=True)
class Ecp5Pll:
    """An ``EHXPLLL`` with its feedback from ``CLKOP`` (FPGA-TN-02200).

    Attributes:
        input_div: ``CLKI_DIV``.
        feedback_div: ``CLKFB_DIV``.
        output_div: ``CLKOP_DIV``, and of the shifted clock too.
        shift: Of the second clock, in eighths of a period of the oscillator.
        output_hz: What comes out.
    """

    input_div: int
    feedback_div: int
    output_div: int
    shift: int
    output_hz: float

    @property
    def coarse(self) -> int:
        """``CLKOP_CPHASE``: the first clock is not shifted when this is its divider less one."""
        return self.output_div - 1

    @property
    def shifted(self) -> tuple[int, int]:
        """``CLKOS_CPHASE`` and ``CLKOS_FPHASE``."""
        return self.coarse + self.shift // 8, self.shift % 8

    @property
    def degrees(self) -> float:
        """How far the second clock is behind the first."""
        return 360.0 * self.shift / (8 * self.output_div)


@dataclass(frozen=True)
class Ice40Pll:
    """An ``SB_PLL40_PAD`` with its feedback path ``SIMPLE`` (FPGA-TN-02052).

    Attributes:
        divr: The input is divided by one more.
        divf: The oscillator runs at one more times that.
        divq: The output is divided by two to this power.
        filter_range: Of the loop filter.
        output_hz: What comes out.
    """

    divr: int
    divf: int
    divq: int
    filter_range: int
    output_hz: float


def ecp5(input_hz: float, wanted_hz: float, degrees: float = 0.0) -> Ecp5Pll:
    """Dividers for the fastest clock that is not above ``wanted_hz``, and a second one ``degrees`` behind it.

    Raises:
        DoesNotFit: there are none.
    """
    found = [
        (out, -oscillator, divider, feedback, output)
        for divider, feedback, out in _ecp5(input_hz, wanted_hz)
        for output in range(1, ECP5_DIVIDER + 1)
        if ECP5_OSCILLATOR.holds(oscillator := out * output)
        # The shifted clock's coarse phase has 7 bits.
        and output - 1 + round(degrees / 360 * output * 8) // 8 < ECP5_DIVIDER
    ]
    if not found:
        raise _impossible("ECP5", input_hz, wanted_hz)
    # Of equally fast ones the fastest oscillator: it has the finest phases.
    out, _, divider, feedback, output = max(found, key=lambda one: (one[0], -one[1], -one[2]))
    return Ecp5Pll(divider, feedback, output, round(degrees / 360 * output * 8), out)


def _ecp5(input_hz: float, wanted_hz: float) -> Iterator[tuple[int, int, float]]:
    if not ECP5_INPUT.holds(input_hz):
        return
    for divider in range(1, ECP5_DIVIDER + 1):
        if not ECP5_DETECTOR.holds(input_hz / divider):
            continue
        feedback = min(int(wanted_hz * divider / input_hz * (1 + 1e-9)), ECP5_DIVIDER)
        out = input_hz * feedback / divider
        if feedback and ECP5_OUTPUT.holds(out):
            yield divider, feedback, out


def ice40(input_hz: float, wanted_hz: float) -> Ice40Pll:
    """Dividers for the fastest clock that is not above ``wanted_hz``.

    Raises:
        DoesNotFit: there are none.
    """
    best: Ice40Pll | None = None
    if ICE40_INPUT.holds(input_hz):
        for divr in range(16):
            detector = input_hz / (divr + 1)
            if not ICE40_DETECTOR.holds(detector):
                continue
            for divq in range(1, 7):
                fastest = min(wanted_hz * 2**divq * (1 + 1e-9), ICE40_OSCILLATOR.highest)
                divf = min(int(fastest / detector), 128) - 1
                oscillator = detector * (divf + 1)
                out = oscillator / 2**divq
                if divf < 0 or not ICE40_OSCILLATOR.holds(oscillator) or not ICE40_OUTPUT.holds(out):
                    continue
                if best is None or out > best.output_hz:
                    filter_range = 1 + sum(detector >= edge for edge in ICE40_FILTER)
                    best = Ice40Pll(divr, divf, divq, filter_range, out)
    if best is None:
        raise _impossible("iCE40", input_hz, wanted_hz)
    return best


def _impossible(what: str, input_hz: float, wanted_hz: float) -> DoesNotFit:
    return DoesNotFit(
        f"The PLL of an {what} makes no clock of {wanted_hz / 1e6:g} MHz or a little less from {input_hz / 1e6:g} MHz. "
        "Change clock_hz in the configuration of the processor."
    )
