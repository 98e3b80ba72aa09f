"""Estimates for microcontrollers: the C is written, its kernels' instructions come from a model, nothing is run."""

from __future__ import annotations

from bitwright.boards.board import Job
from bitwright.boards.writing import cost, written
from bitwright.errors import ExportError, printable
from bitwright.export.c.counting import PORTABLE
from bitwright.mcu.microcontrollers import find_core
from bitwright.measured import Cost


def estimate_core(job: Job, name: str, *, clock_mhz: float | None = None) -> Cost:
    """What an inference costs on a core, or in portable C.

    Raises:
        UnknownTarget: there is no such core.
        ExportError: its instructions are not known.
        UnsupportedOp: a layer is a float island.
    """
    core = find_core(PORTABLE if name == "portable" else name)
    with written(job, None if name == "portable" else name) as tree:
        found = tree.report["instructions"]
        if found["total"] is None:
            raise ExportError(
                f"Instructions on {printable(name, 60)} cannot be estimated: {found['basis']}. Run it: bitwright deploy."
            )
        return cost(
            tree,
            f"{name} C on {core.name}" if name == "portable" else name,
            found["total"],
            [row["instructions"] for row in tree.report["layers"]],
            unit="instructions",
            basis="estimated",
            rate=core.frames_per_s(found["total"], clock_mhz),
            memory={
                "flash_bytes": tree.report["flash"]["estimate_bytes"],
                "ram_bytes": tree.report["ram"]["arena_bytes"],
            },
        )
