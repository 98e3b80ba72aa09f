"""Which way round the elements of each buffer lie in the memory of a C program.

Programs keep the layout of the source network, ``[1, c, h, w]``; kernels want channels last.  So every buffer gets a
*storage order*: a permutation of its axes, or, for the flattened input of a dense layer, any order at all (the dense
weights are then permuted instead).  Orders are chosen so that as many moves as possible have nothing to do.

All of it is bookkeeping on index arrays, computed with the same function that the reference runs, so a layout can cost
time but never change a number.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from bitwright.program.forms import Contract, Fill, Join, Map, Move, Reduce, Reshape, Table, Transpose
from bitwright.program.program import Program, Step
from bitwright.simulate.reference import apply_motion

Indices = NDArray[np.int64]
MOST_ORDERS_RANK = 6  # above this rank only two orders are tried


@dataclass(frozen=True, eq=False)
class Layout:
    """The storage order of a buffer.

    Attributes:
        shape: Shape of the buffer, batch included.
        order: Axes from the outermost to the innermost, or None if ``scrambled``.
        scrambled: Storage position → flat index in the buffer's own order, where no order of axes says it.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...] | None
    scrambled: Indices | None = None

    @cached_property
    def positions(self) -> Indices:
        """Storage position → flat index in the buffer's own (row-major) order."""
        if self.scrambled is not None:
            return self.scrambled
        assert self.order is not None
        return np.ascontiguousarray(
            np.arange(prod(self.shape), dtype=np.int64).reshape(self.shape).transpose(self.order)
        ).ravel()

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one index to the next along each axis, in storage without gaps.

        Raises:
            ValueError: if the layout is scrambled.
        """
        if self.order is None:
            raise ValueError("a scrambled layout has no strides")
        strides, step = [0] * len(self.shape), 1
        for axis in reversed(self.order):
            strides[axis] = step
            step *= self.shape[axis]
        return tuple(strides)

    def same_as(self, other: Layout) -> bool:
        """Whether both store buffers of one shape in one order."""
        return self.shape == other.shape and (
            self.order == other.order if self.order is not None and other.order is not None
            else np.array_equal(self.positions, other.positions)
        )  # fmt: skip

    def stored(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """``values`` of the buffer's shape as a flat array in storage order."""
        return np.ravel(values)[self.positions]

    def restored(self, flat: NDArray[np.generic]) -> NDArray[np.generic]:
        """The inverse of :meth:`stored`."""
        out = np.empty_like(flat)
        out[self.positions] = flat
        return out.reshape(self.shape)


def plain_order(rank: int) -> tuple[int, ...]:
    """Row-major, as in the source network."""
    return tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """Axis 1 innermost."""
    return (0, *range(2, rank), 1) if rank > 1 else plain_order(rank)


def moved_indices(program: Program, step: Step) -> Indices:
    """For every element of a move's result (row-major), which element it is: source and place in one number.

    Elements of source ``i`` are counted on from the end of source ``i - 1``; -1 is an element that a
    :class:`Fill` put there.
    """
    assert isinstance(step.form, Move)
    sources, start = [], 0
    for name in step.inputs:
        shape = program.buffers[name].shape
        sources.append(np.arange(start, start + prod(shape), dtype=np.int64).reshape(shape))
        start += prod(shape)
    for motion in step.form.motions:
        marked = Fill(motion.before, motion.after, -1) if isinstance(motion, Fill) else motion
        sources = [np.asarray(apply_motion(sources, marked), np.int64)]
    return np.ascontiguousarray(sources[0]).ravel()


def choose_layouts(program: Program) -> dict[str, Layout]:
    """A storage order for every buffer.

    Contractions over windows read and write channels last; other buffers follow their neighbors, so that element by
    element work needs no strides and moves become nothing; what has no neighbor to follow stays as it is.
    """
    return _Chooser(program).run()


