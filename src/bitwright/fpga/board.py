"""Boards with an FPGA that the open processor is built for: a TOML file each in ``boards/``.

A file has facts only: device, oscillator, pins, what external memory there is, and what openFPGALoader is told.  Clocks,
baud divisors and constraints are computed from them.  A file may name another as its ``base`` and state what differs.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bitwright.errors import BadTargetFile, DoesNotFit, UnknownTarget, printable
from bitwright.fpga import pll, sdram
from bitwright.fpga.config import ProcessorConfig, list_configs, load_config
from bitwright.targets.read import Where, build

FOLDER = Path(__file__).parent / "boards"
LEAST_DIVISOR = 4
SPRAM_BYTES = 1 << 17
MOST_BEATS = 256
"""Of a burst to an SDRAM controller."""
BAUD_ERROR = 0.02
"""Of a bit's length; both ends together may be wrong by half a bit in ten."""

Family = Literal["ecp5", "ice40"]
MULTIPLIERS: Mapping[Family, tuple[str, ...]] = {
    "ecp5": ("infer", "ecp5", "ecp5-pack2"),
    "ice40": ("infer", "ice40-mac16"),
}
WIDTHS: Mapping[str, tuple[int, ...]] = {"sdram": (2, 4, 8), "spram": (1, 2)}


@dataclass(frozen=True, kw_only=True)
class SdramPins:
    """Balls of the SDRAM chip's signals, lowest bit first."""

    clk: str
    cke: str
    cs: str
    we: str
    cas: str
    ras: str
    dqm: str
    ba: str
    a: str
    dq: str


@dataclass(frozen=True, kw_only=True)
class Pins:
    """Pins of a board.

    Attributes:
        clock: From the oscillator.
        rx: From the host.
        tx: To the host.
        led: Lit while a program runs.
        led_low: A low level lights it.
        high: Pins that must be high for the rest of the board to keep quiet.
        sdram: Of the SDRAM chip.
    """

    clock: str
    rx: str
    tx: str
    led: str | None = None
    led_low: bool = False
    high: tuple[str, ...] = ()
    sdram: SdramPins | None = None


@dataclass(frozen=True)
class Oscillator:
    """The clock of a design on a board.

    Attributes:
        clock_hz: What it runs at, at most what its configuration says.
        divisor: Cycles of a bit on the serial line.
        baud: Bits per second on it.
        ecp5: Dividers of an ECP5's PLL.
        ice40: Dividers of an iCE40's PLL; None where the oscillator is the clock.
    """

    clock_hz: float
    divisor: int
    baud: float
    ecp5: pll.Ecp5Pll | None = None
    ice40: pll.Ice40Pll | None = None


