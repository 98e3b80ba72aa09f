"""Instructions in the report of the C writer: estimated when the files are written, measured where a board can be run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bitwright.errors import BitwrightError
from bitwright.export.c.report_text import report_text
from bitwright.export.report import write_bytes
from bitwright.mcu import instructions
from bitwright.mcu.board import board_of_core
from bitwright.mcu.firmware import has_zig
from bitwright.program.program import Program

if TYPE_CHECKING:
    from bitwright.export.c.writer import Exported

PORTABLE = "cortex-m4"  # what portable C is counted on, where the user names no core
MOST_MACS = 200_000_000  # of a network that is run in an emulator without being asked for


def estimated(report: Mapping[str, Any], program: Program, core: str | None) -> dict[str, Any]:
    """The report with estimated instructions, in all and of each step; None where nothing is known of the core."""
    chosen = core or PORTABLE
    kernels = [row["by"] for row in report["layers"]]
    counts: tuple[int | None, ...] = (None,) * len(kernels)
    basis = f"nothing is known of {chosen}"
    if report.get("kernels", "own") != "own":
        basis = "not counted: the kernels are the user's own library"
    elif instructions.known(chosen):
        counts = instructions.estimate(program, kernels, chosen)
        basis = f"estimated for {chosen} from counts of its kernels"
    total = None if None in counts else sum(c for c in counts if c is not None)
    return with_counts(report, core, total, counts, basis)


def with_counts(
    report: Mapping[str, Any], core: str | None, total: int | None, counts: tuple[int | None, ...], basis: str
) -> dict[str, Any]:
    """The report with instructions."""
    rows = [{**row, "instructions": count} for row, count in zip(report["layers"], counts, strict=True)]
    return {**report, "core": core, "instructions": {"total": total, "basis": basis}, "layers": rows}


def can_measure(report: Mapping[str, Any], core: str | None) -> bool:
    """Whether there is a board of this core, with all that is needed to run it here, for a network of this size."""
    board = None if core is None else board_of_core(core)
    return (
        board is not None
        and report.get("kernels", "own") == "own"
        and report["macs"] <= MOST_MACS
        and shutil.which(board.qemu.system) is not None
        and (shutil.which(board.gcc.command) is not None or has_zig())
    )


def measured(tree: Exported, program: Program, core: str) -> dict[str, Any]:
    """The report with what a board of this core counts on a random sample, written beside the files again.

    Raises:
        ToolMissing: compiler or emulator is missing.
        Mismatch: the board computes other integers.
    """
    from bitwright.errors import Mismatch
    from bitwright.export.c.writer import random_samples
    from bitwright.mcu.qemu import measure

    board = board_of_core(core)
    if board is None:
        raise BitwrightError(f"There is no board for {core}.")
    counts = measure(tree, program, board, random_samples(program, 1)[0])
    if counts.mismatches:
        raise Mismatch(f"{counts.mismatches} integers differ on {board.name}. {counts.first}")
    report = with_counts(
        tree.report, core, counts.totals[0], counts.steps, f"measured on {board.name}, {counts.toolchain}"
    )
    report["flash"] = {**report["flash"], "linked_bytes": counts.flash_bytes}
    report["ram"] = {**report["ram"], "stack_bytes": counts.stack_bytes}
    for name, text in texts(report).items():
        write_bytes(tree.directory / name, text.encode("utf-8"))
    return report


def texts(report: Mapping[str, Any]) -> dict[str, str]:
    """File name → text."""
    return {"report.json": json.dumps(report, indent=1) + "\n", "report.txt": report_text(report)}