class _Chooser:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.chosen: dict[str, Layout] = {}
        self.touching: dict[str, list[Step]] = {name: [] for name in program.buffers}
        for step in program.steps:
            for name in dict.fromkeys((*step.inputs, *step.outputs)):
                self.touching[name].append(step)
        self.waiting: deque[str] = deque()

    def run(self) -> dict[str, Layout]:
        for step, form in self.program.contracts():
            if form.axes:
                for name in (step.inputs[0], step.outputs[0]):
                    self.choose(name, channels_last(len(self.program.buffers[name].shape)))
        self.spread()
        for name, buffer in self.program.buffers.items():
            if name not in self.chosen:
                self.choose(name, plain_order(len(buffer.shape)))
                self.spread()
        return self.chosen

    def choose(self, name: str, order: tuple[int, ...]) -> None:
        if name not in self.chosen:
            self.chosen[name] = Layout(self.program.buffers[name].shape, order)
            self.waiting.append(name)

    def spread(self) -> None:
        while self.waiting:
            name = self.waiting.popleft()
            for step in self.touching[name]:
                self.follow(step, name)

    def follow(self, step: Step, name: str) -> None:
        layout = self.chosen[name]
        match step.form:
            case Map() | Table() | Reduce():
                self.follow_elements(step, layout)
            case Move(motions) if all(isinstance(m, Reshape | Transpose) for m in motions):
                self.follow_bijection(step, name)
            case Move(motions) if not any(isinstance(m, Reshape | Transpose) for m in motions):
                self.follow_elements(step, layout)
            case _:
                pass

    def follow_elements(self, step: Step, layout: Layout) -> None:
        for other in (*step.inputs, *step.outputs):
            shape = self.program.buffers[other].shape
            if layout.order is not None and len(shape) == len(layout.order):
                self.choose(other, layout.order)
            elif layout.scrambled is not None and other not in self.chosen and shape == layout.shape:
                self.chosen[other] = Layout(shape, None, layout.scrambled)
                self.waiting.append(other)

    def follow_bijection(self, step: Step, name: str) -> None:
        """Give the other side of a reshape or transposition the order in which nothing moves."""
        source, result = step.inputs[0], step.outputs[0]
        source_of = moved_indices(self.program, step)
        known = self.chosen[name].positions
        if name == source and result not in self.chosen:
            result_of = np.empty_like(source_of)
            result_of[source_of] = np.arange(source_of.size)
            wanted, other = result_of[known], result
        elif name == result and source not in self.chosen:
            wanted, other = source_of[known], source
        else:
            return
        shape = self.program.buffers[other].shape
        for order in orders(shape):
            if np.array_equal(Layout(shape, order).positions, wanted):
                self.choose(other, order)
                return
        if self.takes_any_order(other):
            self.chosen[other] = Layout(shape, None, wanted)
            self.waiting.append(other)

    def takes_any_order(self, name: str) -> bool:
        """Whether everything that touches a flat buffer works in any order of its elements."""
        if name in self.program.outputs or name in self.program.inputs or len(self.program.buffers[name].shape) != 2:
            return False
        for step in self.touching[name]:
            form = step.form
            if name in step.outputs:
                if isinstance(form, Move) and all(isinstance(m, Reshape | Transpose) for m in form.motions):
                    continue
                if not _pointwise(self.program, step):
                    return False
            elif isinstance(form, Contract) and not form.axes and form.groups == 1:
                continue
            elif not _pointwise(self.program, step) or not self.takes_any_order(step.outputs[0]):
                return False
        return True


def _pointwise(program: Program, step: Step) -> bool:
    """Whether each output element comes from the one input's element at the same place and constants for all."""
    if len(step.inputs) != 1 or program.buffers[step.inputs[0]].shape != program.buffers[step.outputs[0]].shape:
        return False
    if isinstance(step.form, Table):
        return True
    return isinstance(step.form, Map) and all(program.tensors[t].size == 1 for t in step.form.params.values())


def orders(shape: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """Storage orders worth trying: the two usual ones first, then all others of small ranks."""
    rank = len(shape)
    yield plain_order(rank)
    yield channels_last(rank)
    if rank <= MOST_ORDERS_RANK:
        for rest in itertools.permutations(range(1, rank)):
            yield (0, *rest)


def joined_axis(step: Step) -> int | None:
    """The axis along which a step puts its inputs one after the other, if that is all it does."""
    form = step.form
    if isinstance(form, Move) and len(form.motions) == 1 and isinstance(form.motions[0], Join):
        return form.motions[0].axis
    return None
