"""Runs the first steps of a program patch by patch over the picture, so that their tensors are never there as a whole.

Bit-exact by construction: every patch computes, with the same forms and constants, exactly the elements of its part of each
tensor.  A window that reaches beyond the patch reads inputs that the neighbor computes too; padding stays where the picture
ends.  What is paid is the overlap, computed twice.  (Idea: Lin et al., "MCUNetV2: Memory-Efficient Patch-based Inference for
Tiny Deep Learning", NeurIPS 2021.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod

from bitwright.program.check import check
from bitwright.program.forms import Axis, Contract, Join, Map, Motion, Move, Reduce, Table, Take
from bitwright.program.program import Buffer, Program, Step

RANK = 4  # batch, channels, rows, columns


@dataclass(frozen=True)
class Region:
    """Rows and columns of a tensor, first and one past the last of each.

    Attributes:
        rows: Of rows.
        columns: Of columns.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def join(self, other: Region | None) -> Region:
        """The least region that holds both."""
        if other is None:
            return self
        a, b = (self.rows, other.rows), (self.columns, other.columns)
        return Region(*((min(x[0], y[0]), max(x[1], y[1])) for x, y in (a, b)))

    def within(self, outer: Region) -> Region:
        """The same place, counted from where ``outer`` begins."""
        rows, columns = outer.rows[0], outer.columns[0]
        return Region(
            (self.rows[0] - rows, self.rows[1] - rows), (self.columns[0] - columns, self.columns[1] - columns)
        )


@dataclass(frozen=True, kw_only=True)
class Patched:
    """How a program runs by patches.

    Attributes:
        grid: Rows and columns of patches.
        steps: Steps of the stage, in the program as it was.
        layer: The last layer of the stage.
        macs: Multiply-accumulates before and after.
    """

    grid: tuple[int, int]
    steps: int
    layer: str
    macs: tuple[int, int]

    @property
    def added_macs(self) -> int:
        """What the overlap costs."""
        return self.macs[1] - self.macs[0]


def stage_ends(program: Program) -> tuple[int, ...]:
    """After which steps a stage by patches may end: one tensor is all that the rest of the program reads of it.

    Args:
        program: With one input that is a picture; other programs have no stage.
    """
    if len(program.inputs) != 1 or len(program.buffers[program.inputs[0]].shape) != RANK:
        return ()
    found = []
    last = {name: at for at, step in enumerate(program.steps) for name in step.inputs}
    last |= dict.fromkeys(program.outputs, len(program.steps))
    for at, step in enumerate(program.steps):
        if not _by_patches(program, step):
            break
        made = {program.inputs[0], *(name for earlier in program.steps[: at + 1] for name in earlier.outputs)}
        if {name for name in made if last.get(name, -1) > at} == set(step.outputs):
            found.append(at)
    return tuple(found)


def _by_patches(program: Program, step: Step) -> bool:
    """Whether a part of a step's output follows from a part of its inputs, by the same form."""
    buffers = [program.buffers[name] for name in (*step.inputs, *step.outputs)]
    if any(len(buffer.shape) != RANK or buffer.shape[0] != 1 for buffer in buffers):
        return False
    match step.form:
        case Contract(axes=axes):
            return len(axes) == RANK - 2 and all(axis.spread == 1 for axis in axes)
        case Reduce(combine=combine, axes=axes):
            return combine != "argmax" and axes[0] == Axis() and all(axis.spread == 1 for axis in axes)
        case Map(params=params):
            # Constants that differ from place to place would have to be cut too.
            flat = all(prod(program.tensors[t].shape[-2:]) == 1 or program.tensors[t].ndim < 2 for t in params.values())
            thin = all(program.tensors[t].size == 1 or program.tensors[t].ndim > 1 for t in params.values())
            return flat and thin and len({buffer.shape[2:] for buffer in buffers}) == 1
        case Table():
            return True
    return False


