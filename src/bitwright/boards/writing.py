"""From a program to the C files of a board, and from counts to costs: what all boards for generated C share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bitwright.boards.board import Job
from bitwright.errors import ExportError, printable
from bitwright.export.c.patching import Patching, by_patches
from bitwright.export.c.writer import Exported, write
from bitwright.mcu.harness import Counts
from bitwright.measured import Basis, Cost, LayerCost, Measured, MemoryBlock, Unit


@contextmanager
def written(
    job: Job, core: str | None, *, flash_bytes: int | None = None, ram_bytes: int | None = None
) -> Iterator[Exported]:
    """The C files of a job, in its folder or in one that goes when they are done with.

    Args:
        job: What the user asked for.
        core: The core that kernels are chosen for, unless the job says otherwise.
        flash_bytes: Refuse what needs more constant memory and code.
        ram_bytes: Refuse what needs a larger arena.

    Raises:
        UnsupportedOp: a layer is a float island.
        DoesNotFit: more memory is needed than there is.
    """
    job.tell("writing C")
    chosen = chosen_core(job, core)
    patching = None if job.patches is None else patched(job, core)
    with tempfile.TemporaryDirectory() as folder:
        yield write(
            job.program if patching is None else patching.program,
            folder if job.directory is None else job.directory,
            core=chosen,
            kernels=job.kernels or "own",
            patching=patching,
            contract=job.contract,
            flash_bytes=flash_bytes,
            ram_bytes=ram_bytes,
        )


def chosen_core(job: Job, core: str | None) -> str | None:
    """The core that kernels are chosen for, None for portable C: the board's ``core``, unless the job says otherwise."""
    return core if job.core is None else None if job.core == "portable" else job.core


def patched(job: Job, core: str | None) -> Patching:
    """The program of a job with its first layers patch by patch, as far as the job wants that.

    Raises:
        ExportError: what it wants is neither ``auto`` nor ``off`` nor a number.
    """
    return by_patches(job.program, job.patches or "off", chosen_core(job, core), job.kernels or "own")


def own_kernels(job: Job, board: str) -> None:
    """Refuse kernels that are not ours, where everything is built here.

    Raises:
        ExportError: other kernels were asked for.
    """
    if job.kernels not in (None, "own"):
        raise ExportError(
            f"Board {printable(board, 60)} builds the network here, and the kernels '{printable(job.kernels, 60)}' are a "
            "library of yours: export with --kernels, build it with the library, and run it with --board serial:PORT."
        )


def memory_map(tree: Exported) -> tuple[MemoryBlock, ...]:
    """The arena, block by block."""
    plan = tree.plan
    return tuple(
        MemoryBlock(name=block.name, offset=offset, bytes=block.size_bytes, first=block.first, last=block.last)
        for block, offset in zip(plan.blocks, plan.offsets, strict=True)
    )


def layer_costs(tree: Exported, counts: Sequence[int]) -> tuple[LayerCost, ...]:
    """A row per step, with what was counted or estimated for each."""
    return tuple(
        LayerCost(
            step=row["step"],
            layer=row["layer"],
            op=row["op"],
            by=row["by"],
            count=count,
            macs=row["macs"],
            constant_bytes=row["constant_bytes"],
        )
        for row, count in zip(tree.report["layers"], counts, strict=True)
    )


def cost(
    tree: Exported,
    device: str,
    total: int,
    counts: Sequence[int],
    *,
    unit: Unit,
    basis: Basis,
    rate: tuple[float | None, str],
    memory: dict[str, int],
    limits: dict[str, int] | None = None,
) -> Cost:
    """A cost, from what was counted or estimated in all and for each step.

    Args:
        tree: The emitted files.
        device: The board, or the core.
        total: Of one inference.
        counts: Of each step.
        unit: What was counted.
        basis: Whether it was.
        rate: Inferences in a second, and where that figure comes from.
        memory: Kind of memory → bytes.
        limits: Kind of memory → bytes that there are.
    """
    return Cost(
        device=device,
        unit=unit,
        count=total,
        basis=basis,
        frames_per_s=rate[0],
        frames_basis=rate[1],
        memory={**memory, "arena_bytes": tree.plan.arena_bytes, "arena_bound_bytes": tree.plan.bound_bytes},
        limits=limits or {},
        blocks=memory_map(tree),
        layers=layer_costs(tree, counts),
    )


def outcome(board: str, counts: Counts, found: Cost) -> Measured:
    """What running on a board proved, from the counts of the run and the cost made of them."""
    return Measured(
        board=board,
        toolchain=counts.toolchain,
        cost=found,
        samples=counts.samples,
        outputs_checked=counts.checked,
        mismatches=counts.mismatches,
        first_mismatch=counts.first,
        count_range=(min(counts.totals), max(counts.totals)),
        seconds=counts.seconds,
    )
