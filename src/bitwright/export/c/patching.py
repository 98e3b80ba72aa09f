"""Which steps run by patches, and in how many: the least memory that planning finds for what the user allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bitwright.errors import ExportError, printable
from bitwright.export.c.emitter import Emitter
from bitwright.program.patches import Patched, Region, cuts, needed, patch, stage_ends
from bitwright.program.program import Program

AUTO_PATCHES, AUTO_ADDED = 16, 0.2  # what "auto" may use: patches, and multiply-accumulates added
MOST_PATCHES = 64
PLANNED = 8  # estimates that are planned in earnest
QUICK_TRIES = 40  # orders of memory blocks tried for each; what is written is planned with all patience


@dataclass(frozen=True, kw_only=True)
class Patching:
    """What was chosen.

    Attributes:
        program: The program, by patches or as it was.
        patched: How it runs by patches; None if it does not.
        arena_bytes: Working memory before and after.
    """

    program: Program
    patched: Patched | None
    arena_bytes: tuple[int, int]

    @property
    def sentence(self) -> str:
        """The result in words."""
        before, after = self.arena_bytes
        if self.patched is None:
            return f"No stage by patches needs less than the {before:,} bytes of RAM that the whole picture needs."
        rows, columns = self.patched.grid
        (macs, _), added = self.patched.macs, self.patched.added_macs
        return (
            f"The layers up to '{printable(self.patched.layer)}' run in {rows} x {columns} patches: {after:,} bytes of RAM "
            f"in place of {before:,} ({before - after:,} fewer), and {added:,} multiply-accumulates more "
            f"({100 * added / max(macs, 1):.1f} %)."
        )

    def to_json(self) -> dict[str, Any] | None:
        """Plain values for the report; None if nothing runs by patches."""
        if self.patched is None:
            return None
        return {
            "rows": self.patched.grid[0],
            "columns": self.patched.grid[1],
            "steps": self.patched.steps,
            "last_layer": self.patched.layer,
            "arena_bytes_whole": self.arena_bytes[0],
            "ram_saved_bytes": self.arena_bytes[0] - self.arena_bytes[1],
            "macs_whole": self.patched.macs[0],
            "macs_added": self.patched.added_macs,
        }


def parse_patches(text: str) -> tuple[int, float] | None:
    """``off``, ``auto`` or a number: the most patches, and the most work added as a share; None for off.

    Raises:
        ExportError: it is something else.
    """
    if text == "off":
        return None
    if text == "auto":
        return AUTO_PATCHES, AUTO_ADDED
    if not text.isdigit() or not 1 <= int(text) <= MOST_PATCHES:
        raise ExportError(
            f"Option patches is auto, off or a number from 1 to {MOST_PATCHES}, not '{printable(text, 40)}'."
        )
    return int(text), float("inf")


def by_patches(program: Program, wish: str, core: str | None = None, kernels: str = "own") -> Patching:
    """The program with its first steps by patches, if that needs less memory.

    Args:
        program: An integer program without float islands.
        wish: ``auto``: up to 16 patches that add up to 20 % of the work; a number: up to so many, whatever they add; or
            ``off``.
        core: The core that kernels are chosen for: they need working memory too.
        kernels: Whose kernels.

    Raises:
        ExportError: ``wish`` is something else.
    """
    from bitwright.export.c.library import check_kernels

    limits = parse_patches(wish)

    def arena(candidate: Program) -> int:
        made = Emitter(candidate, "net", None, core=core, kernels=check_kernels(kernels), most_tries=QUICK_TRIES)
        return made.plan.arena_bytes

    whole = arena(program)
    if limits is None or limits[0] == 1:
        return Patching(program=program, patched=None, arena_bytes=(whole, whole))
    most, added = limits
    estimates = sorted(
        (estimate, patches, end, grid)
        for end in stage_ends(program)
        for grid in grids(program, end, most)
        if (estimate := estimated_bytes(program, end, grid)) < whole
        for patches in [grid[0] * grid[1]]
    )
    best: tuple[int, int, Program, Patched] | None = None
    planned = 0
    for estimate, _, end, grid in estimates:
        if planned == PLANNED or (best is not None and estimate > best[0]):
            break
        candidate, patched = patch(program, end, grid)
        if patched.added_macs > added * max(patched.macs[0], 1):
            continue
        planned += 1
        found = arena(candidate)
        if best is None or (found, patched.added_macs) < best[:2]:
            best = found, patched.added_macs, candidate, patched
    if best is None or best[0] >= whole:
        return Patching(program=program, patched=None, arena_bytes=(whole, whole))
    return Patching(program=best[2], patched=best[3], arena_bytes=(whole, best[0]))


def grids(program: Program, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of patches, no more than ``most`` in all."""
    rows, columns = program.buffers[program.steps[end].outputs[0]].shape[2:]
    for i in range(1, min(most, rows) + 1):
        for j in range(1, min(most // i, columns) + 1):
            if i * j > 1 and i >= j:  # strips of rows lie in one piece; columns are worth it only beside rows
                yield i, j


def estimated_bytes(program: Program, end: int, grid: tuple[int, int]) -> int:
    """About the working memory: what is alive at the busiest step, by the largest patch; kernels' own left out."""
    buffers = program.buffers
    stage, rest = program.steps[: end + 1], program.steps[end + 1 :]
    result = buffers[stage[-1].outputs[0]]
    middle = [
        max(cuts(size, parts), key=lambda e: e[1] - e[0]) for size, parts in zip(result.shape[2:], grid, strict=True)
    ]
    needs = needed(program, stage, Region(middle[0], middle[1]))
    source = buffers[program.inputs[0]]
    last = {name: at for at, step in enumerate(program.steps) for name in step.inputs}
    last |= dict.fromkeys(program.outputs, len(program.steps))
    made = {step.outputs[0]: at for at, step in enumerate(program.steps)}

    def part(name: str) -> int:
        rows, columns = needs[name].size
        return buffers[name].shape[1] * rows * columns * buffers[name].format.dtype.itemsize

    always = source.size_bytes + result.size_bytes
    busiest = 0
    for at, step in enumerate(stage):
        alive = {name for name in needs if made.get(name, -1) <= at <= last.get(name, at)} - {result.name, source.name}
        crop = part(source.name) if source.name in step.inputs and grid[1] > 1 else 0
        busiest = max(busiest, always + crop + sum(part(name) for name in alive))
    for at, _ in enumerate(rest, end + 1):
        alive = {name for name in buffers if made.get(name, -1) <= at <= last.get(name, -1)}
        busiest = max(busiest, sum(buffers[name].size_bytes for name in alive))
    return busiest
