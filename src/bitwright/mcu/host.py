"""Compiles emitted C with this machine's compiler, runs it, and compares every integer of every step."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ExportError, Mismatch, ToolMissing, printable
from bitwright.mcu.planner import Plan
from bitwright.program.program import Program
from bitwright.simulate import reference

Values = NDArray[np.integer[Any]]
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
OPTIMIZE = ("-O3", "-fno-strict-aliasing")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g", "-fno-strict-aliasing")
TIMEOUT_S = 600


class Stored(Protocol):
    """The storage order of a buffer (``export/c/layout.py``)."""

    def stored(self, values: Any) -> Any:
        """Flat, in storage order."""

    def restored(self, flat: Any) -> Any:
        """The inverse."""


class Tree(Protocol):
    """Emitted files (``export/c/writer.Exported``)."""

    @property
    def directory(self) -> Path:
        """Where they are."""

    @property
    def prefix(self) -> str:
        """The network's name in C."""

    @property
    def layouts(self) -> Mapping[str, Any]:
        """Storage order of every buffer."""

    @property
    def plan(self) -> Plan:
        """The memory plan."""

    @property
    def library_sources(self) -> tuple[str, ...]:
        """C files of the library."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A comparison with the reference.

    Attributes:
        samples: Samples that were run.
        buffers: Buffers compared for each.
        values: Integers compared.
        seconds_per_run: Time of one inference, reading and writing files included.
        compiler: The compiler that was used.
    """

    samples: int
    buffers: int
    values: int
    seconds_per_run: float
    compiler: str


