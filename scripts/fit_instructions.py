"""Fits what kernels cost (src/bitwright/mcu/instructions.toml) to counts of emulated boards.

    python scripts/fit_instructions.py            # after changing a kernel; needs the compilers and QEMU
    python scripts/fit_instructions.py --check    # says how far the table is from fresh counts, and writes nothing

Random layers of many sizes, random programs of all forms and the networks of the tests run on a board for each core.  For
each kernel, instructions = Σ (size × cost) with no cost below zero, by least squares of the relative error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from bitwright.deploying import random_inputs  # noqa: E402
from bitwright.errors import BitwrightError  # noqa: E402
from bitwright.export.c.writer import Exported, write  # noqa: E402
from bitwright.mcu import firmware, harness, qemu  # noqa: E402
from bitwright.mcu.board import Board, load_board  # noqa: E402
from bitwright.mcu.instructions import FILE, NOTHING, kernel_key, one_step, sizes, table  # noqa: E402
from bitwright.program.program import Program  # noqa: E402

SEEDS = range(8)
NETWORKS = ("residual", "depthwise_relu6", "fire", "pools", "activations")
TARGETS = ("mcu-cmsis-nn", "mcu-q7", "cpu")
HEAD = "# Instructions per unit of each size of a step, for each kernel.  Written by scripts/fit_instructions.py.\n"
FEW = 4  # steps of a kernel
LARGE_COUNT_MORE = 0.3  # weight of a relative error: the count to this power
Row = tuple[str, dict[str, float], int]


def boards() -> dict[str, Board]:
    """Core → the board that its instructions are counted on; an Armv7-M runs code for Armv6-M."""
    m3 = load_board("qemu:mps2-an385")
    m0 = dataclasses.replace(m3.gcc, flags=("-mcpu=cortex-m0", "-mthumb"))
    return {
        "cortex-m4": load_board("qemu:mps2-an386"),
        "cortex-m55": load_board("qemu:mps3-an547"),
        "cortex-m3": m3,
        "rv32imc": load_board("qemu:riscv32-virt"),
        "cortex-m0": dataclasses.replace(m3, core="cortex-m0", gcc=m0),
    }


def programs() -> Iterator[Program]:
    """What is counted."""
    from large_layers import large_layers
    from random_layers import random_layers
    from window_layers import depthwise, maxima
    from zoo_programs import quantized

    for seed in SEEDS:
        yield depthwise(seed)
        yield maxima(seed)
        yield random_layers(1000 + seed, 24)
        yield large_layers(seed, 12)
    for name in NETWORKS:
        for target in TARGETS:
            yield quantized(name, target)


def rows(core: str, board: Board, every: list[Program], kept: Path | None) -> Iterator[Row]:
    """Kernel, sizes and instructions of every step of all programs, with the core's kernels and without."""
    known = json.loads(kept.read_text()) if kept is not None and kept.is_file() else {}
    for index, program in enumerate(every):
        for chosen in (core, None):
            name = f"{core} {chosen} {index} {program.name}"
            if name not in known:
                with tempfile.TemporaryDirectory() as folder:
                    tree = write(program, folder, core=chosen)
                    try:
                        counts = counted(tree, program, board, Path(folder))
                    except BitwrightError as error:
                        print(f"{core}: {program.name}: {error}"[:160])
                        counts = []
                known[name] = [[row["by"] for row in tree.report["layers"]], counts]
            kernels, counts = known[name]
            for step, kernel, count in zip(program.steps, kernels, counts, strict=False):
                if kernel != NOTHING:
                    yield kernel_key(step, kernel), sizes(program, step), count
            if not any(kernel.startswith(("bw_dsp", "bw_mve", "bw_sum", "bw_vsum", "bw_max")) for kernel in kernels):
                break  # the other half would be the same
    if kept is not None:
        kept.write_text(json.dumps(known))


def counted(tree: Exported, program: Program, board: Board, folder: Path) -> list[int]:
    """Instructions of every step."""
    firmware.build(tree, program, board, folder / "run.elf", template="run.c", which="gcc")
    inputs = random_inputs(program, 1)
    harness.write_samples(tree, program, inputs, folder / "in.bin")
    qemu.run(board, folder, "run.elf")
    found = harness.compare(tree, program, inputs, (folder / "out.bin").read_bytes())
    assert not found.mismatches, found.first
    return [qemu.instructions(board, ticks) for ticks in found.steps]


@dataclasses.dataclass(frozen=True)
class Family:
    """Kernels that are one loop with different ends.

    Attributes:
        shared: Sizes that cost the same in all of them.
        own: Sizes whose cost is that of the variant.
        fixed: Costs that follow from the text of the kernel.
    """

    shared: tuple[str, ...]
    own: tuple[str, ...] = ()
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)


