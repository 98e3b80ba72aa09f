"""Networks of a pack as C on microcontrollers: every integer compared, every instruction counted, beside other tools.

    python benchmarks/mcu.py                                   # the demo's network
    python benchmarks/mcu.py PACK --networks resnet8,ds_cnn    # networks of a pack whose names contain these

A pack is a folder as for ``networks.py``.  Boards are emulated, so figures are instructions, the same on every machine.
Figures of other tools stand in PEERS with where they come from; they were counted with the same compiler (arm-none-eabi-gcc
12.2.1) and emulator, on the same int8 networks of MLPerf Tiny.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from networks import Job, jobs

import bitwright as bw
from bitwright.deploying import random_inputs
from bitwright.errors import BitwrightError
from bitwright.export.c.writer import write
from bitwright.mcu import host
from bitwright.program.prune import prune

BOARDS = {
    "M3": "qemu:mps2-an385",
    "M4": "qemu:mps2-an386",
    "M7": "qemu:mps2-an500",
    "M33": "qemu:mps2-an505",
    "M55": "qemu:mps3-an547",
    "RV32": "qemu:riscv32-virt",
}
HOSTS = {"gcc": ("gcc", host.OPTIMIZE), "zig": ("zig", host.OPTIMIZE), "sanitized": ("gcc", host.SANITIZE)}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another tool on the same network.

    Attributes:
        tool: Its name and version.
        instructions: Board → millions of instructions of one inference.
        flash: Bytes on the Cortex-M4, or None.
        ram: Bytes on the Cortex-M4, or None.
    """

    tool: str
    instructions: Mapping[str, float]
    flash: int | None = None
    ram: int | None = None


CMSIS = "CMSIS-NN 99f736a6 (July 2026), called directly, -Ofast"
TFLM = "TFLM 90b983c2 with CMSIS-NN"
Q7 = "CMSIS-NN of CMSIS 5.9.0, q7 (powers of two), same shapes"
# Part of the network's name → figures.  Counted for this project with gcc 12.2.1 and QEMU 7.2 on the tflite files of
# mlcommons/tiny, benchmark/training/*/trained_models.
PEERS: Mapping[str, tuple[Peer, ...]] = {
    "resnet8": (
        Peer(tool=TFLM, instructions={"M4": 30.09}, flash=211_088, ram=55_000),
        Peer(
            tool=CMSIS,
            instructions={"M3": 42.1, "M4": 30.31, "M7": 30.37, "M33": 30.32, "M55": 4.81},
            flash=104_744,
            ram=51_968,
        ),
        Peer(tool=Q7, instructions={"M4": 23.18}),
    ),
    "kws": (
        Peer(tool=TFLM, instructions={"M4": 7.82}, flash=166_528, ram=22_824),
        Peer(
            tool=CMSIS,
            instructions={"M3": 10.55, "M4": 7.85, "M7": 7.77, "M33": 7.81, "M55": 1.78},
            flash=56_304,
            ram=16_768,
        ),
        Peer(tool=Q7, instructions={"M4": 6.96}),
    ),
    "vww": (
        Peer(tool=TFLM, instructions={"M4": 24.72}, flash=445_880, ram=100_712),
        Peer(
            tool=CMSIS,
            instructions={"M3": 32.3, "M4": 24.92, "M7": 24.68, "M33": 24.74, "M55": 6.42},
            flash=272_728,
            ram=66_048,
        ),
        Peer(tool=f"{CMSIS}, dead channels removed", instructions={"M4": 18.56, "M55": 5.39}),
    ),
    "streaming_ww": (
        Peer(tool=TFLM, instructions={"M4": 2.23}, flash=187_112, ram=16_584),
        Peer(
            tool=CMSIS,
            instructions={"M3": 4.26, "M4": 2.22, "M7": 2.18, "M33": 2.22, "M55": 0.408},
            flash=82_864,
            ram=11_008,
        ),
    ),
    "_ad_": (Peer(tool=CMSIS, instructions={"M3": 0.953, "M4": 0.579, "M7": 0.580, "M33": 0.580, "M55": 0.180}),),
}
# What this project promises of them on a Cortex-M4 (instructions, flash, RAM) and a Cortex-M55 (instructions).
PROMISED: Mapping[str, Mapping[str, float]] = {
    "resnet8": {"M4": 15.0, "flash": 102_000, "ram": 52_000, "M55": 4.81},
    "kws": {"M4": 3.9, "flash": 49_000, "ram": 16_800, "M55": 1.78},
    "vww": {"M4": 8.5, "flash": 107_000, "ram": 56_000, "M55": 5.39},
    "_ad_": {"M4": 0.5},
}
PROMISED_Q7: Mapping[str, Mapping[str, float]] = {"resnet8": {"M4": 23.18}, "kws": {"M4": 6.96}}


@dataclass
class Row:
    """A network on all boards.

    Attributes:
        network: Its name.
        target: What it was quantized for.
        instructions: Board → millions.
        memory: Flash and RAM on the Cortex-M4, or on the first board that it fits.
        arena: Working memory, and the least that any plan could have.
        checked: Integers compared, on all boards.
        mismatches: How many differ.
        refused: Board → why it does not run there.
        errors: What else went wrong.
    """

    network: str
    target: str
    instructions: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    arena: tuple[int, int] = (0, 0)
    checked: int = 0
    mismatches: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def quantized(job: Job, target: str, cache: Path | None) -> bw.Quantized:
    """The network for a target, from the cache where it is there."""
    path = None if cache is None else cache / f"{job.name}-{target}.bw"
    if path is not None and path.is_file():
        return bw.Quantized.load(path)
    made = bw.quantize(job.model, job.calib, target)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)
    return made