@dataclass(frozen=True, kw_only=True)
class BoardFile:
    """A board.

    Attributes:
        name: As on the command line.
        summary: One line for people.
        family: Of the device.
        device: As nextpnr names it.
        package: As nextpnr names it.
        speed: Speed grade of an ECP5.
        oscillator_hz: On the board.
        memory: What external memory there is.
        baud: Of the serial line; the fastest that its chip and the host's drivers know.
        config: The processor that is built unless another is asked for.
        loader: Options for openFPGALoader.
        port: Pattern of its serial port's name in ``/dev/serial/by-id``.
        flash: Loading writes the board's flash memory, since the device cannot be loaded past it.
        pins: Pins.
        source: Where the pins are from.
    """

    name: str
    summary: str
    family: Family
    device: str
    package: str
    oscillator_hz: int
    memory: Literal["sdram", "spram"]
    baud: int
    config: str
    loader: tuple[str, ...]
    port: str
    pins: Pins
    source: str
    speed: str = "6"
    flash: bool = False

    def __post_init__(self) -> None:
        if (self.memory == "sdram") != (self.pins.sdram is not None):
            raise ValueError("pins.sdram must be there if memory is sdram, and only then")
        if (self.memory == "spram") != (self.family == "ice40"):
            raise ValueError("memory spram is that of an iCE40, sdram that beside an ECP5")

    @property
    def memory_bytes(self) -> int:
        """Size of the external memory."""
        return sdram.SIZE_BYTES if self.memory == "sdram" else SPRAM_BYTES

    def check(self, config: ProcessorConfig) -> None:
        """Whether a processor can be built for the board, as far as that is known before it is built.

        Raises:
            DoesNotFit: not: another device, too wide a bus, or more memory than there is.
        """
        wrong = self._wrong(config)
        if wrong:
            shipped = [load_config(name) for name in list_configs()]
            fitting = [c.name for c in shipped if c.multiplier in MULTIPLIERS[self.family][1:] and not self._wrong(c)]
            raise DoesNotFit(
                f"Configuration {printable(config.name, 60)} {wrong}. Leave out --config, or take "
                f"{' or '.join(fitting)} for board {self.name}."
            )

    def _wrong(self, config: ProcessorConfig) -> str:
        """Why a processor cannot be built for the board, or nothing."""
        if config.multiplier not in MULTIPLIERS[self.family]:
            return f"has multipliers of kind {config.multiplier}, and an {self.device} has none"
        if config.bus.bytes not in WIDTHS[self.memory]:
            known = " or ".join(str(n) for n in WIDTHS[self.memory])
            return f"has a bus of {config.bus.bytes} bytes, and this board's memory can be on one of {known}"
        if config.bus.memory_bytes > self.memory_bytes:
            return f"wants {config.bus.memory_bytes} bytes of external memory, and there are {self.memory_bytes}"
        if self.memory == "sdram" and config.bus.burst_beats > MOST_BEATS:
            return f"has bursts of {config.bus.burst_beats} beats, and this board's memory takes {MOST_BEATS} at once"
        return ""

    def clocks(self, config: ProcessorConfig) -> Oscillator:
        """The clock of a processor on this board, and what is made of it.

        Raises:
            DoesNotFit: there is no such clock, or none that the serial line can be timed with.
        """
        if self.family == "ecp5":
            shift = sdram.best_shift(config.clock_hz).degrees
            made = pll.ecp5(self.oscillator_hz, config.clock_hz, shift)
            return self._line(made.output_hz, made, None)
        try:
            found = pll.ice40(self.oscillator_hz, config.clock_hz)
        except DoesNotFit:
            if self.oscillator_hz > config.clock_hz:
                raise
            return self._line(self.oscillator_hz, None, None)
        return self._line(found.output_hz, None, found)

    def _line(self, clock_hz: float, ecp5: pll.Ecp5Pll | None, ice40: pll.Ice40Pll | None) -> Oscillator:
        divisor = max(round(clock_hz / self.baud), LEAST_DIVISOR)
        baud = clock_hz / divisor
        if abs(baud / self.baud - 1) > BAUD_ERROR:
            raise DoesNotFit(
                f"A clock of {clock_hz / 1e6:g} MHz cannot time {self.baud} baud on board {self.name}: the nearest is "
                f"{baud:.0f}. Change clock_hz in the configuration of the processor."
            )
        return Oscillator(clock_hz, divisor, baud, ecp5, ice40)

    def ports(self) -> dict[str, tuple[str, ...]]:
        """Port of the design → its places on the package, lowest bit first."""
        pins = self.pins
        found = {"clock": pins.clock, "rx": pins.rx, "tx": pins.tx}
        if pins.led is not None:
            found["led"] = pins.led
        found |= {f"high{at}": place for at, place in enumerate(pins.high)}
        if pins.sdram is not None:
            found |= {f"sdram_{name}": places for name, places in dataclasses.asdict(pins.sdram).items()}
        return {name: tuple(places.split()) for name, places in found.items()}

    def constraints(self, config: ProcessorConfig) -> str:
        """The text of the constraint file: LPF for an ECP5, PCF for an iCE40."""
        lines: list[str] = []
        clock = self.clocks(config)
        for name, places in self.ports().items():
            for bit, place in enumerate(places):
                port = f"{name}[{bit}]" if len(places) > 1 else name
                if self.family == "ice40":
                    lines.append(f"set_io {port} {place}")
                    continue
                lines.append(f'LOCATE COMP "{port}" SITE "{place}";')
                kind = "PULLMODE=NONE DRIVE=4 SLEWRATE=FAST " if name.startswith("sdram") else "PULLMODE=UP "
                lines.append(f'IOBUF PORT "{port}" {kind}IO_TYPE=LVCMOS33;')
        if self.family == "ecp5":
            lines.append(f'FREQUENCY PORT "clock" {self.oscillator_hz / 1e6:.6f} MHZ;')
        else:
            lines.append(f"# clock {clock.clock_hz / 1e6:.6f} MHz")
        return "\n".join(lines) + "\n"


def list_boards() -> tuple[str, ...]:
    """Names of the boards."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_board(name: str) -> BoardFile:
    """A board by name.

    Raises:
        UnknownTarget: there is none of that name; the nearest are named.
        BadTargetFile: its file is damaged.
    """
    known = list_boards()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, 3, 0.4)
        raise UnknownTarget(
            f'There is no FPGA board called "{printable(name, 60)}". The boards are {", ".join(known)}.', nearest=near
        )
    table = _table(name)
    return build(BoardFile, table, Where(str(FOLDER / f"{name}.toml")))


def _table(name: str) -> dict[str, Any]:
    """The table of a file, over that of its ``base``."""
    path = FOLDER / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadTargetFile(
            f"Board {printable(path)} cannot be read: {printable(error)}. Install bitwright again.", path=str(path)
        ) from error
    base = table.pop("base", None)
    return table if base is None else {**_table(str(base)), **table}
