"""Maxima over windows, on a kernel that takes many channels at once."""

from __future__ import annotations

from dataclasses import dataclass

from bitwright.export.c.clamps import clamps_of, only_clamps
from bitwright.export.c.contract import UINT16, Geometry, pitch_of
from bitwright.export.c.scene import Scene
from bitwright.mcu.arm import dsp
from bitwright.mcu.cpu.cores import family_of
from bitwright.number.expr import Op
from bitwright.program.forms import Axis, Reduce
from bitwright.program.program import Step

SUFFIXES = {"int8": "s8", "uint8": "u8"}


@dataclass(frozen=True)
class FastPool:
    """A maximum by that kernel.

    Attributes:
        source: C suffix of the type.
        geometry: Of the windows.
        least: Lowest output, which a maximum with it clamps to.
    """

    source: str
    geometry: Geometry
    least: int

    @property
    def name(self) -> str:
        """Its C function."""
        return f"bw_max_{self.source}"

    def description(self, name: str, comment: str) -> str:
        """The C constant that describes the layer."""
        numbers = ["NULL", "NULL", "NULL", "NULL", "0", "0", "0", str(self.least), "0", *self.geometry.fields(1)]
        return f"static const bw_conv_t {name} = {{ /* {comment} */\n    {', '.join(numbers)}}};"


def fast_pool(scene: Scene, step: Step, core: str | None) -> FastPool | None:
    """The kernel for a maximum, or None where a loop nest must do."""
    form = step.form
    # Without instructions for many bytes at once a loop nest of constants is shorter.
    if core not in dsp.CORES and family_of(core) is None:
        return None
    if not isinstance(form, Reduce) or form.combine != "max":
        return None
    source, result = scene.buffer(step.inputs[0]), scene.buffer(step.outputs[0])
    kind = source.format.dtype.name
    expr = form.epilogue.expr
    acc = next((node for node in expr.walk() if node.op is Op.VAR and node.name == "acc"), None)
    if kind not in SUFFIXES or result.format.dtype != source.format.dtype or acc is None or form.axes[0] != Axis():
        return None
    least, most = (0, 255) if kind == "uint8" else (-128, 127)
    low, high = clamps_of(expr, least, most)
    if high < min(most, source.hi) or not only_clamps(expr, acc, low, high):
        return None
    if len(source.shape) not in (3, 4) or source.shape[0] != 1 or any(a.spread != 1 for a in form.axes):
        return None
    pitches = pitch_of(scene, step.inputs[0]), pitch_of(scene, step.outputs[0])
    if pitches[0] is None or pitches[1] is None:
        return None
    missing = 4 - len(source.shape)
    rows, columns = (*(Axis(),) * missing, *form.axes[1:])
    sizes = [(*(1,) * missing, *shape[2:]) for shape in (source.shape, result.shape)]
    numbers = [n for a in (rows, columns) for n in (a.taps, a.stride, a.dilation)] + [*sizes[0], *sizes[1]]
    if max(numbers) >= UINT16 or max(abs(a.before) for a in (rows, columns)) >= UINT16 // 2:
        return None
    geometry = Geometry(
        source.shape[1], pitches[0], result.shape[1], pitches[1],
        (sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1]), (rows, columns),
    )  # fmt: skip
    return FastPool(SUFFIXES[kind], geometry, low)
