"""Fits what kernels cost (src/bitwright/mcu/instructions.toml) to counts of emulated boards.

    python scripts/fit_instructions.py            # after changing a kernel; needs the compilers and QEMU
    python scripts/fit_instructions.py --check    # says how far the table is from fresh counts, and writes nothing

Random layers of many sizes, random programs of all forms and the networks of the tests run on a board for each core.  For
each kernel, instructions = Σ (size × cost) with no cost below zero, by least squares of the relative error.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from bitwright.export.c.writer import write  # noqa: E402
from bitwright.mcu.board import Board, load_board  # noqa: E402
from bitwright.mcu.instructions import FILE, NOTHING, kernel_key, one_step, sizes, table  # noqa: E402
from bitwright.mcu.qemu import measure  # noqa: E402
from bitwright.program.program import Program  # noqa: E402

SEEDS = range(24)
NETWORKS = ("residual", "depthwise_relu6", "fire", "mlp", "pools", "activations")
TARGETS = ("mcu-cmsis-nn", "mcu-cmsis-nn-single", "mcu-q7", "generic", "cpu")
HEAD = "# Instructions per unit of each size of a step, for each kernel.  Written by scripts/fit_instructions.py.\n"
MOST_TERMS = 5
Row = tuple[str, dict[str, float], int]


def boards() -> dict[str, Board]:
    """Core → the board that its instructions are counted on; an Armv7-M runs code for Armv6-M."""
    m3 = load_board("qemu:mps2-an385")
    m0 = dataclasses.replace(m3.gcc, flags=("-mcpu=cortex-m0", "-mthumb"))
    return {
        "cortex-m0": dataclasses.replace(m3, core="cortex-m0", gcc=m0),
        "cortex-m3": m3,
        "cortex-m4": load_board("qemu:mps2-an386"),
        "cortex-m55": load_board("qemu:mps3-an547"),
        "rv32imc": load_board("qemu:riscv32-virt"),
    }


def programs() -> Iterator[Program]:
    """What is counted."""
    from large_layers import large_layers
    from random_layers import random_layers
    from zoo_programs import quantized

    for seed in SEEDS:
        yield random_layers(1000 + seed, 12)
        yield large_layers(seed, 6)
    for name in NETWORKS:
        for target in TARGETS:
            yield quantized(name, target)


def rows(core: str, board: Board, every: list[Program]) -> Iterator[Row]:
    """Kernel, sizes and instructions of every step of all programs, with the core's kernels and without."""
    for program in every:
        for chosen in (core, None):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    tree = write(program, folder, core=chosen)
                    counts = measure(tree, program, board, random_inputs(program, 1), which="gcc")
                except BitwrightError as error:
                    print(f"{core}: {program.name}: {error}"[:160])
                    continue
            for step, row, count in zip(program.steps, tree.report["layers"], counts.steps, strict=True):
                if row["by"] != NOTHING:
                    yield kernel_key(step, row["by"]), sizes(program, step), count
            if not any(r["by"].startswith(("bw_dsp", "bw_mve", "bw_sum", "bw_vsum")) for r in tree.report["layers"]):
                break  # the other half would be the same


def fit(found: list[Row]) -> dict[str, float]:
    """Costs that are not negative, by taking out those that would be; few terms."""
    counts = np.array([count for _, _, count in found], float)
    names = [n for n in found[0][1] if any(size[n] for _, size, _ in found)]
    # Relative errors, those of large steps counting somewhat more.
    weights = (counts / np.median(counts)) ** 0.25
    matrix = np.array([[size[n] for n in names] for _, size, _ in found]) / counts[:, None] * weights[:, None]
    keep = greedy(matrix, weights)
    costs = solve(matrix[:, keep], weights)
    return {names[k]: round(float(c), 4) for k, c in zip(keep, costs, strict=True) if c > 1e-4}


def greedy(matrix: np.ndarray, wanted: np.ndarray) -> list[int]:
    """The columns that explain most, one after the other."""
    keep: list[int] = []
    best = np.inf
    while len(keep) < min(MOST_TERMS, len(wanted)):
        trials = []
        for k in range(matrix.shape[1]):
            if k not in keep:
                costs = solve(matrix[:, [*keep, k]], wanted)
                trials.append((float(np.sum((matrix[:, [*keep, k]] @ costs - wanted) ** 2)), k))
        error, k = min(trials, default=(np.inf, -1))
        if error > 0.97 * best:
            break
        best = error
        keep.append(k)
    return keep


def solve(matrix: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares of ``matrix @ costs = wanted`` with no cost below zero."""
    active = list(range(matrix.shape[1]))
    costs = np.zeros(matrix.shape[1])
    while active:
        part, *_ = np.linalg.lstsq(matrix[:, active], wanted, rcond=None)
        if (part >= 0).all():
            costs[active] = part
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
    """Count, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = parser.parse_args().check
    every = list(programs())
    random.Random(0).shuffle(every)
    costs: dict[str, dict[str, dict[str, float]]] = {}
    for core, board in boards().items():
        by_key: dict[str, list[Row]] = {}
        for row in rows(core, board, every):
            by_key.setdefault(row[0], []).append(row)
        if check:
            costs[core] = {k: dict(v) for k, v in table()[core].items()}
        else:
            costs[core] = {key: fit(found) for key, found in by_key.items()}
        for key, found in sorted(by_key.items()):
            ratios = [one_step(size, costs[core], key) / count for _, size, count in found]
            spread = np.percentile(ratios, [5, 50, 95])
            print(
                f"{core:11} {key:44} {len(found):4} steps, estimate/count {spread[0]:.2f} {spread[1]:.2f} {spread[2]:.2f}"
            )
    if not check:
        partial = FILE.with_suffix(".partial")
        partial.write_text(written(costs), "utf-8")
        partial.replace(FILE)


if __name__ == "__main__":
    main()
