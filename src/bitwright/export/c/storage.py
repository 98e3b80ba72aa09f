"""Which buffers share memory: moves that move nothing, concatenations by placement, element by element work in place.

The result gives each buffer a *view* of a *root*, a block of memory of its own, and each root a lifetime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from bitwright.export.c.layout import Layout, moved_indices
from bitwright.export.c.pattern import two_level
from bitwright.program.forms import Fill, Join, Map, Move, Table
from bitwright.program.program import Program, Step


@dataclass(frozen=True)
class View:
    """Where the elements of a buffer lie in a root.

    Storage position ``p`` is element ``offset + p // run * pitch + p % run`` of the root.

    Attributes:
        root: Name of the root.
        offset: First element.
        run: Elements that lie side by side.
        pitch: From one run to the next.
    """

    root: str
    offset: int
    run: int
    pitch: int

    @property
    def solid(self) -> bool:
        """Whether there are no gaps."""
        return self.run == self.pitch

    def within(self, start: int, run: int, pitch: int) -> View | None:
        """The view of positions ``start + p // run * pitch + p % run`` of this one, if it is of this kind."""
        if self.solid:
            return View(self.root, self.offset + start, run, pitch)
        if run == pitch:  # an unbroken stretch of a view with gaps
            return None
        # Runs inside runs: the inner rows must be the outer runs, or several of them.
        column = start % self.run
        if pitch % self.run or column + run > self.run:
            return None
        outer = start // self.run * self.pitch + column
        return View(self.root, self.offset + outer, run, pitch // self.run * self.pitch)


@dataclass
class Root:
    """A block of memory.

    Attributes:
        name: The buffer it is named after.
        kind: ``"input"`` is given by the caller and never written; ``"arena"`` is ours.
        size: Elements.
        item_bytes: Bytes of one.
        first: First step that it is needed at.
        last: Last step.
        members: Buffers in it.
    """

    name: str
    kind: Literal["input", "arena"]
    size: int
    item_bytes: int
    first: int
    last: int
    members: list[str] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Its bytes."""
        return self.size * self.item_bytes


@dataclass(frozen=True)
class Storage:
    """Views and roots of a program, and the steps that have nothing left to do.

    Attributes:
        views: Buffer → view.
        roots: Name → root.
        elided: Names of steps whose result is where it should be already.
        placed: Join steps → inputs that were written into the result by their producers.
    """

    views: Mapping[str, View]
    roots: Mapping[str, Root]
    elided: frozenset[str]
    placed: Mapping[str, frozenset[int]]


def share(program: Program, layouts: Mapping[str, Layout], *, in_place: bool = True) -> Storage:
    """Decide what shares memory.

    Args:
        program: The program.
        layouts: Storage order of every buffer.
        in_place: Let element by element steps overwrite an input that nobody needs any more.
    """
    return _Sharing(program, layouts, in_place).run()


class _Sharing:
    def __init__(self, program: Program, layouts: Mapping[str, Layout], in_place: bool) -> None:
        self.program, self.layouts, self.in_place = program, layouts, in_place
        self.views: dict[str, View] = {}
        self.roots: dict[str, Root] = {}
        self.elided: set[str] = set()
        self.placed: dict[str, frozenset[int]] = {}
        self.last: dict[str, int] = dict.fromkeys(program.buffers, -1)
        self.made: dict[str, int] = dict.fromkeys(program.inputs, -1)
        for at, step in enumerate(program.steps):
            for name in step.inputs:
                self.last[name] = at
            for name in step.outputs:
                self.made[name] = at
                self.last[name] = max(self.last[name], at)
        for name in program.outputs:
            self.last[name] = len(program.steps)
        self.multiplied = {name for step, _ in program.contracts() for name in (*step.inputs, *step.outputs)}
        # Buffer → the join it will be part of: (result, start, run, pitch).
        self.part_of: dict[str, tuple[str, int, int, int]] = {}

    def run(self) -> Storage:
        for step in reversed(self.program.steps):
            self.plan_join(step)
        for name in self.program.inputs:
            self.new_root(name, "input")
        for at, step in enumerate(self.program.steps):
            if isinstance(step.form, Move):
                self.move(step)
            else:
                reused = self.overwritten(at, step)
                for name in step.outputs:
                    if reused is not None and name not in self.part_of:
                        self.join_root(name, self.views[reused])
                    else:
                        self.place(name)
        return Storage(self.views, self.roots, frozenset(self.elided), self.placed)

    def positions(self, step: Step) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each input of a move: storage positions (to, from)."""
        return copies(self.program, self.layouts, step)

    def plan_join(self, step: Step) -> None:
        form = step.form
        if not isinstance(form, Move) or not isinstance(form.motions[0], Join) or len(form.motions) > 1:
            return
        wanted: dict[int, None] = {}
        for i, (name, (to, source)) in enumerate(zip(step.inputs, self.positions(step), strict=True)):
            elsewhere = name in self.part_of or name in self.program.inputs or name in self.program.outputs
            if elsewhere or step.inputs.count(name) > 1 or not np.array_equal(source, np.arange(source.size)):
                continue
            if self.size(name) != source.size:
                continue
            where = two_level(to)
            if where is not None and self.is_computed(name):
                self.part_of[name] = (step.outputs[0], *where)
                wanted[i] = None
        self.placed[step.name] = frozenset(wanted)

    def is_computed(self, name: str) -> bool:
        """Whether a buffer is written by its step, and not only another name for a part of another buffer."""
        step = self.program.producer(name)
        if step is None:
            return False
        if not isinstance(step.form, Move) or isinstance(step.form.motions[0], Join):
            return True
        return not self.moves_nothing(step)

    def moves_nothing(self, step: Step) -> bool:
        assert isinstance(step.form, Move)
        if len(step.inputs) != 1 or any(isinstance(m, Fill) for m in step.form.motions):
            return False
        ((to, source),) = self.positions(step)
        return len(to) == self.size(step.outputs[0]) and two_level(source) is not None

    def size(self, name: str) -> int:
        return prod(self.program.buffers[name].shape)

    def new_root(self, name: str, kind: Literal["input", "arena"]) -> None:
        size, item = self.size(name), self.program.buffers[name].format.dtype.itemsize
        self.roots[name] = Root(name, kind, size, item, self.made[name], self.last[name], [name])
        self.views[name] = View(name, 0, size, size)

    def join_root(self, name: str, view: View) -> None:
        root = self.roots[view.root]
        self.views[name] = view
        root.members.append(name)
        root.first, root.last = min(root.first, self.made[name]), max(root.last, self.last[name])

    def place(self, name: str) -> None:
        """Memory for a buffer: its place in a join that comes later, or a root of its own."""
        if name in self.views:
            return
        if name in self.part_of:
            result, *where = self.part_of[name]
            self.place(result)
            view = self.views[result].within(*where)
            if view is not None and self.regular(name, view):
                self.join_root(name, view)
                return
            del self.part_of[name]
        self.new_root(name, "arena")

    def regular(self, name: str, view: View) -> bool:
        """Whether loops over the axes of a buffer can step through the view, the innermost one from neighbor to neighbor."""
        if view.solid:
            return True
        shape = self.program.buffers[name].shape
        if name in self.multiplied and len(shape) > 2 and view.run != shape[1]:
            return False  # kernels step from pixel to pixel at one distance; a copy costs less than doing without them
        layout = self.layouts[name]
        strides = axis_strides(layout, view)
        if strides is None or layout.order is None:
            return False
        inner = layout.order[-1]
        return layout.shape[inner] == 1 or strides[inner] == 1

    def move(self, step: Step) -> None:
        (result,) = step.outputs
        if isinstance(step.form, Move) and isinstance(step.form.motions[0], Join) and step.name in self.placed:
            self.place(result)
            there = frozenset(i for i in self.placed[step.name] if step.inputs[i] in self.part_of)
            self.placed[step.name] = there
            if len(there) == len(step.inputs):
                self.elided.add(step.name)
            return
        if result not in self.part_of and self.moves_nothing(step):
            ((_, source),) = self.positions(step)
            where = two_level(source)
            view = None if where is None else self.views[step.inputs[0]].within(*where)
            if view is None and where is not None and where[:2] == (0, self.size(step.inputs[0])):
                view = self.views[step.inputs[0]]  # everything, gaps and all
            if view is not None and self.regular(result, view):
                self.join_root(result, view)
                self.elided.add(step.name)
                return
        self.place(result)

    def overwritten(self, at: int, step: Step) -> str | None:
        """An input of an element by element step whose memory its output can take."""
        if not self.in_place or not isinstance(step.form, Map | Table) or len(step.outputs) != 1:
            return None
        out = self.program.buffers[step.outputs[0]]
        for name in step.inputs:
            buffer, view = self.program.buffers[name], self.views[name]
            root = self.roots[view.root]
            if (
                root.kind == "arena"
                and step.inputs.count(name) == 1
                and buffer.shape == out.shape
                and buffer.format.dtype.itemsize == out.format.dtype.itemsize
                and self.layouts[name].same_as(self.layouts[out.name])
                and all(self.last[member] <= at for member in root.members)
            ):
                # Another input that lies in the same memory, but not at the same place, would be overwritten too early.
                others = [self.views[n] for n in step.inputs if n != name]
                if all(other.root != view.root or other == view for other in others):
                    return name
        return None


def axis_strides(layout: Layout, view: View) -> tuple[int, ...] | None:
    """Elements of the root from one index to the next along each axis, or None where runs cut through an axis."""
    if layout.order is None:
        return None
    found = []
    for size, step in zip(layout.shape, layout.strides, strict=True):
        if size == 1:
            found.append(0)
        elif view.solid or size * step <= view.run:
            found.append(step)
        elif step % view.run == 0:
            found.append(step // view.run * view.pitch)
        else:
            return None
    return tuple(found)


def copies(program: Program, layouts: Mapping[str, Layout], step: Step) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a move copies: for each input the storage positions written and read, in order of those written.

    Places that a :class:`Fill` fills appear in none of them.
    """
    found = moved_indices(program, step)
    result = layouts[step.outputs[0]]
    source_of = found[result.positions]  # by storage position of the result
    pairs, start = [], 0
    for name in step.inputs:
        size = prod(program.buffers[name].shape)
        to = np.flatnonzero((source_of >= start) & (source_of < start + size))
        place = np.empty(size, np.int64)
        place[layouts[name].positions] = np.arange(size)
        pairs.append((to.astype(np.int64), place[source_of[to] - start]))
        start += size
    return pairs


def fills(program: Program, step: Step) -> Sequence[Fill]:
    """The fills of a move."""
    assert isinstance(step.form, Move)
    return [m for m in step.form.motions if isinstance(m, Fill)]
