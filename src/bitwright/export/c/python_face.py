"""``NAME.py``: the shared library of a network for Python on the machine that it was written for, without bitwright."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from bitwright.export.c.names import comment
from bitwright.mcu.runtime import fill_in

if TYPE_CHECKING:
    from bitwright.export.c.emitter import Emitter


@cache
def template() -> str:
    """The text with places to fill in."""
    return (resources.files("bitwright.export.c") / "face.py.txt").read_text("utf-8")


def python_face(e: Emitter) -> str:
    """``NAME.py`` of a network."""
    return fill_in(
        template(),
        {
            "NAME": _words(e.program.name),
            "TARGET": _words(e.program.target),
            "PREFIX": e.prefix,
            "ARENA": str(max(e.plan.arena_bytes, 1)),
            "INPUTS": _rows(e, e.program.inputs),
            "OUTPUTS": _rows(e, e.program.outputs),
        },
    )


def _words(text: str) -> str:
    """A foreign name inside a docstring."""
    return comment(text).replace("\\", "/").replace('"', "'")


def _rows(e: Emitter, names: tuple[str, ...]) -> str:
    rows = []
    for name in names:
        buffer, layout = e.program.buffers[name], e.layouts[name]
        order = layout.order or (0,)
        stored = tuple(buffer.shape[a] for a in order if a != 0) if layout.order is not None else (buffer.size,)
        kind, scale, zero = buffer.format.dtype.name, float(buffer.format.scale), int(buffer.format.zero_point)
        rows.append(f'    ("{kind}", {stored!r}, {tuple(buffer.shape[1:])!r}, {scale!r}, {zero}),\n')
    return "".join(rows)
