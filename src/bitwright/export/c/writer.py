"""Program → C99: a directory that compiles by itself.

NAME.h             the interface
NAME.c             the network as straight-line calls, and functions for what no kernel does
NAME_weights.c     constants; BW_WEIGHTS_SECTION puts them where the linker script wants them
NAME_kernels.h/.c  the kernels that are used, and no others
NAME_test.c        self-test, with NAME_vectors.h
NAME_serial.c      the network behind a serial line
CMakeLists.txt, Makefile, report.json, report.txt
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract
from bitwright.errors import ExportError, UnsupportedOp, printable
from bitwright.export.c import serialtext
from bitwright.export.c.counting import estimated, texts
from bitwright.export.c.emitter import Emitter
from bitwright.export.c.fitting import check_fits
from bitwright.export.c.layout import Layout
from bitwright.export.c.library import check_kernels
from bitwright.export.c.names import plain
from bitwright.export.c.patching import Patching
from bitwright.export.c.report import report as summary
from bitwright.export.c.text import files as all_files
from bitwright.mcu.planner import Plan
from bitwright.program.forms import Island
from bitwright.program.program import Program

Values = NDArray[np.integer[Any]]
KNOWN_SAMPLES = 1  # test vectors where the caller gives none


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        program: What the files compute: the program, perhaps with its first layers by patches.
        directory: Where.
        prefix: Name of the network in C: of the files, the functions and, in capitals, the macros.
        files: Files, relative to the directory; C sources of the library first.
        layouts: Storage order of every buffer, to read what the C program writes.
        plan: The memory plan.
        report: What ``report.json`` holds.
    """

    program: Program
    directory: Path
    prefix: str
    files: tuple[str, ...]
    layouts: Mapping[str, Layout]
    plan: Plan
    report: Mapping[str, Any]

    @property
    def library_sources(self) -> tuple[str, ...]:
        """The C files that belong into a firmware."""
        return tuple(f"{self.prefix}{tail}.c" for tail in ("", "_kernels", "_weights"))


def write(
    program: Program,
    directory: str | Path,
    *,
    name: str | None = None,
    core: str | None = None,
    kernels: str = "own",
    patching: Patching | None = None,
    contract: InputContract | None = None,
    samples: Sequence[Mapping[str, Values]] | None = None,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
) -> Exported:
    """Write a program as C99.

    Args:
        program: An integer program without float islands.
        directory: Where to; made if it is not there.
        name: Name of the network in C; the program's name by default.
        core: The core that kernels are chosen for, as gcc spells it (``cortex-m4``); portable C by default.  What is
            chosen compiles everywhere, and computes the same.
        kernels: ``own``, or a library of the user that is called where it computes the same integers: ``cmsis-nn`` (int8)
            or ``cmsis-nn-q7`` (CMSIS 5.9.0 and older).
        patching: How ``program`` came to run by patches, for the report.
        contract: The input contract, from which the function that takes pixels is made.
        samples: Input buffer → integers ``[1, ...]``: vectors of the self-test.  One random sample by default.
        flash_bytes: Refuse to write what needs more constant memory and code.
        ram_bytes: Refuse to write what needs a larger arena.

    Raises:
        UnsupportedOp: a layer is a float island.
        DoesNotFit: more memory is needed than there is.
        ExportError: the directory cannot be written, or there are no such kernels.
    """
    _refuse_islands(program)
    emitter = Emitter(program, plain(name or program.name), contract, core=core, kernels=check_kernels(kernels))
    emitter.emit()
    report = estimated(summary(emitter), program, core)
    if patching is not None:
        report = {**report, "patches": patching.to_json()}
    check_fits(report, emitter.plan, flash_bytes, ram_bytes)
    given = list(samples) if samples else random_samples(program, KNOWN_SAMPLES)
    files = all_files(emitter, given)
    files[f"{emitter.prefix}_serial.c"] = serialtext.source(program, emitter.prefix)
    files |= texts(report)
    target = Path(directory)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (target / file).write_text(text, "utf-8", newline="\n")
    except OSError as error:
        raise ExportError(
            f"The C files cannot be written to {printable(target)}: {error.strerror}. Choose another directory with -o."
        ) from error
    return Exported(
        program=program,
        directory=target,
        prefix=emitter.prefix,
        files=tuple(files),
        layouts=emitter.layouts,
        plan=emitter.plan,
        report=report,
    )


def random_samples(program: Program, count: int, seed: int = 0) -> list[dict[str, Values]]:
    """Inputs that use the whole range of the input formats."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: rng.integers(b.format.lo, b.format.hi, b.shape, endpoint=True).astype(b.format.dtype)
            for name, b in ((name, program.buffers[name]) for name in program.inputs)
        }
        for _ in range(count)
    ]


def _refuse_islands(program: Program) -> None:
    for step in program.steps:
        if isinstance(step.form, Island):
            raise UnsupportedOp(
                f"Layer '{printable(step.layer)}' ({printable(step.op)}) runs in float, and generated C holds integers "
                f"only: {printable(step.form.reason, 300)}. Quantize for a target that computes it in integers "
                "(--target generic computes the most), or cut the network before this layer.",
                op=step.op,
                layer=step.layer,
                target=program.target,
            )
