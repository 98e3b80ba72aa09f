"""What a configuration should reach, as a text: ``fps>=30, dsp<=128``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitwright.errors import ExportError, printable

QUANTITIES: Mapping[str, str] = {
    "fps": "frames in a second, one after the other",
    "throughput": "frames in a second with several in one program",
    "latency_ms": "milliseconds of one frame",
    "dsp": "multiplier blocks",
    "lut": "lookup tables",
    "ff": "registers",
    "bram": "memory blocks",
    "ram_kib": "KiB of buffers on the chip",
    "macs": "multiply-accumulates in a cycle",
    "clock_mhz": "clock",
    "bandwidth": "MB/s of the bus to external memory",
}
FASTER = ("fps", "throughput")
_WISH = re.compile(r"\s*([A-Za-z_]+)\s*(<=|>=|==|=|<|>)\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kKmM]?)\s*")
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class Wish:
    """One bound.

    Attributes:
        quantity: One of ``QUANTITIES``.
        sign: ``<=``, ``>=``, ``<``, ``>`` or ``=``.
        value: The bound.
    """

    quantity: str
    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.quantity}{self.sign}{self.value:g}"

    def miss(self, found: float) -> float:
        """How far ``found`` is from the bound, as the logarithm of the ratio; 0 where it holds."""
        good = {
            "<=": found <= self.value,
            ">=": found >= self.value,
            "<": found < self.value,
            ">": found > self.value,
            "=": abs(found - self.value) <= 1e-9 * max(abs(self.value), 1),
        }[self.sign]
        return 0.0 if good else max(abs(math.log(max(found, 1e-9) / max(self.value, 1e-9))), 1e-9)


def parse(text: str) -> tuple[Wish, ...]:
    """Read bounds that are separated by commas.

    Raises:
        ExportError: a part is no bound, or its quantity is unknown; the message lists the known ones.
    """
    found: list[Wish] = []
    for part in text.split(","):
        match = _WISH.fullmatch(part)
        if match is None:
            raise ExportError(
                f'"{printable(part.strip(), 60)}" is no bound. Write a quantity, one of <= >= < > =, and a number, with commas '
                'between bounds: "fps>=30, dsp<=128, lut<=20k".'
            )
        name, sign, number, suffix = match.groups()
        name = name.lower()
        if name not in QUANTITIES:
            near = difflib.get_close_matches(name, list(QUANTITIES), 2, 0.5)
            did_you_mean = f" Did you mean {' or '.join(near)}?" if near else ""
            known = ", ".join(f"{n} ({words})" for n, words in QUANTITIES.items())
            raise ExportError(f"No quantity is called {printable(name, 40)}.{did_you_mean} There are: {known}.")
        found.append(Wish(name, "=" if sign == "==" else sign, float(number) * _TIMES[suffix.lower()]))
    return tuple(found)


def worst(wishes: Sequence[Wish], values: Mapping[str, float]) -> tuple[float, Wish | None]:
    """The largest miss of all bounds whose quantity is known, and whose it is."""
    misses = [(wish.miss(values[wish.quantity]), wish) for wish in wishes if wish.quantity in values]
    return max(misses, key=lambda pair: pair[0], default=(0.0, None))
