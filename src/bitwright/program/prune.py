"""Takes out of a program what it computes for nothing: channels that hold one value whatever the input.

Bit-exact.  A channel goes if it is proven constant and all its readers can do without it, or if nobody needs it:

- A contraction reads a constant as part of its bias.  A constant equal to the zero point adds nothing, whether taps
  fall into the padding or not; any other adds the same to every output only where no tap is ever missing.
- Elementwise steps, tables and windows within channels lose the channel on both sides.
- Grouped contractions lose whole groups, moves lose channels that stay in one piece.

What cannot go stays and is counted.  The shapes of the program's inputs and outputs never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.format import Format
from bitwright.program.builder import smallest_dtype
from bitwright.program.channels import Flags, carry, is_gone, without
from bitwright.program.check import check
from bitwright.program.constants import LayerConstants, count_constants, percent
from bitwright.program.forms import Axis, Contract, Epilogue, Form, Island, Map, Move, Reduce, Table
from bitwright.program.program import Buffer, Learnable, Program, Step
from bitwright.program.ranges import Interval, channels, prove

ACCUMULATOR_BIAS_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What :func:`prune` did.

    Attributes:
        layers: What was constant before, per contraction.
        removed: Layer → output channels taken out of its contractions.
        kept: Changed buffer → indices of its channels that stayed, in the unpruned program.
        macs: Multiply-accumulates before and after.
        learnable_bytes: Bytes of weights and biases before and after.
    """

    layers: tuple[LayerConstants, ...]
    removed: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]
    macs: tuple[int, int]
    learnable_bytes: tuple[int, int]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The result in words; empty if nothing was constant."""
        constant, gone = sum(layer.constant for layer in self.layers), sum(self.removed.values())
        if not constant and not gone:
            return ()
        total = sum(layer.channels for layer in self.layers)
        (macs, fewer), (size, smaller) = self.macs, self.learnable_bytes
        sentence = (
            f"{constant} of {total} channels are constant; {gone} channels were taken out without changing any "
            f"output, {percent(macs - fewer, macs)} of the MACs and {percent(size - smaller, size)} of the bytes of "
            "weights and biases"
        )
        return (sentence,)


def prune(program: Program) -> tuple[Program, Pruned]:
    """Take out all channels that are constant or unused, where that changes no output.

    Args:
        program: A valid program.

    Returns:
        The program, with outputs equal to those of the given one for every input, and what was done.
    """
    rows = count_constants(program)
    everything = {name: np.arange(channels(buffer)) for name, buffer in program.buffers.items()}
    pruned, kept, removed = program, dict(everything), dict.fromkeys((step.layer for step, _ in program.contracts()), 0)
    while True:  # again, because a grouped contraction of which one group is left is an ordinary one
        bounds = prove(pruned)
        gone = _Removal(pruned, bounds).solve()
        if not any(flags.any() for flags in gone.values()):
            break
        for step, _ in pruned.contracts():
            removed[step.layer] += int(gone[step.outputs[0]].sum())
        pruned = _Rewrite(pruned, bounds, gone).program()
        kept = {name: kept[name][~flags] for name, flags in gone.items()}
        check(pruned)
    report = Pruned(
        layers=rows,
        removed=removed,
        kept={name: tuple(map(int, at)) for name, at in kept.items() if len(at) < len(everything[name])},
        macs=(sum(program.macs.values()), sum(pruned.macs.values())),
        learnable_bytes=(program.learnable_bytes, pruned.learnable_bytes),
    )
    return replace(pruned, notes=(*program.notes, *report.sentences)), report


def may_miss(axes: Iterable[Axis]) -> bool:
    """Whether a tap of some window may fall outside the input."""
    return any(axis.before > 0 or axis.after > 0 or axis.spread > 1 for axis in axes)


class _Removal:
    """Finds the most channels that can go: starts with all of them and gives back what somebody needs."""

    def __init__(self, program: Program, bounds: Mapping[str, Interval]) -> None:
        self.program, self.bounds = program, bounds
        self.gone: dict[str, Flags] = {
            name: np.ones(channels(buffer), bool) for name, buffer in program.buffers.items()
        }
        self.uses = {
            step.name: (program.tensors[form.weight].reshape(*program.tensors[form.weight].shape[:2], -1) != 0).any(2)
            for step, form in program.contracts()
        }

    def solve(self) -> dict[str, Flags]:
        for name in (*self.program.inputs, *self.program.outputs):
            self.gone[name][:] = False
        for name, buffer in self.program.buffers.items():
            if len(buffer.shape) < 2 or buffer.format.axis is not None:
                self.gone[name][:] = False
        while True:
            self._settle()
            empty = [name for name, flags in self.gone.items() if flags.all()]
            if not empty:
                return self.gone
            # A tensor without channels is no tensor.  Only now: what is empty on the way need not be in the end.
            np.put(self.gone[empty[0]], 0, False)

    def _settle(self) -> None:
        """Apply all rules until nothing is given back any more."""
        count, before = self._count(), -1
        while count != before:
            for step in reversed(self.program.steps):
                self.RULES[type(step.form)](self, step, step.form)
            count, before = self._count(), count

    def _count(self) -> int:
        return sum(int(flags.sum()) for flags in self.gone.values())

    def _keep(self, names: Iterable[str]) -> None:
        for name in names:
            self.gone[name][:] = False

    def _together(self, names: Iterable[str]) -> None:
        """A channel of one of these buffers goes only with the same channel of the others."""
        names = tuple(names)
        common = np.logical_and.reduce([self.gone[name] for name in names])
        for name in names:
            self.gone[name] &= common

    def _contract(self, step: Step, form: Contract) -> None:
        source, result = step.inputs[0], step.outputs[0]
        if form.groups > 1:
            sides = [self.gone[name].reshape(form.groups, -1) for name in (source, result)]
            groups = np.asarray(np.concatenate(sides, axis=1).all(axis=1))
            for name in (source, result):
                self.gone[name] &= np.repeat(groups, len(self.gone[name]) // form.groups)
            return
        needed = self.uses[step.name][~self.gone[result]].any(0)
        self.gone[source] &= ~needed | self._foldable(form, source)

    def _foldable(self, form: Contract, source: str) -> Flags:
        """Channels whose value the contraction can take as part of its bias."""
        bounds = self.bounds[source]
        at_zero = bounds.constant & (bounds.lo == form.input_zero)
        anything = not may_miss(form.axes) and self._takes_any_bias(form)
        return np.asarray(bounds.constant if anything else at_zero)

    def _takes_any_bias(self, form: Contract) -> bool:
        """Whether the device holds this bias in accumulator steps, so that any integer may be added to it."""
        biases = [item for item in self.program.learnables if item.parameter == "Bias"]
        own = [item for item in biases if item.tensor == form.bias]
        return all(item.format.bits >= ACCUMULATOR_BIAS_BITS for item in own or biases)

    def _map(self, step: Step, _: Map) -> None:
        result = step.outputs[0]
        count = len(self.gone[result])
        wide = [name for name in step.inputs if len(self.gone[name]) == count]
        self._keep(name for name in step.inputs if name not in wide)
        self._together((*wide, result))

    def _table(self, step: Step, _: Table) -> None:
        self._together((*step.inputs, *step.outputs))

    def _reduce(self, step: Step, form: Reduce) -> None:
        if form.axes and form.axes[0] == Axis():
            self._together((*step.inputs, *step.outputs))
        else:
            self._keep((*step.inputs, *step.outputs))

    def _move(self, step: Step, form: Move) -> None:
        result = step.outputs[0]
        tensors = carry([self.program.buffers[name].shape for name in step.inputs], form.motions)
        if tensors is None or (tensors and tensors[-1].axis != 1) or len(set(step.inputs)) < len(step.inputs):
            self._keep((*step.inputs, result))
            return
        if not tensors:
            self._together((*step.inputs, result))
            return
        flags = np.concatenate([self.gone[name] for name in step.inputs])
        # A place along the channels holds only channels that go, or only channels that stay: at every motion.
        stable = False
        while not stable:
            before = int(flags.sum()) + int(self.gone[result].sum())
            self.gone[result] &= is_gone(tensors[-1].labels, flags)
            stays = tensors[-1].labels[~self.gone[result]]
            flags[stays[stays >= 0]] = False
            for tensor in tensors:
                mixed = tensor.labels[~is_gone(tensor.labels, flags)]
                flags[mixed[mixed >= 0]] = False
            stable = before == int(flags.sum()) + int(self.gone[result].sum())
        start = 0
        for name in step.inputs:
            count = len(self.gone[name])
            self.gone[name] &= flags[start : start + count]
            start += count

    def _island(self, step: Step, _: Island) -> None:
        self._keep((*step.inputs, *step.outputs))

    RULES: Mapping[type[Form], Callable[[_Removal, Step, Any], None]] = {
        Contract: _contract,
        Reduce: _reduce,
        Map: _map,
        Table: _table,
        Move: _move,
        Island: _island,
    }


class _Rewrite:
    """Writes the program without the channels that are gone."""

    def __init__(self, program: Program, bounds: Mapping[str, Interval], gone: Mapping[str, Flags]) -> None:
        self.source, self.bounds = program, bounds
        self.kept = {name: ~flags for name, flags in gone.items()}
        self.tensors: dict[str, NDArray[np.integer[Any]]] = dict(program.tensors)
        self.learnables = list(program.learnables)
        self.macs: dict[str, int] = dict(program.macs)

    def program(self) -> Program:
        steps = tuple(replace(step, form=self._form(step)) for step in self.source.steps)
        self._count_macs(steps)
        used = {name for step in steps for name in constants_of(step.form)}
        return replace(
            self.source,
            steps=steps,
            buffers={name: self._buffer(buffer) for name, buffer in self.source.buffers.items()},
            tensors={name: t for name, t in self.tensors.items() if name in used},
            learnables=tuple(item for item in self.learnables if item.tensor in used),
            macs=self.macs,
        )

    def _buffer(self, buffer: Buffer) -> Buffer:
        kept = self.kept[buffer.name]
        if kept.all():
            return buffer
        # It no longer holds what the network's tensor holds.
        return replace(buffer, shape=(buffer.shape[0], int(kept.sum()), *buffer.shape[2:]), tensor=None)

    def _form(self, step: Step) -> Form:
        form, kept = step.form, self.kept[step.outputs[0]]
        match form:
            case Contract():
                return self._contract(step, form)
            case Reduce() if not kept.all():
                return replace(form, epilogue=self._epilogue(form.epilogue, kept))
            case Map() if not kept.all():
                rank = len(self.source.buffers[step.outputs[0]].shape)
                return replace(form, params={k: self._along(t, kept, rank) for k, t in form.params.items()})
            case Move() if any(not self.kept[name].all() for name in step.inputs):
                shapes = [self.source.buffers[name].shape for name in step.inputs]
                flags = np.concatenate([~self.kept[name] for name in step.inputs])
                return Move(without(form.motions, shapes, flags))
        return form

    def _along(self, tensor: str, kept: Flags, rank: int) -> str:
        """Constants that broadcast against a tensor of ``rank`` axes, without the channels that are gone."""
        values = self.source.tensors[tensor]
        axis = values.ndim - (rank - 1)
        if 0 <= axis < values.ndim and values.shape[axis] == len(kept):
            return self._add(tensor, np.compress(kept, values, axis=axis))
        return tensor

    def _epilogue(self, epilogue: Epilogue, kept: Flags) -> Epilogue:
        return replace(epilogue, params={k: self._along(t, kept, 2) for k, t in epilogue.params.items()})

    def _add(self, stem: str, values: NDArray[np.integer[Any]]) -> str:
        name, number = f"{stem}.kept", 1
        while name in self.tensors:
            number += 1
            name = f"{stem}.kept{number}"
        self.tensors[name] = np.ascontiguousarray(values)
        return name

    def _contract(self, step: Step, form: Contract) -> Contract:
        inputs, outputs = self.kept[step.inputs[0]], self.kept[step.outputs[0]]
        if inputs.all() and outputs.all():
            return form
        old = self.source.tensors[form.weight]
        bias = None if form.bias is None else self.source.tensors[form.bias].astype(np.int64)[outputs]
        if form.groups > 1:
            groups = int(outputs.reshape(form.groups, -1).all(1).sum())
            weight = old[outputs]
        else:
            groups, weight = 1, old[outputs][:, inputs]
            extra = self._constant_part(step, form)[outputs]
            if extra.any():
                bias = extra + (0 if bias is None else bias)
        weight_name = self._add(form.weight, weight)
        self._learnable(form.weight, weight_name, weight.shape, outputs)
        bias_name = None
        if bias is not None:
            stem = form.bias or f"{step.layer}.bias"
            bias_name = self._add(stem, bias.astype(smallest_dtype(bias)))
            self._learnable(stem, bias_name, bias.shape, outputs)
            if form.bias is None:
                self._new_bias(step, weight_name, bias_name, bias.shape)
        epilogue = self._epilogue(form.epilogue, outputs)
        return replace(form, weight=weight_name, bias=bias_name, groups=groups, epilogue=epilogue)

    def _constant_part(self, step: Step, form: Contract) -> NDArray[np.int64]:
        """What the inputs that are gone have added to each accumulator."""
        bounds, gone = self.bounds[step.inputs[0]], ~self.kept[step.inputs[0]]
        weight = self.source.tensors[form.weight].astype(np.int64)
        sums = weight.reshape(*weight.shape[:2], -1).sum(2)[:, gone & bounds.constant]
        return np.asarray(sums @ (bounds.lo - form.input_zero)[gone & bounds.constant], np.int64)

    def _learnable(self, old: str, new: str, shape: tuple[int, ...], outputs: Flags) -> None:
        for i, item in enumerate(self.learnables):
            if item.tensor == old:
                self.learnables[i] = replace(item, tensor=new, shape=shape, format=_sliced(item.format, outputs))

    def _new_bias(self, step: Step, weight: str, bias: str, shape: tuple[int, ...]) -> None:
        """A layer without a bias has one now; it is stored in accumulator steps."""
        of_weight = next((item.format for item in self.learnables if item.tensor == weight), None)
        if of_weight is None:
            return
        step_size = self.source.buffers[step.inputs[0]].format.scale * of_weight.scale
        stored = Format(ACCUMULATOR_BIAS_BITS, True, step_size, axis=0 if step_size.ndim else None)
        self.learnables.append(Learnable(layer=step.layer, parameter="Bias", tensor=bias, format=stored, shape=shape))

    def _count_macs(self, steps: tuple[Step, ...]) -> None:
        """Every contraction's share of its layer's count shrinks with its weights; windows stay as they are."""
        sizes: dict[str, tuple[int, int]] = {}
        for old, new in zip(self.source.steps, steps, strict=True):
            if isinstance(old.form, Contract) and isinstance(new.form, Contract):
                places = int(np.prod(self.source.buffers[old.outputs[0]].shape[2:], dtype=np.int64))
                before, after = sizes.get(old.layer, (0, 0))
                sizes[old.layer] = (
                    before + places * self.source.tensors[old.form.weight].size,
                    after + places * self.tensors[new.form.weight].size,
                )
        for layer, (before, after) in sizes.items():
            if layer in self.macs:
                self.macs[layer] = self.macs[layer] * after // before


def _sliced(chosen: Format, kept: Flags) -> Format:
    if chosen.axis != 0:
        return chosen
    return replace(chosen, scale=chosen.scale[kept], zero_point=chosen.zero_point[kept])


def constants_of(form: Form) -> tuple[str, ...]:
    """Names of the constants that a form uses."""
    match form:
        case Contract():
            bias = () if form.bias is None else (form.bias,)
            return (form.weight, *bias, *form.epilogue.params.values())
        case Reduce():
            return tuple(form.epilogue.params.values())
        case Map():
            return tuple(form.params.values())
        case Table():
            return (form.table,)
        case Island():
            return (form.model,)
        case Move():
            return ()
