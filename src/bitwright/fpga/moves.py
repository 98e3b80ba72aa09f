"""Moves of elements → jobs: nothing at all, copies by the vector unit, or convolutions with weights of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.epilogue import Finish
from bitwright.fpga.isa import Mode
from bitwright.fpga.jobs import POINT, ConvJob, Place, VecJob, Window, together
from bitwright.fpga.layout import HOLE
from bitwright.fpga.phases import Phase
from bitwright.fpga.places import NotOnProcessor, Places, image_shape
from bitwright.fpga.selection import Selection, selection
from bitwright.fpga.windows import spread_weights
from bitwright.program.forms import Contract, Join, Motion, Move, Reshape
from bitwright.program.program import Step

MOST_PIECES = 64
AS_IS = Finish(0, -128, 127)


def move(places: Places, step: Step, form: Move) -> None:
    """The jobs of a move.

    Raises:
        NotOnProcessor: if it needs the host.
    """
    if form.motions == (Join(1),):
        _join(places, step)
        return
    if len(step.inputs) != 1:
        raise NotOnProcessor("it joins tensors along another axis than channels, or moves them after joining")
    name, out = step.inputs[0], step.outputs[0]
    if name not in places.moved and all(isinstance(m, Reshape) for m in form.motions) and _reshape(places, step):
        return
    root, before = places.moved.get(name, (name, ()))
    motions = (*before, *form.motions)
    reason = _selected(places, step, root, motions)
    if reason:
        if not _absorbed(places, out, root, motions):
            raise NotOnProcessor(reason)
        places.moved[out] = root, motions


def _join(places: Places, step: Step) -> None:
    """Parts that were not written where they belong are copied there."""
    out = step.outputs[0]
    if out not in places.parts:
        raise NotOnProcessor("it joins tensors that are not bytes with channels, rows and columns")
    if out in places.program.outputs and any(name in places.host for name in step.inputs):
        raise NotOnProcessor("it joins what the host has computed, for the host")
    copies: list[VecJob] = []
    for at, name in enumerate(step.inputs):
        if places.joined.get(name, ("",))[0] != out:
            source, part = places.source(places.flat.get(name, name)), places.part(name, out, at)
            if source.layout.channels == part.layout.channels:
                copies.append(_copy(step, source, POINT, [part]))
            else:
                places.jobs.append(repacked(step, source, part))
    if copies:
        places.jobs.append(together(copies))


def _reshape(places: Places, step: Step) -> bool:
    """Flattening and its inverse move nothing."""
    program = places.program
    name, out = places.flat.get(step.inputs[0], step.inputs[0]), step.outputs[0]
    source, target = program.buffers[name], program.buffers[out]
    shape = image_shape(source)
    if shape is None or image_shape(target) is None or name in program.inputs or out in places.joined:
        return False
    if out in program.outputs and shape[1:] != (1, 1):
        return False
    if len(target.shape) == 2 and shape[1:] != (1, 1):
        readers = [s for s in program.steps if out in s.inputs]
        if not all(isinstance(s.form, Contract) for s in readers):
            return False
    elif image_shape(target) != shape:
        return False
    if name in places.host:
        places.host.add(out)
        places.source(name)
    places.found.setdefault(out, places.plain(name))
    places.flat[out] = name
    return True


def _absorbed(places: Places, name: str, root: str, motions: tuple[Motion, ...]) -> bool:
    """Whether a moved tensor need not exist, because all that read it move it on to something that is a selection."""
    program = places.program
    readers = [step for step in program.steps if name in step.inputs]
    if not readers or name in program.outputs or name in places.joined:
        return False
    for step in readers:
        if not isinstance(step.form, Move) or len(step.inputs) != 1 or isinstance(step.form.motions[0], Join):
            return False
        further = (*motions, *step.form.motions)
        chosen = _select(places, root, step.outputs[0], further)
        if isinstance(chosen, str) and not _absorbed(places, step.outputs[0], root, further):
            return False
    return True


def _select(places: Places, root: str, out: str, motions: tuple[Motion, ...]) -> Selection | str:
    """What a move selects, or why it is none."""
    shape, out_shape = (image_shape(places.program.buffers[name]) for name in (root, out))
    if shape is None or out_shape is None:
        return "it does not keep channels, rows and columns"
    chosen = selection(places.program, root, out, motions)
    if chosen is None or len(chosen.rows) * len(chosen.columns) > MOST_PIECES:
        return "it moves elements in a way that no window does"
    if chosen.filled and chosen.fill:
        # Only copies fill with a value, and they keep where in a word a channel is.
        if chosen.channels != tuple(range(shape[0])):
            return "it moves channels and fills with something other than 0"
        layout = places.plain(places.flat.get(root, root)).layout
        if places.like(out, layout).layout.channels != layout.channels:
            return (
                "it goes into a concatenation with other places for its channels, and fills with something other than 0"
            )
    return chosen


def _selected(places: Places, step: Step, root: str, motions: tuple[Motion, ...]) -> str:
    """A selection as copies, or as a convolution where channels change their places; why not, or empty."""
    chosen = _select(places, root, step.outputs[0], motions)
    if isinstance(chosen, str):
        return chosen
    source = places.source(places.flat.get(root, root))
    out = places.plain(step.outputs[0])  # where it must be as its source is, that has been seen to
    pieces = _pieces(out, chosen.rows, chosen.columns)
    if chosen.channels == tuple(range(len(chosen.channels))) and source.layout.channels == out.layout.channels:
        places.jobs.append(together([_copy(step, source, *piece, chosen.fill) for piece in pieces]))
        return ""
    weight = np.zeros((len(chosen.channels), places.shape(root)[0], 1, 1), np.int8)
    for at, channel in enumerate(chosen.channels):
        if channel != HOLE:
            weight[at, channel] = 1
    places.jobs.append(
        together([_picked(step, source, weight, window, place) for window, found in pieces for place in found])
    )
    return ""


def _picked(step: Step, source: Place, weight: NDArray[np.int8], window: Window, out: Place) -> ConvJob:
    """Channels picked by weights of 0 and 1."""
    return ConvJob(
        name=step.name,
        layer=step.layer,
        macs=0,
        steps=(step.name,),
        source=source,
        out=out,
        weights=spread_weights(source, weight),
        bias=np.zeros(len(weight), np.int64),
        window=window,
        finish=AS_IS,
    )


def repacked(step: Step, source: Place, out: Place) -> ConvJob:
    """The same tensor with its channels in the order of another place, holes and all."""
    count = len([c for c in source.layout.channels if c != HOLE])
    order = out.layout.channels
    weight = np.zeros((len(order), count, 1, 1), np.int8)
    for at, channel in enumerate(order):
        if channel != HOLE:
            weight[at, channel] = 1
    return _picked(step, source, weight, POINT, out)


def _pieces(out: Place, rows: Sequence[Phase], columns: Sequence[Phase]) -> list[tuple[Window, list[Place]]]:
    """Windows, and for each the places that get what it gives."""
    found: list[tuple[Window, list[Place]]] = []
    for row, column in product(rows, columns):
        window = Window(row.axis, column.axis)
        place = out.every((row.first, column.first), (row.step, column.step), (row.count, column.count))
        for seen, places in found:
            if seen == window and places[0].layout == place.layout:
                places.append(place)
                break
        else:
            found.append((window, [place]))
    return found


def _copy(step: Step, source: Place, window: Window, found: Sequence[Place], fill: int = 0) -> VecJob:
    return VecJob(
        name=step.name,
        layer=step.layer,
        macs=0,
        steps=(step.name,),
        sources=(source,),
        out=found[0],
        copies=tuple(found[1:]),
        mode=Mode.MAX,
        window=window,
        fill=fill,
        finish=AS_IS,
    )