def patch(program: Program, end: int, grid: tuple[int, int]) -> tuple[Program, Patched]:
    """Run the steps up to ``end`` by patches.

    Args:
        program: A valid program.
        end: One of :func:`stage_ends`.
        grid: Rows and columns of patches; at most as many as the stage's result has.

    Returns:
        A program whose outputs are those of the given one for every input, and what was done.

    Raises:
        ValueError: ``end`` or ``grid`` is impossible.
    """
    if end not in stage_ends(program):
        raise ValueError(f"a stage by patches cannot end after step {end}")
    result = program.buffers[program.steps[end].outputs[0]]
    if not all(1 <= parts <= size for parts, size in zip(grid, result.shape[2:], strict=True)):
        raise ValueError(f"{list(grid)} patches do not fit a tensor of {list(result.shape[2:])}")
    return _Patching(program, end, grid).run()


@dataclass
class _Patching:
    program: Program
    end: int
    grid: tuple[int, int]
    buffers: dict[str, Buffer] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def run(self) -> tuple[Program, Patched]:
        program = self.program
        stage, rest = program.steps[: self.end + 1], program.steps[self.end + 1 :]
        gone = {step.outputs[0] for step in stage[:-1]}
        self.buffers = {name: buffer for name, buffer in program.buffers.items() if name not in gone}
        result = program.buffers[stage[-1].outputs[0]]
        places = [cuts(size, parts) for size, parts in zip(result.shape[2:], self.grid, strict=True)]
        strips: list[str] = []
        for i, rows in enumerate(places[0]):
            found = [self.one(stage, Region(rows, columns), f"@{i},{j}") for j, columns in enumerate(places[1])]
            name = found[0]
            if len(found) > 1:
                last = len(places[0]) == 1
                shape = (*result.shape[:2], rows[1] - rows[0], result.shape[3])
                strip = result if last else replace(result, name=f"{result.name}@{i}", shape=shape, tensor=None)
                name = self.add(stage[-1], f"@{i} join", Move((Join(3),)), found, strip)
            strips.append(name)
        if len(strips) > 1 or self.grid == (1, 1):
            self.add(stage[-1], " join", Move((Join(2),)), strips, result)
        after = dict(program.macs) | self.macs(stage)
        made = replace(program, buffers=self.buffers, steps=(*self.steps, *rest), macs=after)
        check(made)
        report = Patched(
            grid=self.grid,
            steps=len(stage),
            layer=stage[-1].layer,
            macs=(sum(program.macs.values()), sum(after.values())),
        )
        return made, report

    def one(self, stage: Sequence[Step], region: Region, mark: str) -> str:
        """Add the steps of one patch; the name of its part of the result."""
        needs = needed(self.program, stage, region)
        source = self.program.inputs[0]
        names = {source: self.crop(stage[0], source, whole(self.program, source), needs[source], mark)}
        for step in stage:
            out = step.outputs[0]
            if out not in needs:
                continue
            wanted = inputs_of(self.program, step, needs[out])
            given = [self.crop(step, names[n], needs[n], wanted[n], mark) for n in step.inputs]
            buffer = self.program.buffers[out]
            shape = (*buffer.shape[:2], *needs[out].size)
            form = self.form(step, needs[out])
            names[out] = self.add(
                step, mark, form, given, replace(buffer, name=f"{out}{mark}", shape=shape, tensor=None)
            )
        return names[stage[-1].outputs[0]]

    def form(self, step: Step, region: Region) -> Contract | Reduce | Map | Table:
        """The form of a part: padding only where the picture ends."""
        form = step.form
        assert isinstance(form, Contract | Reduce | Map | Table)
        if not isinstance(form, Contract | Reduce):
            return form
        windows = form.axes[-2:]
        size = self.program.buffers[step.inputs[0]].shape[2:]
        padded = []
        for axis, (first, last), n in zip(windows, (region.rows, region.columns), size, strict=True):
            start, stop = reach(axis, first, last)
            padded.append(replace(axis, before=max(0, -start), after=max(0, stop - n)))
        return replace(form, axes=(*form.axes[:-2], *padded))

    def crop(self, step: Step, name: str, have: Region, want: Region, mark: str) -> str:
        """The name of a part of a buffer, cut out of it where it is not the whole."""
        if have == want:
            return name
        place = want.within(have)
        buffer = self.buffers[name]
        motions: list[Motion] = [
            Take(axis, tuple(range(*ends)))
            for axis, ends, size in zip((2, 3), (place.rows, place.columns), buffer.shape[2:], strict=True)
            if ends != (0, size)
        ]
        number = sum(other.startswith(f"{name}{mark} part") for other in self.buffers)
        part = replace(buffer, name=f"{name}{mark} part{number}", shape=(*buffer.shape[:2], *want.size), tensor=None)
        return self.add(step, f"{mark} part{number} of {name}", Move(tuple(motions)), [name], part)

    def add(
        self, step: Step, mark: str, form: Contract | Reduce | Map | Table | Move, inputs: Sequence[str], result: Buffer
    ) -> str:
        self.buffers[result.name] = result
        made = replace(step, name=f"{step.name}{mark}", form=form, inputs=tuple(inputs), outputs=(result.name,))
        self.steps.append(made)
        return result.name

    def macs(self, stage: Sequence[Step]) -> dict[str, int]:
        """Layers of the stage and what they multiply now: their share grows with the places they compute."""
        before: dict[str, int] = {}
        after: dict[str, int] = {}
        for step in stage:
            if isinstance(step.form, Contract):
                places = prod(self.program.buffers[step.outputs[0]].shape[2:])
                size = self.program.tensors[step.form.weight].size
                before[step.layer] = before.get(step.layer, 0) + places * size
        for step in self.steps:
            if isinstance(step.form, Contract):
                places = prod(self.buffers[step.outputs[0]].shape[2:])
                size = self.program.tensors[step.form.weight].size
                after[step.layer] = after.get(step.layer, 0) + places * size
        return {
            layer: self.program.macs[layer] * after[layer] // before[layer]
            for layer in before
            if layer in self.program.macs
        }


