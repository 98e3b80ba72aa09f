"""What the benchmarks share: paths, taking turns, subprocesses that report their memory, one line of result."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

DEMO = Path(str(files("bitwright") / "demo"))


def parser(text: str, *, repeat: int = 5, data: str = "digits-calib.npz") -> argparse.ArgumentParser:
    """A parser with what every benchmark of a network takes."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument(
        "model", nargs="?", type=Path, default=DEMO / "digits.onnx", help="ONNX file (default: the demo's)"
    )
    made.add_argument("data", nargs="?", type=Path, default=DEMO / data, help="samples (default: the demo's)")
    common(made, repeat=repeat)
    return made


def common(made: argparse.ArgumentParser, *, repeat: int) -> None:
    """What every benchmark takes."""
    made.add_argument("--repeat", type=int, default=repeat, metavar="N", help=f"turns (default {repeat})")
    made.add_argument("--json", action="store_true", help="print JSON instead of a line")


@dataclass(frozen=True)
class Turn:
    """Seconds of one run.

    Attributes:
        wall: By the clock.
        cpu: Of all threads, user and system.
    """

    wall: float
    cpu: float


def timed(run: Callable[[], Any]) -> Turn:
    """One run."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Turn(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(
    repeat: int, ours: Callable[[], Any], peer: Callable[[], Any], *, burst: int = 1
) -> list[tuple[Turn, Turn]]:
    """Both by turns after one run of each that is not counted: A B A B …, so that a machine that drifts hits both.

    Args:
        repeat: Pairs.
        ours: Us.
        peer: The peer.
        burst: Runs in a row of each; the fastest of a burst counts.  Threads of ONNX Runtime keep spinning for a while
            after a run, so the first run after a change of turns pays for the other side.
    """
    ours()
    peer()
    best = lambda run: min((timed(run) for _ in range(burst)), key=lambda turn: turn.wall)
    return [(best(ours), best(peer)) for _ in range(repeat)]


def ratios(pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, Any]:
    """Ours over the peer's, pair by pair: median and minimum, by the clock and in processor time; and seconds."""
    wall = [a.wall / b.wall for a, b in pairs]
    cpu = [a.cpu / b.cpu for a, b in pairs if b.cpu]
    return {
        "ratio": round(statistics.median(wall), 3),
        "ratio_min": round(min(wall), 3),
        "cpu_ratio": round(statistics.median(cpu), 3) if cpu else None,
        "seconds": round(min(a.wall for a, _ in pairs), 6),
        "peer_seconds": round(min(b.wall for _, b in pairs), 6),
        "turns": len(pairs),
    }


def report(
    args: argparse.Namespace, figures: Mapping[str, Any] | Sequence[Mapping[str, Any]], lines: Sequence[str]
) -> None:
    """Print the result."""
    if args.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(lines))


def peak_megabytes() -> float:
    """The most memory that this process has had."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def child(*arguments: str) -> dict[str, Any]:
    """Run the calling script again in a process of its own; what it prints last is JSON."""
    command = [sys.executable, sys.argv[0], *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def vnni() -> bool:
    """Whether this machine's int8 convolutions are exact, so that the engine uses them."""
    from bitwright.simulate.probe import int8_convolution_is_exact

    return int8_convolution_is_exact()
