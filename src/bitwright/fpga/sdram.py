"""A single data rate SDRAM chip of 256 Mbit with 16 bits: its times, in clock cycles of a controller.

The times are the slower ones of two data sheets, so that a board may carry either chip: ISSI IS42S16160G-7 and Micron
MT48LC16M16A2-75, tables of AC characteristics, at CAS latency 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from bitwright.errors import DoesNotFit

ROW_BITS, COLUMN_BITS, BANK_BITS = 13, 9, 2
WIDTH_BYTES = 2
SIZE_BYTES = WIDTH_BYTES << ROW_BITS + COLUMN_BITS + BANK_BITS
CAS_LATENCY = 2
REFRESHES = 8192

# Nanoseconds.
START_NS = 200_000
ACTIVE_TO_COLUMN_NS = 20  # tRCD
PRECHARGE_NS = 20  # tRP
ACTIVE_TO_PRECHARGE_NS = 44  # tRAS
ACTIVE_TO_ACTIVE_NS = 66  # tRC
REFRESH_NS = 70  # tRFC; ISSI: tXSR
OTHER_BANK_NS = 15  # tRRD
WRITE_NS = 15  # tWR, tDPL
REFRESH_ALL_NS = 64_000_000  # tREF, for all rows
CLOCK_NS = 10  # tCK at CAS latency 2
ACCESS_NS = 6.0  # tAC at CAS latency 2
HOLD_NS = 2.7  # tOH
INPUT_SETUP_NS, INPUT_HOLD_NS = 1.5, 0.8  # tAS, tAH and their like
MODE_CYCLES = 2  # tMRD
WAKE_REFRESHES = 8

# What lies between the controller's registers and the chip, there and back: pads of an ECP5 with registers in them (its
# data sheet, "External Switching Characteristics", between fast and slow corners) and a few centimeters of board.
PATH_NS = (2.0, 5.0)


@dataclass(frozen=True)
class Times:
    """Clock cycles from a command to what may follow.

    Attributes:
        start: From power to the first command.
        to_column: Activate to read or write.
        precharge: Precharge to activate.
        to_precharge: Activate to precharge of the same bank.
        refresh: Refresh to the next command.
        write: Last write to precharge.
        interval: Between refreshes, on average.
        mode: Mode register to the next command.
    """

    start: int
    to_column: int
    precharge: int
    to_precharge: int
    refresh: int
    write: int
    interval: int
    mode: int = MODE_CYCLES


def times(clock_hz: float) -> Times:
    """Times at a clock.

    Raises:
        DoesNotFit: the clock is too fast for the chip at this CAS latency.
    """
    if clock_hz > 1e9 / CLOCK_NS:
        raise DoesNotFit(
            f"The SDRAM works with at most {1e3 / CLOCK_NS:g} MHz at CAS latency {CAS_LATENCY}, not with "
            f"{clock_hz / 1e6:g} MHz. Lower clock_hz in the configuration of the processor."
        )

    def cycles(ns: float) -> int:
        return ceil(Fraction(ns) * Fraction(clock_hz) / 10**9)

    precharge = cycles(PRECHARGE_NS)
    return Times(
        start=cycles(START_NS),
        # Activates are never closer than an activate and its first column.
        to_column=max(cycles(ACTIVE_TO_COLUMN_NS), cycles(OTHER_BANK_NS)),
        precharge=precharge,
        to_precharge=max(cycles(ACTIVE_TO_PRECHARGE_NS), cycles(ACTIVE_TO_ACTIVE_NS) - precharge),
        refresh=cycles(REFRESH_NS),
        write=cycles(WRITE_NS),
        interval=floor(Fraction(REFRESH_ALL_NS, REFRESHES) * Fraction(clock_hz) / 10**9),
    )


@dataclass(frozen=True)
class Margins:
    """Nanoseconds to spare, with the clock of the chip so many degrees behind the controller's.

    Attributes:
        degrees: The shift.
        command_setup: Of commands at the chip.
        command_hold: Of commands at the chip.
        data_setup: Of data at the controller.
        data_hold: Of data at the controller.
    """

    degrees: float
    command_setup: float
    command_hold: float
    data_setup: float
    data_hold: float

    @property
    def least(self) -> float:
        """The worst of them."""
        return min(self.command_setup, self.command_hold, self.data_setup, self.data_hold)


def margins(clock_hz: float, degrees: float) -> Margins:
    """Margins of a shift.  Data is taken by the first edge of the controller after the chip's second one."""
    period = 1e9 / clock_hz
    edge = period * degrees / 360  # of the chip's clock after the one at which a command leaves
    taken = (CAS_LATENCY + 1) * period
    return Margins(
        degrees=degrees,
        command_setup=edge - INPUT_SETUP_NS,
        command_hold=period - edge - INPUT_HOLD_NS,
        data_setup=taken - (edge + (CAS_LATENCY - 1) * period + ACCESS_NS + PATH_NS[1]),
        data_hold=edge + CAS_LATENCY * period + HOLD_NS + PATH_NS[0] - taken,
    )


def best_shift(clock_hz: float, step: float = 15.0) -> Margins:
    """The shift with the widest margins.

    Raises:
        DoesNotFit: there is none with margins at all.
    """
    best = max((margins(clock_hz, step * k) for k in range(int(360 / step))), key=lambda one: one.least)
    if best.least <= 0:
        raise DoesNotFit(
            f"No phase of the SDRAM's clock leaves time for data at {clock_hz / 1e6:g} MHz. Change clock_hz in the "
            "configuration of the processor."
        )
    return best
