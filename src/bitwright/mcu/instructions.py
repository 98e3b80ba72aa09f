"""How many instructions each step takes on a core, without running it: linear in a few sizes of the step.

What one unit of each size costs was fitted to counts of emulated boards (``scripts/fit_instructions.py``) and lies in
``instructions.toml``: core → kernel → size → instructions.  Kernels count what they do in loops, so a sum of loop sizes
describes them well; compiled loop nests less so.  The same program gives the same figure on every machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path

from bitwright.errors import UnknownTarget, printable
from bitwright.number.expr import Expr, Op
from bitwright.program.forms import Axis, Contract, Map, Reduce
from bitwright.program.program import Program, Step

FILE = Path(__file__).parent / "instructions.toml"
# Cores that were not measured count like the one that they are built like.
LIKE = {
    "cortex-m0plus": "cortex-m0",
    "cortex-m7": "cortex-m4",
    "cortex-m33": "cortex-m4",
    "cortex-m35p": "cortex-m4",
    "cortex-m52": "cortex-m55",
    "cortex-m85": "cortex-m55",
    "rv32imac": "rv32imc",
    "rv32imafc": "rv32imc",
}
NOTHING = "nothing to do"
INT32 = 1 << 31
SIZES: Mapping[str, str] = {
    "call": "1",
    "outputs": "elements written",
    "pixels": "places of one channel",
    "inputs": "elements read",
    "macs": "products, padding included",
    "inside": "products without it",
    "rows": "rows of windows inside the input, for every channel",
    "windows": "the same for all channels at once",
    "window": "elements of all windows",
    "quads": "groups of four channels, for every pixel",
    "steps": "groups of 16 products of them",
    "tiles": "four pixels by two channels",
    "rests": "pixels that are left, by two channels",
    "units": "instructions of the innermost loop of tiles",
    "patch": "groups of four elements of all windows",
    "columns": "outputs of strips of two rows",
    "ring": "columns of these strips that are read, by four channels",
    "strips": "these strips, by four channels",
    "nodes": "operations in 32 bits, for every output",
    "wide": "operations in 64 bits",
    "divisions": "divisions among them",
}
# Instructions of the innermost loop of a tile for four products of so many pixels (arm/assembly.py).
UNIT = (0.0, 10.75, 16.75, 20.75, 26.75)


@cache
def table() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Core → kernel → size → instructions."""
    return tomllib.loads(FILE.read_text("utf-8"))


def known(core: str) -> bool:
    """Whether instructions of this core can be estimated."""
    return LIKE.get(core, core) in table()


def estimate(program: Program, kernels: Sequence[str], core: str) -> tuple[int, ...]:
    """Instructions of each step.

    Args:
        program: The program.
        kernels: What computes each step, as the report of the C writer says it.
        core: The core, as gcc spells it.

    Raises:
        UnknownTarget: nothing is known of this core.
    """
    if not known(core):
        raise UnknownTarget(
            f"Instructions of core {printable(core, 60)} are not known: run the network on a board instead "
            "(bitwright deploy). Known are "
            f"{', '.join([*table(), *LIKE])}."
        )
    costs = table()[LIKE.get(core, core)]
    return tuple(
        0 if kernel == NOTHING else one_step(sizes(program, step), costs, kernel_key(step, kernel))
        for step, kernel in zip(program.steps, kernels, strict=True)
    )


def one_step(found: Mapping[str, float], costs: Mapping[str, Mapping[str, float]], key: str) -> int:
    """Instructions of a step of these sizes on the kernel of this key, or the nearest that is known."""
    return round(sum(found[name] * per for name, per in costs[nearest(key, costs)].items()))


def nearest(key: str, costs: Mapping[str, object]) -> str:
    """``key`` if it is known, else the known kernel that begins most like it, word by word."""
    if key in costs:
        return key
    words = key.replace(" ", "_").split("_")

    def alike(other: str) -> tuple[int, int]:
        theirs = other.replace(" ", "_").split("_")
        same = next(
            (i for i, (a, b) in enumerate(zip(words, theirs, strict=False)) if a != b), min(len(words), len(theirs))
        )
        return same, len(set(words) & set(theirs))

    return max(sorted(costs), key=alike)


