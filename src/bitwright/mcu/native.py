"""Runs a network on this machine as on a board: every integer of every step compared, every step timed.

Time is counted by the processor's own counter of a fixed rate (time stamp counter on x86, virtual counter on Arm), because
what the user may count instructions with differs from system to system.  The least of several runs is taken.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.mcu import firmware, harness
from bitwright.mcu.harness import Counts
from bitwright.mcu.host import OPTIMIZE, Tree, compiler
from bitwright.program.program import Program

Values = NDArray[np.integer[Any]]
REPEATS = 5
TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Timed(Counts):
    """Counts, and how fast the counter goes.

    Attributes:
        ticks_per_s: Of the counter.
    """

    ticks_per_s: float


def measure(
    tree: Tree,
    program: Program,
    inputs: Mapping[str, Values],
    *,
    cc: str | None = None,
    flags: Sequence[str] = (*OPTIMIZE, "-march=native"),
) -> Timed:
    """Build a network for this machine, run samples, compare and time.

    Args:
        tree: The emitted files.
        program: Their program.
        inputs: Input buffer → integers ``[n, ...]``.
        cc: Compiler; this machine's by default.
        flags: Its options.

    Raises:
        ToolMissing: there is no compiler; the message says what to install.
        ExportError: the compiler refuses our text, or the program fails; always our bug.
    """
    command = compiler(cc)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        main = folder / "run_main.c"
        main.write_text(firmware.harness(tree, program, "run.c"), "utf-8")
        sources = [str(tree.directory / file) for file in tree.library_sources]
        sources += [str(main), str(firmware.FOLDER / "start_host.c")]
        options = [f"-I{tree.directory}", f"-I{firmware.FOLDER}", f"-D{tree.prefix.upper()}_HOOKS=1"]
        options += ["-DBW_STACK=0", "-DBW_WIDE_TICKS=1", f"-DBW_REPEATS={REPEATS}"]
        done = subprocess.run(
            [*command, "-std=gnu99", *flags, *options, *sources, "-o", str(folder / "run"), "-lm"],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            raise ExportError(
                f"{printable(command[0])} does not accept the generated C in {printable(tree.directory)}; please report "
                f"it. It says: {printable(done.stderr, 2000)}"
            )
        count = harness.write_samples(tree, program, inputs, folder / "in.bin")
        start = perf_counter()
        _run(folder)
        seconds = perf_counter() - start
        ticks, nanoseconds = (int(word) for word in (folder / "rate.txt").read_text("ascii").split())
        data = (folder / "out.bin").read_bytes()
    found = harness.compare(tree, program, inputs, data, wide=True)
    return Timed(
        samples=count,
        checked=found.checked,
        mismatches=found.mismatches,
        first=found.first,
        totals=found.totals,
        steps=found.steps,
        stack_bytes=0,
        flash_bytes=0,
        ram_bytes=0,
        toolchain=version(tuple(command)),
        seconds=seconds,
        ticks_per_s=1e9 * ticks / max(nanoseconds, 1),
    )


def _run(folder: Path) -> None:
    try:
        done = subprocess.run(
            [str(folder / "run")], cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"The network did not end within {TIMEOUT_S} s on this machine. Use fewer samples."
        ) from error
    if done.returncode:
        raise ExportError(
            f"The compiled network stopped with status {done.returncode} on this machine; please report it. It says: "
            f"{printable(done.stdout + done.stderr, 1000)}"
        )


@cache
def version(command: tuple[str, ...]) -> str:
    """The compiler with its version: ``cc 12.2.0``."""
    name = Path(command[0]).name
    if name == "zig":
        return firmware.zig_version()
    done = subprocess.run(
        [*command, "-dumpfullversion", "-dumpversion"], capture_output=True, text=True, check=False, timeout=60
    )
    return f"{name} {done.stdout.strip()}"