def measure(job: Job, target: str, args: argparse.Namespace) -> Row:
    """Run a network on all boards and on this machine."""
    row = Row(job.name, target)
    try:
        q = quantized(job, target, args.cache)
    except BitwrightError as error:
        row.errors.append(f"{type(error).__name__}: {error}")
        return row
    for short in args.boards.split(","):
        say(f"{job.name} on {short}")
        if short == "host":
            on_this_machine(q, row)
            continue
        try:
            found = q.deploy(BOARDS[short], data=job.val, samples=args.samples)
        except BitwrightError as error:
            row.refused[short] = f"{type(error).__name__}: {error}"
            if "Island" in str(error) or type(error).__name__ == "UnsupportedOp":
                break  # no board can
            continue
        row.instructions[short] = found.count / 1e6
        row.checked += found.outputs_checked
        row.mismatches += found.mismatches
        if short == "M4" or not row.memory:
            row.memory = {"flash": found.memory["flash_bytes"], "ram": found.memory["ram_bytes"]}
        row.arena = found.memory["arena_bytes"], found.memory["arena_bound_bytes"]
    return row


def on_this_machine(q: bw.Quantized, row: Row) -> None:
    """Portable C and the twins of the kernels for cores, with two compilers and under the sanitizers."""
    program = prune(q.program)[0]
    for core in (None, "cortex-m4", "cortex-m55"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                tree = write(program, folder, core=core)
            except BitwrightError as error:
                row.refused["host"] = f"{type(error).__name__}: {error}"
                return
            row.arena = tree.plan.arena_bytes, tree.plan.bound_bytes
            for name, (compiler, flags) in HOSTS.items():
                try:
                    found = host.check(tree, program, random_inputs(program, 1), cc=compiler, flags=flags)
                except BitwrightError as error:
                    row.errors.append(f"{name}, core {core}: {type(error).__name__}: {error}")
                else:
                    row.checked += found.values


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def known(name: str, figures: Mapping[str, Any]) -> Any:
    """The entry whose key is part of the name, or None."""
    return next((value for key, value in figures.items() if key in name), None)


def table(rows: list[Row], boards: list[str]) -> Iterator[str]:
    """Markdown."""
    yield f"| network | tool | {' | '.join(f'{b}, M' for b in boards)} | flash | RAM | arena (bound) | compared | differ |"
    yield "|---|---|" + "--:|" * (len(boards) + 5)
    for row in rows:
        counts = [f"**{row.instructions[b]:.2f}**" if b in row.instructions else "–" for b in boards]
        memory = [f"**{row.memory[k]:,}**" if k in row.memory else "–" for k in ("flash", "ram")]
        arena = f"{row.arena[0]:,} ({row.arena[1]:,})" if row.arena[1] else "–"
        yield (
            f"| {row.network} | bitwright, {row.target} | {' | '.join([*counts, *memory])} | {arena} | {row.checked:,} | "
            f"{row.mismatches} |"
        )
        for peer in (known(row.network, PEERS) or ()) if row.target == "mcu-cmsis-nn" or "q7" in row.target else ():
            if ("q7" in row.target) != (peer.tool == Q7):
                continue
            figures = [f"{peer.instructions[b]:g}" if b in peer.instructions else "–" for b in boards]
            figures += [f"{v:,}" if v else "–" for v in (peer.flash, peer.ram)]
            yield f"| | {peer.tool} | {' | '.join(figures)} | – | | |"


def missed(row: Row) -> list[str]:
    """Promises that were not kept."""
    promised = known(row.network, PROMISED_Q7 if "q7" in row.target else PROMISED) or {}
    found = {**row.instructions, **row.memory}
    return [
        f"{row.network} for {row.target}: {key} is {found[key]:,.2f}, promised is {most:,.2f}"
        for key, most in promised.items()
        if key in found and found[key] > most
    ]


def main() -> None:
    """Measure and print; exit 1 if an integer differs or a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", nargs="?", type=Path, help="folder with an index.json (default: the demo's network)")
    parser.add_argument("--networks", default="", metavar="A,B", help="only networks whose names contain one of these")
    parser.add_argument("--targets", default="mcu-cmsis-nn", metavar="A,B", help="default mcu-cmsis-nn")
    parser.add_argument(
        "--boards", default=",".join([*BOARDS, "host"]), metavar="A,B", help=f"of {', '.join(BOARDS)}, host"
    )
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="samples per board (default 1)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep quantized networks here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    names = [part for part in args.networks.split(",") if part]
    chosen = [job for job in jobs(args.pack) if not names or any(part in job.name for part in names)]
    rows = [measure(job, target, args) for target in args.targets.split(",") for job in chosen]
    if args.json:
        print(json.dumps([row.__dict__ for row in rows], indent=1))
    else:
        print("\n".join(table(rows, [b for b in args.boards.split(",") if b in BOARDS])))
        for row in rows:
            for board, why in row.refused.items():
                print(f"\n{row.network}, {board}: {why}")
            for error in row.errors:
                print(f"\n{row.network}: {error}")
    late = [line for row in rows for line in missed(row)]
    for line in late:
        print(f"\nmissed: {line}")
    sys.exit(1 if late or any(row.mismatches or row.errors for row in rows) else 0)


if __name__ == "__main__":
    main()