def kernel_key(step: Step, kernel: str) -> str:
    """The kernel as the table has it: functions of the network's own all count alike, loop nests by their form."""
    if kernel in ("loop nest", "copy"):
        return f"{kernel} {type(step.form).__name__.lower()}"
    if kernel.startswith("bw_") and "_epilogue_" in kernel:
        return "_".join([*kernel.split("_")[:4], "own"])
    return kernel


def sizes(program: Program, step: Step) -> dict[str, float]:
    """What a step's work is proportional to; ``SIZES`` says what each size is."""
    form = step.form
    out = program.buffers[step.outputs[0]]
    channels = out.shape[1] if len(out.shape) > 1 else 1
    found = dict.fromkeys(SIZES, 0.0)
    found |= {"call": 1.0, "outputs": float(out.size), "pixels": float(out.size // max(channels, 1))}
    found["inputs"] = float(sum(program.buffers[name].size for name in step.inputs))
    if isinstance(form, Contract):
        found |= contract_sizes(program, step, form)
    elif isinstance(form, Reduce):
        shape = program.buffers[step.inputs[0]].shape[1:]
        found["macs"] = float(out.size * prod(a.taps for a in form.axes))
        found["inside"] = float(prod(inside(axis, size) for axis, size in zip(form.axes, shape, strict=True)))
    expr = form.expr if isinstance(form, Map) else form.epilogue.expr if isinstance(form, Contract | Reduce) else None
    if expr is not None:
        for name, count in operations(expr).items():
            found[name] = float(out.size * count)
    return found


def contract_sizes(program: Program, step: Step, form: Contract) -> dict[str, float]:
    """The sizes of a sum of products, by the loops of the kernels."""
    out, source = program.buffers[step.outputs[0]], program.buffers[step.inputs[0]].shape[2:]
    channels, each = out.shape[1], program.tensors[form.weight].shape[1]
    pixels = out.size // channels
    taps = prod(a.taps for a in form.axes)
    high, wide = (1, taps) if len(form.axes) < 2 else (form.axes[0].taps, taps // form.axes[0].taps)
    valid = [inside(axis, size) for axis, size in zip(form.axes, source, strict=True)]
    rows = valid[0] * prod(out.shape[3:]) if len(valid) > 1 else pixels
    quads, pairs, units, rest = -(-channels // 4), -(-channels // 2), high * -(-wide * each // 4), pixels % 4
    found = {
        "macs": out.size * each * taps,
        "inside": channels * each * prod(valid),
        "rows": channels * rows,
        "windows": rows,
        "window": pixels * each * taps,
        "quads": pixels * quads,
        "steps": pixels * quads * -(-each * taps // 16),
        "tiles": pairs * (pixels // 4),
        "rests": pairs * rest,
        "units": pairs * units * (pixels // 4 * UNIT[4] + UNIT[rest]),
        "patch": pixels * units,
    }
    if len(form.axes) > 1:
        stride = form.axes[0].stride
        strips = -(-out.shape[2] // 2) if stride == 1 else out.shape[2]
        found["columns"] = strips * prod(out.shape[3:]) * 4 * quads
        found["ring"] = strips * quads * ((out.shape[3] - 1) * stride + 3)
        found["strips"] = strips * quads
    return {name: float(value) for name, value in found.items()}


def inside(axis: Axis, size: int) -> int:
    """How many pairs of an output and a tap read an element that is there."""
    count = 0
    for tap in range(axis.taps):
        for at in range(axis.outputs(size)):
            place = at * axis.stride + tap * axis.dilation - axis.before
            count += place % axis.spread == 0 and 0 <= place // axis.spread < size
    return count


def operations(expr: Expr) -> dict[str, int]:
    """Operations of an expression by their width, shared ones once."""
    found = {"nodes": 0, "wide": 0, "divisions": 0}
    for node in expr.walk():
        if node.op in (Op.VAR, Op.CONST):
            continue
        found["nodes" if node.lo >= -INT32 and node.hi < INT32 else "wide"] += 1
        found["divisions"] += node.op is Op.DIV
    return found