FAMILIES: Mapping[str, Family] = {
    "bw_dsp_conv": Family(("patch", "window", "windows", "pixels", "call"), ("tiles", "rests"), {"units": 1.0}),
    "bw_dsp_depthwise": Family(("ring", "strips", "call"), ("columns",)),
    "bw_mve_conv": Family(("steps", "window", "windows", "pixels", "call"), ("quads",)),
    "bw_mve_depthwise": Family(("pixels", "window", "call"), ("quads", "macs")),
    "bw_dsp_taps": Family(("pixels", "window", "call"), ("quads", "macs")),
    "bw_max": Family(("pixels", "call"), ("macs", "outputs")),
    "bw_conv": Family(("call",), ("inside", "rows", "windows", "outputs")),
    "bw_pointwise": Family(("call",), ("macs", "outputs", "pixels")),
    "bw_depthwise": Family(("call",), ("inside", "rows", "windows", "pixels", "outputs")),
    "loop nest contract": Family(("call",), ("inside", "rows", "outputs", "nodes", "wide")),
    "loop nest reduce": Family(("call",), ("inside", "outputs", "nodes", "wide", "divisions")),
    "loop nest map": Family(("call",), ("inputs", "outputs", "nodes", "wide", "divisions")),
    "loop nest table": Family(("call",), ("outputs",)),
    "copy": Family(("call",), ("outputs",)),
    "": Family(("call",), ("outputs", "macs", "quads", "steps")),
}


def family_of(key: str) -> str:
    """The name of a kernel's family."""
    return max((name for name in FAMILIES if key.startswith(name)), key=len)


def fits(by_key: Mapping[str, list[Row]]) -> dict[str, dict[str, float]]:
    """The costs of all kernels of a core, family by family."""
    found: dict[str, dict[str, float]] = {}
    for name in sorted({family_of(key) for key in by_key}):
        found |= fit_family(FAMILIES[name], {key: rows for key, rows in by_key.items() if family_of(key) == name})
    return found


def fit_family(family: Family, by_key: Mapping[str, list[Row]]) -> dict[str, dict[str, float]]:
    """Least squares of the relative error with no cost below zero; variants with few steps cost what the others do."""
    rare = [key for key, rows in by_key.items() if len(rows) < FEW]
    group = {key: "*" if key in rare and len(rare) < len(by_key) else key for key in by_key}
    if "*" in group.values():
        group |= dict.fromkeys(rare, "*")
    groups = sorted(set(group.values()))
    columns = [(None, size) for size in family.shared] + [(g, size) for g in groups for size in family.own]
    matrix, wanted = [], []
    for key, rows in by_key.items():
        for _, size, count in rows:
            weight = count**LARGE_COUNT_MORE / count
            rest = count - sum(size[n] * cost for n, cost in family.fixed.items())
            matrix.append([weight * size[n] * (g is None or g == group[key]) for g, n in columns])
            wanted.append(weight * rest)
    costs = solve(np.array(matrix), np.array(wanted))
    return {
        key: dict(family.fixed)
        | {
            n: round(float(c), 4)
            for (g, n), c in zip(columns, costs, strict=True)
            if (g is None or g == group[key]) and c > 1e-4
        }
        for key in by_key
    }


def solve(matrix: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares of ``matrix @ costs = wanted`` with no cost below zero."""
    active = [k for k in range(matrix.shape[1]) if matrix[:, k].any()]
    costs = np.zeros(matrix.shape[1])
    scale = np.sqrt((matrix**2).sum(0)).clip(min=1e-12)
    while active:
        part, *_ = np.linalg.lstsq(matrix[:, active] / scale[active], wanted, rcond=None)
        if (part >= 0).all():
            costs[active] = part / scale[active]
            break
        active.pop(int(np.argmin(part)))
    return costs


def written(costs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table as TOML."""
    lines = [HEAD]
    for core, kernels in costs.items():
        lines.append(f"[{core}]")
        for key, terms in sorted(kernels.items()):
            lines.append(f'"{key}" = {{ {", ".join(f"{n} = {c:g}" for n, c in terms.items())} }}')
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Count, fit, write.  Cores that are named are done, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep counts here, and count nothing that is there")
    parser.add_argument("cores", nargs="*", metavar="CORE", help="do these; by default all")
    args = parser.parse_args()
    check = args.check
    every = list(programs())
    random.Random(0).shuffle(every)
    costs: dict[str, dict[str, dict[str, float]]] = {}
    for core, board in boards().items():
        if args.cores and core not in args.cores:
            continue
        by_key: dict[str, list[Row]] = {}
        for row in rows(core, board, every, args.keep):
            by_key.setdefault(row[0], []).append(row)
        if check:
            costs[core] = {k: dict(v) for k, v in table()[core].items()}
        else:
            costs[core] = fits(by_key)
        for key, found in sorted(by_key.items()):
            ratios = [one_step(size, costs[core], key) / count for _, size, count in found]
            spread = np.percentile(ratios, [5, 50, 95])
            print(
                f"{core:11} {key:44} {len(found):4} steps, estimate/count {spread[0]:.2f} {spread[1]:.2f} {spread[2]:.2f}"
            )
        if not check:  # after every core, so that a run that is stopped is worth something
            partial = FILE.with_suffix(".partial")
            partial.write_text(written({**table(), **costs}), "utf-8")
            partial.replace(FILE)


if __name__ == "__main__":
    main()
