"""Kernels for windows of unusual shapes, and for maxima, on imitated boards and without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.export.c.writer import Exported, random_samples, write
from bitwright.mcu import host
from bitwright.mcu.board import load_board
from bitwright.mcu.qemu import measure
from bitwright.program.program import Program
from window_layers import depthwise, maxima
from zoo_programs import quantized


def inputs_of(program: Program, count: int = 1) -> dict[str, np.ndarray]:
    samples = random_samples(program, count, seed=3)
    return {name: np.concatenate([s[name] for s in samples]) for name in program.inputs}


def kernels_of(tree: Exported) -> set[str]:
    return {str(row["by"]).split()[0] for row in tree.report["layers"]}


@pytest.mark.parametrize(("board", "kernel"), [("mps2-an386", "bw_dsp_taps"), ("mps3-an547", "bw_mve_depthwise")])
def test_windows_of_all_shapes(board: str, kernel: str, tmp_path: Path) -> None:
    chosen = load_board(f"qemu:{board}")
    for seed in (1, 2):
        program = depthwise(seed)
        tree = write(program, tmp_path / str(seed), core=chosen.core)
        assert kernel in kernels_of(tree)
        host.check(tree, program, inputs_of(program), flags=host.SANITIZE)
        counts = measure(tree, program, chosen, inputs_of(program), which="gcc")
        assert (counts.mismatches, counts.first) == (0, "")


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_maxima_of_many_channels(board: str, tmp_path: Path) -> None:
    chosen, program = load_board(f"qemu:{board}"), maxima(1)
    tree = write(program, tmp_path, core=chosen.core)
    assert {"bw_max_s8", "bw_max_u8"} <= kernels_of(tree)
    host.check(tree, program, inputs_of(program), flags=host.SANITIZE)
    counts = measure(tree, program, chosen, inputs_of(program), which="gcc")
    assert (counts.mismatches, counts.first) == (0, "")


def test_cores_without_such_instructions_keep_the_loop_nest(tmp_path: Path) -> None:
    assert "bw_max_s8" not in kernels_of(write(quantized("fire", "mcu-cmsis-nn"), tmp_path, core="cortex-m3"))
    assert "bw_max_s8" in kernels_of(write(quantized("fire", "mcu-cmsis-nn"), tmp_path, core="x86-64-avx2"))