def compiler(wanted: str | None = None) -> list[str]:
    """The command of a C compiler: ``wanted``, ``$CC``, ``cc``, ``gcc``, ``clang``, or the ziglang package's.

    Raises:
        ToolMissing: there is none; the message says what to install.
    """
    candidates = [wanted] if wanted else [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    for name in candidates:
        if name and shutil.which(name.split()[0]):
            return name.split()
    if not wanted or wanted == "zig":
        try:
            import ziglang  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError:
            pass
        else:
            return [str(Path(ziglang.__file__).parent / "zig"), "cc"]
    install = "apt install gcc  (or: pip install 'bitwright[mcu]', which brings ziglang)"
    named = f"'{printable(wanted)}'" if wanted else "No C compiler"
    raise ToolMissing(
        f"{named} was not found, and the generated C is to be compiled on this machine. Install one: {install}.",
        tool=wanted or "cc",
        install=install,
    )


def build(
    tree: Tree,
    output: Path,
    *,
    cc: str | None = None,
    flags: Sequence[str] = OPTIMIZE,
    test: bool = True,
) -> str:
    """Compile the emitted files into the self-test, or into a shared library.

    Args:
        tree: The emitted files.
        output: Program or library to write.
        cc: Compiler; this machine's by default.
        flags: Further options.
        test: The self-test, with hooks; otherwise a shared library.

    Returns:
        The compiler's name.

    Raises:
        ToolMissing: there is no compiler.
        ExportError: it refuses our text; always our bug.
    """
    command = compiler(cc)
    sources = [str(tree.directory / name) for name in tree.library_sources]
    what = (
        [f"-D{tree.prefix.upper()}_HOOKS=1", str(tree.directory / f"{tree.prefix}_test.c")]
        if test
        else ["-shared", "-fPIC"]
    )
    done = subprocess.run(
        [*command, *WARNINGS, *flags, *what, *sources, "-o", str(output), "-lm"],
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
    return " ".join(command)


def self_test(tree: Tree, *, cc: str | None = None, flags: Sequence[str] = OPTIMIZE) -> str:
    """Build and run the generated self-test; returns what it prints.

    Raises:
        Mismatch: a step differs from its vector.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "test"
        build(tree, program, cc=cc, flags=flags)
        done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        raise Mismatch(
            f"The self-test of {printable(tree.prefix)} fails on this machine; please report it. It says: "
            f"{printable(done.stdout + done.stderr, 2000)}"
        )
    return done.stdout


def run_steps(
    tree: Tree,
    program: Program,
    inputs: Mapping[str, Values],
    *,
    cc: str | None = None,
    flags: Sequence[str] = OPTIMIZE,
    runner: Sequence[str] = (),
) -> tuple[list[dict[str, Values]], float, str]:
    """What every step of the compiled network computes.

    Args:
        tree: The emitted files.
        program: Their program.
        inputs: Input buffer → integers ``[n, ...]``.
        cc: Compiler.
        flags: Its options.
        runner: Put before the program's path, for a program of another kind of machine.

    Returns:
        For each sample buffer → integers; seconds per sample; the compiler.

    Raises:
        ExportError: the compiled program fails.
    """
    count = len(next(iter(inputs.values())))
    with tempfile.TemporaryDirectory() as folder:
        executable, source, target = (Path(folder) / name for name in ("test", "in.bin", "out.bin"))
        used = build(tree, executable, cc=cc, flags=flags)
        with source.open("wb") as file:
            for i in range(count):
                for name in program.inputs:
                    buffer = program.buffers[name]
                    sample = np.asarray(inputs[name])[i : i + 1].reshape(buffer.shape)
                    file.write(np.asarray(tree.layouts[name].stored(sample), buffer.format.dtype).tobytes())
        start = perf_counter()
        done = subprocess.run(
            [*runner, executable, source, target], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        seconds = (perf_counter() - start) / max(count, 1)
        if done.returncode:
            raise ExportError(
                f"The compiled network {printable(tree.prefix)} fails with status {done.returncode}; please report it. "
                f"It says: {printable(done.stdout + done.stderr, 2000)}"
            )
        data = target.read_bytes()
    found, at = [], 0
    for _ in range(count):
        values = {}
        for step in program.steps:
            buffer = program.buffers[step.outputs[0]]
            flat = np.frombuffer(data, buffer.format.dtype, buffer.size, at)
            at += flat.nbytes
            values[buffer.name] = tree.layouts[buffer.name].restored(flat)
        found.append(values)
    return found, seconds, used


def check(
    tree: Tree,
    program: Program,
    inputs: Mapping[str, Values],
    *,
    cc: str | None = None,
    flags: Sequence[str] = OPTIMIZE,
    runner: Sequence[str] = (),
) -> Checked:
    """Compare every integer that every step computes with the reference.

    Args:
        tree: The emitted files.
        program: Their program.
        inputs: Input buffer → integers ``[n, ...]``.
        cc: Compiler.
        flags: Its options; ``SANITIZE`` looks for undefined behavior too.
        runner: Put before the program's path, for a program of another kind of machine.

    Raises:
        Mismatch: with the step, the place and both values.
    """
    found, seconds, used = run_steps(tree, program, inputs, cc=cc, flags=flags, runner=runner)
    values = 0
    for i, sample in enumerate(found):
        one = {name: np.asarray(x)[i : i + 1] for name, x in inputs.items()}
        expected = reference.run(program, one, keep=True)
        for step in program.steps:
            name = step.outputs[0]
            want, got = np.asarray(expected[name]), sample[name]
            values += want.size
            if not np.array_equal(want.reshape(got.shape), got):
                place = tuple(int(v) for v in np.argwhere(want.reshape(got.shape) != got)[0])
                raise Mismatch(
                    f"The compiled network differs from the reference in step '{printable(step.name)}' (layer "
                    f"'{printable(step.layer)}') at {list(place)}: {int(got[place])} instead of "
                    f"{int(want.reshape(got.shape)[place])}. Please report it.",
                    tensor=name,
                    index=place,
                    expected=int(want.reshape(got.shape)[place]),
                    got=int(got[place]),
                )
    return Checked(
        samples=len(found), buffers=len(program.steps), values=values, seconds_per_run=seconds, compiler=used
    )
