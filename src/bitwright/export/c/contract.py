"""Contractions: which kernel, its packed constants and its description; or a loop nest of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.requant import Requant, recognize
from bitwright.export.c.scene import Function, Scene
from bitwright.export.c.windows import contract_function, epilogue_function
from bitwright.mcu.runtime import PACKINGS, Instance
from bitwright.program.forms import Axis, Contract
from bitwright.program.program import Step

INT32 = 1 << 31
UINT16 = 1 << 16
KERNEL_TYPES = {"int8": "s8", "uint8": "u8", "int16": "s16"}
RESULT_TYPES = {**KERNEL_TYPES, "int32": "s32"}


@dataclass(frozen=True)
class KernelCall:
    """A contraction by a shared kernel.

    Attributes:
        instance: The kernel.
        fields: Initializers of its ``bw_conv_t``.
        epilogue: Text of a function of the network's own that it calls, or empty.
        requant: The requantizer, where it is a known one.
    """

    instance: Instance
    fields: tuple[str, ...]
    epilogue: str
    requant: Requant | None


def contract(scene: Scene, step: Step, function_name: Callable[[], str]) -> KernelCall | Function:
    """How a contraction is computed.

    Args:
        scene: The scene.
        step: The step.
        function_name: Gives the name of an epilogue's function, where one is needed.
    """
    form = step.form
    assert isinstance(form, Contract)
    geometry = geometry_of(scene, step)
    weights = np.asarray(scene.program.tensors[form.weight])
    bias = None if form.bias is None else np.asarray(scene.program.tensors[form.bias], np.int64)
    folded = folded_bias(scene, step, weights, bias)
    if geometry is None or folded is None:
        return contract_function(scene, step, wide=_is_wide(scene, step, weights, bias))
    types = (scene.buffer(step.inputs[0]).format.dtype.name, weights.dtype.name)
    params = {k: np.asarray(scene.program.tensors[t], np.int64) for k, t in form.epilogue.params.items()}
    requant = recognize(form.epilogue.expr, params, len(weights))
    kernel = _kernel(geometry, form, weights)
    result = RESULT_TYPES[scene.buffer(step.outputs[0]).format.dtype.name]
    own = "" if requant is not None else function_name()
    instance = Instance(
        kernel=kernel,
        source=KERNEL_TYPES[types[0]],
        weight=KERNEL_TYPES[types[1]],
        result=result,
        scale=own if requant is None else requant.kind,
        own=requant is None,
    )
    layout = scene.layouts[step.inputs[0]]
    if layout.order is None:
        weights = weights[:, layout.positions]  # the order in which the flattened pixels lie
    square = weights.reshape(*weights.shape[:2], *geometry.taps)
    packed = scene.constants.add(step.layer, "weights", "weights", PACKINGS[kernel](square))
    fields = [packed, _bias(scene, step, folded), *_requantization(scene, step, requant)]
    fields += [str(form.input_zero), *_clamps(requant), *geometry.fields(form.groups)]
    epilogue = "" if requant is not None else epilogue_function(scene, step, own)
    return KernelCall(instance, tuple(fields), epilogue, requant)


def _bias(scene: Scene, step: Step, folded: NDArray[np.int64]) -> str:
    if not folded.any():
        return "NULL"
    return scene.constants.add(step.layer, "bias", "bias", folded.astype(np.int32))


def _requantization(scene: Scene, step: Step, requant: Requant | None) -> list[str]:
    """Fields ``multiplier``, ``shift``, ``mask``."""
    if requant is None:
        return ["NULL", "NULL", "0"]
    count = max(requant.multiplier.size, requant.shift.size)
    fields = []
    for values, dtype, stem in ((requant.multiplier, np.int32, "multiplier"), (requant.shift, np.int8, "shift")):
        if values.size == 0:
            fields.append("NULL")
            continue
        spread: NDArray[Any] = np.broadcast_to(values, (count,)).astype(dtype)
        fields.append(scene.constants.add(step.layer, "requantization", stem, spread))
    return [*fields, "-1" if requant.per_channel else "0"]


def _clamps(requant: Requant | None) -> list[str]:
    """Fields ``out_zero``, ``lo``, ``hi``."""
    return ["0", "0", "0"] if requant is None else [str(requant.zero), _number(requant.lo), _number(requant.hi)]


def _number(value: int) -> str:
    return "INT32_MIN" if value == -INT32 else str(value)


def folded_bias(
    scene: Scene, step: Step, weights: NDArray[Any], bias: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """The bias with the input's zero point folded in, if sums with it fit 32 bits in any order."""
    form = step.form
    assert isinstance(form, Contract)
    flat = weights.astype(np.int64).reshape(len(weights), -1)
    folded = np.zeros(len(weights), np.int64) if bias is None else bias
    folded = folded - form.input_zero * flat.sum(1)
    buffer = scene.buffer(step.inputs[0])
    largest = max(abs(buffer.format.lo), abs(buffer.format.hi), abs(form.input_zero))
    reach = np.abs(folded) + np.abs(flat).sum(1) * largest
    return folded if int(reach.max(initial=0)) < INT32 else None


