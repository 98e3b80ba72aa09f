"""Layers that are computed by the user's own library of kernels, where its integers are provably the program's.

What a layer means is the program's business.  A library is called only where its documented arithmetic, with the numbers
of this layer, is the same expression; everything else runs on the kernels of bitwright, and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from bitwright.errors import ExportError, printable
from bitwright.export.c.scene import Scene
from bitwright.program.program import Step

Kernels = Literal["own", "cmsis-nn", "cmsis-nn-q7"]
KERNELS: tuple[Kernels, ...] = ("own", "cmsis-nn", "cmsis-nn-q7")


@dataclass(frozen=True, kw_only=True, eq=False)
class LibraryCall:
    """A step that the library computes.

    Attributes:
        function: What is called, for reports.
        lines: C; ``{x0}``, ``{x1}``, ``{y}`` are typed pointers, ``{scratch}`` one to working memory, and the keys of
            ``tables`` are arrays.  Other braces are doubled.
        tables: Name in ``lines`` → (role, values) of a constant.
        scratch_bytes: Working memory.
        rounding: ``single`` or ``double``, where the library must have been built for it.
    """

    function: str
    lines: tuple[str, ...]
    tables: Mapping[str, tuple[str, NDArray[Any]]] = field(default_factory=dict)
    scratch_bytes: int = 0
    rounding: Literal["", "single", "double"] = ""


@dataclass(frozen=True)
class Question:
    """What a choice of kernel depends on.

    Attributes:
        scene: Where things are.
        step: The step.
        core: The core, or None.
        destroyable: Whether nobody needs the step's input afterwards.
    """

    scene: Scene
    step: Step
    core: str | None
    destroyable: bool


class NotCovered(Exception):
    """The library does not compute this; the message says why, for the report."""


def check_kernels(kernels: str) -> Kernels:
    """``kernels``, if there is such a choice.

    Raises:
        ExportError: naming those that there are.
    """
    for known in KERNELS:
        if kernels == known:
            return known
    raise ExportError(
        f"There are no kernels '{printable(kernels, 40)}'; choose {', '.join(KERNELS[:-1])} or {KERNELS[-1]}."
    )


def library_call(kernels: Kernels, question: Question) -> LibraryCall | str:
    """The call that computes a step, or why the library cannot."""
    # They need the classes of this file.
    from bitwright.export.c.cmsis_q7 import call as call_q7
    from bitwright.export.c.cmsis_s8 import call as call_s8

    families: Mapping[str, Callable[[Question], LibraryCall]] = {
        "cmsis-nn": call_s8,
        "cmsis-nn-q7": call_q7,
    }
    try:
        return families[kernels](question)
    except NotCovered as reason:
        return str(reason)


HEADERS: Mapping[str, tuple[str, ...]] = {
    "own": (),
    "cmsis-nn": (
        "/* CMSIS-NN is yours: put its Include folder on the compiler's path, and its sources into the build. */",
        "#include <arm_nnfunctions.h>",
        "#include <arm_nnsupportfunctions.h>",
    ),
    "cmsis-nn-q7": (
        "/* The q7 kernels are those of CMSIS 5.9.0 or older: put CMSIS/NN/Include on the compiler's path. */",
        "#include <arm_nnfunctions.h>",
    ),
}
ROUNDINGS: Mapping[str, tuple[str, ...]] = {
    "double": (
        "#ifdef CMSIS_NN_USE_SINGLE_ROUNDING",
        "#error This network rounds twice: compile without CMSIS_NN_USE_SINGLE_ROUNDING, or quantize for mcu-cmsis-nn-single.",
        "#endif",
    ),
    "single": (
        "#ifndef CMSIS_NN_USE_SINGLE_ROUNDING",
        "#error This network rounds once: compile with -DCMSIS_NN_USE_SINGLE_ROUNDING, or quantize for mcu-cmsis-nn.",
        "#endif",
    ),
}
