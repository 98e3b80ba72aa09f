"""Contractions on kernels for a certain core: what those kernels are told about a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitwright.export.c.contract import KERNEL_TYPES, RESULT_TYPES, folded_bias, geometry_of
from bitwright.export.c.requant import Requant, recognize
from bitwright.export.c.scene import Scene
from bitwright.mcu.arm import dsp, mve
from bitwright.mcu.arm.dsp import Fast
from bitwright.mcu.cpu import kernels as cpu
from bitwright.mcu.cpu.kernels import VectorFast
from bitwright.number.expr import Expr, Op
from bitwright.program.forms import Contract
from bitwright.program.program import Step


@dataclass(frozen=True)
class FastCall:
    """A contraction by a kernel for a core.

    Attributes:
        fast: The kernel and its constants.
        in_zero: Zero point of the input.
        geometry: The last fields of ``bw_conv_t``.
    """

    fast: Fast | VectorFast
    in_zero: int
    geometry: tuple[str, ...]

    def description(self, stream: str, name: str, comment: str) -> str:
        """The C constant that describes the layer; ``stream`` is the symbol of its constants."""
        f = self.fast
        numbers = [stream, "NULL", "NULL", "NULL", str(f.step), str(self.in_zero), str(f.offset), str(f.lo), str(f.hi)]
        record = [str(f.step)] if f.driver == "bw_dsp_depthwise" else []
        return (
            f"static const {f.description} {name} = {{ /* {comment} */\n    {{{', '.join([*numbers, *self.geometry])}}},\n"
            f"    {', '.join([*f.pointers, *record])}}};"
        )


def fast_contract(scene: Scene, step: Step, core: str | None) -> FastCall | None:
    """A kernel for ``core``, or None where the portable one must do."""
    form = step.form
    if core is None or not isinstance(form, Contract):
        return None
    tensors = scene.program.tensors
    geometry, weights = geometry_of(scene, step), np.asarray(tensors[form.weight])
    bias = None if form.bias is None else np.asarray(tensors[form.bias], np.int64)
    folded = folded_bias(scene, step, weights, bias)
    params = {k: np.asarray(tensors[t], np.int64) for k, t in form.epilogue.params.items()}
    requant = recognize(form.epilogue.expr, params, len(weights))
    if geometry is None or folded is None or requant is None:
        return None
    layout = scene.layouts[step.inputs[0]]
    if layout.order is None:
        weights = weights[:, layout.positions]  # the order in which the flattened pixels lie
    result = scene.buffer(step.outputs[0]).format.dtype
    lo, hi = bounds(form.epilogue.expr, requant, int(np.iinfo(result).min), int(np.iinfo(result).max))
    rows, columns = geometry.axes
    layer = dsp.Layer(
        weights=weights.reshape(*weights.shape[:2], *geometry.taps),
        bias=folded,
        groups=form.groups,
        source=KERNEL_TYPES[scene.buffer(step.inputs[0]).format.dtype.name],
        result=RESULT_TYPES[result.name],
        kind=requant.kind,
        multiplier=requant.multiplier,
        shift=requant.shift,
        zero=requant.zero,
        lo=lo,
        hi=hi,
        in_size=geometry.in_size,
        out_size=geometry.out_size,
        in_c=geometry.in_c,
        strides=(rows.stride, columns.stride),
        dilations=(rows.dilation, columns.dilation),
        before=(rows.before, columns.before),
    )
    fast = mve.choose(core, layer) or dsp.choose(core, layer) or cpu.choose(core, layer)
    return None if fast is None else FastCall(fast, form.input_zero, tuple(geometry.fields(form.groups)))


def bounds(expr: Expr, requant: Requant, least: int, most: int) -> tuple[int, int]:
    """The clamps; where a side has none because it can never bite, the end of the type, which cannot bite either."""
    below, above = least, most
    while expr.op in (Op.MIN, Op.MAX) and expr.args[1].op is Op.CONST:
        if expr.op is Op.MIN:
            above = min(above, expr.args[1].value)
        else:
            below = max(below, expr.args[1].value)
        expr = expr.args[0]
    assert below <= requant.lo <= requant.hi <= above
    return below, above
