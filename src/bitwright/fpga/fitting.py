"""The search for a configuration: shapes of the array, sizes of buffers and widths of the bus that meet bounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitwright.errors import DoesNotFit, printable
from bitwright.fpga.config import Memory, ProcessorConfig
from bitwright.fpga.cycles import timing
from bitwright.fpga.image import compile_program
from bitwright.fpga.resources import resources
from bitwright.fpga.wishes import FASTER, Wish, worst
from bitwright.program.program import Program

Progress = Callable[[int, int | None, str], None]

ROWS = (1, 2, 3, 4, 6, 8)
INPUTS = (4, 8, 16, 32, 64)
OUTPUTS = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SCALES = (0.5, 1.0, 2.0)
WIDTHS = (1, 2, 4, 8, 16)
SHOWN = 8
FRAMES = 4


@dataclass(frozen=True)
class Candidate:
    """A configuration and what it reaches.

    Attributes:
        config: The configuration.
        values: By quantity of ``wishes.QUANTITIES``.
        best_of_both: No other one that meets the bounds is as fast and as small.
    """

    config: ProcessorConfig
    values: Mapping[str, float]
    best_of_both: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        c = self.config
        return {
            "config": {"pp": c.pp, "icp": c.icp, "ocp": c.ocp, "bus_bytes": c.bus.bytes, "fingerprint": c.fingerprint},
            "pareto": self.best_of_both,
            **{name: round(value, 3) for name, value in self.values.items()},
        }


@dataclass(frozen=True)
class Found:
    """What a search gave.

    Attributes:
        wishes: The bounds.
        candidates: Those that meet them, the chosen one first.
        tried: Configurations in all.
        compiled: How many of them were compiled; bounds of closed form ruled the others out.
        seconds: Time that it took.
    """

    wishes: tuple[Wish, ...]
    candidates: tuple[Candidate, ...]
    tried: int
    compiled: int
    seconds: float

    @property
    def chosen(self) -> Candidate:
        """The first."""
        return self.candidates[0]

    def to_json(self) -> dict[str, Any]:
        """What ``estimate --fit --json`` prints."""
        return {
            "fit": [str(wish) for wish in self.wishes],
            "tried": self.tried,
            "compiled": self.compiled,
            "seconds": round(self.seconds, 3),
            "candidates": [one.to_json() for one in self.candidates],
        }


def variants(base: ProcessorConfig, wishes: Sequence[Wish]) -> Iterator[ProcessorConfig]:
    """Configurations around ``base``: its clock, multipliers and units, other shapes and buffers.

    The bus is the base's unless something is said about bandwidth, the clock unless something is said about that.
    """
    named = {wish.quantity: wish for wish in wishes}
    widths = WIDTHS if "bandwidth" in named else (base.bus.bytes,)
    clock = round(named["clock_mhz"].value * 1e6) if "clock_mhz" in named else base.clock_hz
    seen: set[int] = set()
    for pp in ROWS:
        for icp in INPUTS:
            for ocp in (o for o in OUTPUTS if o <= icp and 4 * o % icp == 0):
                for scale in SCALES:
                    for width in (w for w in widths if icp % min(w, icp) == 0):
                        try:
                            made = replace(
                                base,
                                name=f"{pp}x{icp}x{ocp}",
                                summary=f"{pp * icp * ocp} multipliers, found for {', '.join(map(str, wishes))}"[:200],
                                pp=pp,
                                icp=icp,
                                ocp=ocp,
                                clock_hz=clock,
                                memory=_memory(base, pp, icp, ocp, scale),
                                bus=replace(base.bus, bytes=min(width, icp)),
                            )
                        except ValueError:
                            continue
                        if made.fingerprint not in seen:
                            seen.add(made.fingerprint)
                            yield made


def _memory(base: ProcessorConfig, pp: int, icp: int, ocp: int, scale: float) -> Memory:
    """Buffers of the base's size in bytes, times ``scale``, in whole powers of two."""

    def words(count: int, was: int, now: int, least: int = 64) -> int:
        return min(max(1 << round(math.log2(count * was * scale / now)), least), 1 << 16)

    m = base.memory
    bank, new_bank = base.pp * base.icp, pp * icp
    return Memory(
        act=words(m.act, bank, new_bank, 256),
        weight=words(m.weight, base.icp * base.ocp, icp * ocp, 128),
        bias=m.bias,
        mid=words(m.mid, bank, new_bank, 256),
        out=words(m.out, bank, new_bank, 256),
        vector_weight=words(m.vector_weight, base.icp, icp),
        vector_bias=m.vector_bias,
        rows=m.rows,
    )


def static_values(config: ProcessorConfig) -> dict[str, float]:
    """All that is known without a network."""
    found = resources(config)
    return {
        "dsp": found.dsp,
        "lut": found.lut,
        "ff": found.ff,
        "bram": found.bram,
        "ram_kib": found.ram_bytes / 1024,
        "macs": config.macs,
        "clock_mhz": config.clock_hz / 1e6,
        "bandwidth": config.bus.bytes * config.clock_hz / 1e6,
    }