def _is_wide(scene: Scene, step: Step, weights: NDArray[Any], bias: NDArray[np.int64] | None) -> bool:
    """Whether sums of ``(x - zero) * w`` need more than 32 bits."""
    form = step.form
    assert isinstance(form, Contract)
    buffer = scene.buffer(step.inputs[0])
    largest = max(abs(buffer.format.lo - form.input_zero), abs(buffer.format.hi - form.input_zero))
    reach = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(1) * largest
    reach = reach + (0 if bias is None else np.abs(bias))
    return int(reach.max(initial=0)) >= INT32


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a contraction lie, and how its window moves over them."""

    in_c: int
    in_pitch: int
    out_c: int
    out_pitch: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    axes: tuple[Axis, Axis]

    @property
    def taps(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.axes[0].taps, self.axes[1].taps

    def fields(self, groups: int) -> list[str]:
        """The last fields of ``bw_conv_t``."""
        rows, columns = self.axes
        numbers = [self.in_c, self.in_pitch, self.out_c, self.out_pitch, *self.in_size, *self.out_size, *self.taps]
        numbers += [rows.stride, columns.stride, rows.dilation, columns.dilation, rows.before, columns.before, groups]
        return [str(n) for n in numbers]


def geometry_of(scene: Scene, step: Step) -> Geometry | None:
    """Rows, columns, channels and pitches, or None where the kernels' description has no room for it."""
    form = step.form
    assert isinstance(form, Contract)
    source, result = scene.buffer(step.inputs[0]), scene.buffer(step.outputs[0])
    weights = scene.program.tensors[form.weight]
    if (
        len(form.axes) > 2
        or source.shape[0] != 1
        or result.format.dtype.name not in RESULT_TYPES
        or source.format.dtype.name not in KERNEL_TYPES
        or weights.dtype.name != "int8"
        or any(a.spread != 1 for a in form.axes)
        or min(form.epilogue.expr.lo, form.acc_lo) < -INT32
        or max(form.epilogue.expr.hi, form.acc_hi) >= INT32
    ):
        return None
    missing = 2 - len(form.axes)
    first, second = (*(Axis(),) * missing, *form.axes)
    in_size = (*(1,) * missing, *source.shape[2:])
    out_size = (*(1,) * missing, *result.shape[2:])
    in_pitch, out_pitch = pitch_of(scene, step.inputs[0]), pitch_of(scene, step.outputs[0])
    if in_pitch is None or out_pitch is None:
        return None
    found = Geometry(
        source.shape[1], in_pitch, result.shape[1], out_pitch,
        (in_size[0], in_size[1]), (out_size[0], out_size[1]), (first, second),
    )  # fmt: skip
    small = [*in_size, *out_size, *(n for a in (first, second) for n in (a.taps, a.stride, a.dilation)), form.groups]
    fits = max(small) < UINT16 and all(-(UINT16 // 2) <= a.before < UINT16 // 2 for a in (first, second))
    return found if fits and prod(in_size) * in_pitch < INT32 and prod(out_size) * out_pitch < INT32 else None


def pitch_of(scene: Scene, name: str) -> int | None:
    """Elements from one pixel to the next, or None where pixels do not lie channels last at one distance."""
    shape, layout, view = scene.buffer(name).shape, scene.layouts[name], scene.views[name]
    channels, pixels = shape[1], prod(shape[2:])
    if layout.order is None or len(shape) == 2:
        return channels if view.solid or (pixels == 1 and view.run == channels) else None
    wide = [axis for axis in layout.order if shape[axis] > 1]
    if wide != [axis for axis in (*range(2, len(shape)), 1) if shape[axis] > 1]:
        return None
    if view.solid:
        return channels
    return view.pitch if view.run == channels else None


def _kernel(geometry: Geometry, form: Contract, weights: NDArray[Any]) -> str:
    rows, columns = geometry.axes
    if form.groups == geometry.in_c == geometry.out_c and weights.shape[1] == 1 and form.groups > 1:
        return "depthwise"
    plain = all(a.taps == 1 and a.stride == 1 and a.before == 0 for a in (rows, columns))
    if plain and form.groups == 1 and geometry.in_size == geometry.out_size:
        return "pointwise"
    return "conv"
