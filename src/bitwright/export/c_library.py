"""``c``: a C99 library without malloc, compiled and compared with the reference, every integer of every step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bitwright.export.c.writer import write
from bitwright.export.exporter import Exporter
from bitwright.export.report import ExportReport, Reading

if TYPE_CHECKING:
    from bitwright.export.running import Codes
    from bitwright.quantized import Quantized


def export_c(
    q: Quantized, path: str | os.PathLike[str], *, name: str | None = None, core: str | None = None
) -> ExportReport:
    """Write the program as a folder of C99 with build files, a self-test and a memory report.

    Args:
        q: The quantized network, without pieces that stay in float.
        path: The folder.
        name: Name of the network in C; the network's own by default.
        core: The core that kernels are chosen for, as gcc spells it (``cortex-m4``); portable C by default.

    Raises:
        UnsupportedOp: if a layer stays in float.
    """
    tree = write(q.program, Path(path), name=name, core=core, contract=q.contract)
    # The library and its header come first.
    files = tuple(Path(path) / file for file in tree.files)
    memory = tree.report["ram"]["arena_bytes"], tree.report["flash"]["estimate_bytes"]
    return ExportReport(
        format="c",
        files=files,
        promise="bit-exact",
        notes=(f"It needs {memory[0]:,} bytes of RAM for the arena and about {memory[1]:,} bytes of flash.",),
        facts={"prefix": tree.prefix, "arena_bytes": memory[0], "flash_bytes": memory[1]},
        handle=tree,
    )


def read_c(q: Quantized, report: ExportReport, codes: Codes | None) -> Reading:
    """Compile the library, run it on the samples, and compare what every step computes.

    Raises:
        Mismatch: naming the first integer that differs.
        ToolMissing: if there is no C compiler.
    """
    from bitwright.mcu.host import check

    assert codes is not None  # this format runs
    inputs = dict(zip(q.program.inputs, codes.integers, strict=True))
    found = check(report.handle, q.program, inputs)
    return Reading(
        reader=found.compiler,
        compared=found.values,
        differing=0,
        # They were found to be equal, so the reference's are the library's.
        result=b"".join(x.astype("<i8").tobytes() for x in codes.expected),
        samples=found.samples,
    )


EXPORTER = Exporter(
    name="c",
    summary="A C99 library without malloc, with build files, a self-test and a memory report.",
    promise="bit-exact",
    path="folder",
    suffix="",
    write=export_c,
    read=read_c,
    runs=True,
)