def cuts(size: int, parts: int) -> list[tuple[int, int]]:
    """``size`` places in ``parts`` pieces that differ by one at most."""
    edges = [size * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def whole(program: Program, name: str) -> Region:
    """All of a buffer."""
    rows, columns = program.buffers[name].shape[2:]
    return Region((0, rows), (0, columns))


def reach(axis: Axis, first: int, last: int) -> tuple[int, int]:
    """First input position, and one past the last, that outputs ``first`` to ``last - 1`` read; padding included."""
    return first * axis.stride - axis.before, (last - 1) * axis.stride + (
        axis.taps - 1
    ) * axis.dilation - axis.before + 1


def inputs_of(program: Program, step: Step, region: Region) -> Mapping[str, Region]:
    """What a part of a step's output reads of each input."""
    form = step.form
    if not isinstance(form, Contract | Reduce):
        return dict.fromkeys(step.inputs, region)
    found = []
    for axis, (first, last), size in zip(
        form.axes[-2:], (region.rows, region.columns), program.buffers[step.inputs[0]].shape[2:], strict=True
    ):
        start, stop = reach(axis, first, last)
        low = min(max(start, 0), size - 1)
        found.append((low, max(min(stop, size), low + 1)))
    return {step.inputs[0]: Region(found[0], found[1])}


def needed(program: Program, stage: Sequence[Step], region: Region) -> dict[str, Region]:
    """What a part of a stage's result needs of every buffer."""
    needs: dict[str, Region] = {stage[-1].outputs[0]: region}
    for step in reversed(stage):
        if step.outputs[0] in needs:
            for name, part in inputs_of(program, step, needs[step.outputs[0]]).items():
                needs[name] = part.join(needs.get(name))
    return needs