def speed(config: ProcessorConfig, cycles: float) -> dict[str, float]:
    """Quantities that follow from the cycles of one frame."""
    return {"fps": config.clock_hz / cycles, "latency_ms": 1e3 * cycles / config.clock_hz}


def fewest_cycles(program: Program, config: ProcessorConfig) -> float:
    """Fewer than any program can take: every multiplier busy in every cycle, every weight read once."""
    weights = sum(t.size for name, t in program.tensors.items() if t.ndim > 1 and t.dtype.itemsize == 1)
    return max(sum(program.macs.values()) / (config.macs + config.pp * config.icp), weights / 4 / config.bus.bytes, 1.0)


def search(program: Program, base: ProcessorConfig, wishes: Sequence[Wish], progress: Progress | None = None) -> Found:
    """Configurations that meet bounds, by the resource model and the cycle model.

    Where speed is asked for, the one that takes the least of the device comes first, else the fastest.

    Raises:
        DoesNotFit: none does; the nearest one is named, and what it misses.
    """
    began = time.monotonic()
    rest: list[tuple[ProcessorConfig, dict[str, float]]] = []
    near: list[tuple[float, ProcessorConfig, Mapping[str, float]]] = []
    tried = 0
    for config in variants(base, wishes):
        tried += 1
        values = static_values(config)
        hoped = values | speed(config, fewest_cycles(program, config))
        hoped["throughput"] = hoped["fps"]
        miss, wish = worst(wishes, hoped)
        if wish is not None and miss:
            near.append((miss, config, hoped))
        else:
            rest.append((config, values))
    good: list[Candidate] = []
    needed = {wish.quantity for wish in wishes}
    for at, (config, values) in enumerate(rest):
        if progress is not None:
            progress(at, len(rest), f"{len(good)} fit")
        try:
            found = values | speed(config, timing(compile_program(program, config)).cycles)
            if "throughput" in needed:
                cycles = timing(compile_program(program, config, frames=FRAMES)).cycles
                found["throughput"] = config.clock_hz * FRAMES / cycles
        except DoesNotFit:
            continue
        miss, wish = worst(wishes, found)
        if wish is not None and miss:
            near.append((miss, config, found))
        else:
            good.append(Candidate(config, found))
    if progress is not None:
        progress(len(rest), len(rest), f"{len(good)} fit")
    if not good:
        raise _nothing(program, base, wishes, near)
    ranked = _ranked(good, wishes)
    return Found(tuple(wishes), tuple(ranked), tried, len(rest), time.monotonic() - began)


def _cost(values: Mapping[str, float]) -> float:
    """What a configuration takes: multipliers, logic and memory in equal shares of what is usual."""
    return sum(math.log(max(values[name], 1)) for name in ("dsp", "lut", "bram"))


def _ranked(good: Sequence[Candidate], wishes: Sequence[Wish]) -> list[Candidate]:
    def beats(one: Candidate, other: Candidate) -> bool:
        a, b = ((-c.values["fps"], *(c.values[n] for n in ("dsp", "lut", "bram"))) for c in (one, other))
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    marked = [replace(one, best_of_both=not any(beats(other, one) for other in good)) for one in good]
    asked = any(wish.quantity in (*FASTER, "latency_ms") for wish in wishes)
    if asked:
        return sorted(marked, key=lambda c: (not c.best_of_both, _cost(c.values), -c.values["fps"]))
    return sorted(marked, key=lambda c: (not c.best_of_both, -c.values["fps"], _cost(c.values)))


def _nothing(
    program: Program, base: ProcessorConfig, wishes: Sequence[Wish],
    near: Sequence[tuple[float, ProcessorConfig, Mapping[str, float]]],
) -> DoesNotFit:  # fmt: skip
    said = ", ".join(map(str, wishes))
    if not near:
        return DoesNotFit(
            f'"{printable(program.name)}" fits no configuration around {printable(base.name)}: a layer needs larger buffers. '
            "Give a configuration with larger ones as --config."
        )
    _, config, values = min(near, key=lambda one: one[0])
    missed = " and ".join(
        f"{wish.quantity} {values[wish.quantity]:.4g} ({wish}, {100 * abs(values[wish.quantity] / wish.value - 1):.0f} % away)"
        for wish in wishes
        if wish.quantity in values and wish.value and wish.miss(values[wish.quantity])
    )
    return DoesNotFit(
        f'No configuration around {printable(base.name)} reaches {said} with "{printable(program.name)}". The nearest is '
        f"{config.pp} x {config.icp} x {config.ocp} with a bus of {config.bus.bytes} bytes, and misses {missed}. Relax "
        "that, or give another clock or another --config to start from."
    )


def to_toml(config: ProcessorConfig) -> str:
    """The file of a configuration, as :func:`bitwright.fpga.config.load_config` reads it."""
    from dataclasses import asdict

    def line(name: str, value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
        return f"{name} = {text}"

    facts = asdict(config)
    tables = {name: facts.pop(name) for name in ("memory", "bus", "units")}
    lines = [line(name, str(value) if name == "rounding" else value) for name, value in facts.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(line(key, value) for key, value in table.items())]
    return "\n".join(lines) + "\n"
