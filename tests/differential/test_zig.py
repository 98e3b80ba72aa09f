"""The other compiler: generated C through clang, on this machine and on imitated boards, equal and without a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitwright.deploying import random_inputs
from bitwright.export.c.writer import write
from bitwright.mcu import host
from bitwright.mcu.board import load_board
from bitwright.mcu.qemu import measure
from random_layers import random_layers
from zoo_programs import quantized


@pytest.mark.parametrize(
    ("network", "target", "core"),
    [
        ("residual", "mcu-cmsis-nn", None),
        ("fire", "mcu-q7", "cortex-m4"),
        ("pools", "generic", None),
        ("activations", "cpu", "cortex-m55"),
        ("residual", "cpu", "cortex-m4"),
    ],
)
def test_clang_takes_it_without_a_warning(network: str, target: str, core: str | None, tmp_path: Path) -> None:
    program = quantized(network, target)
    tree = write(program, tmp_path, core=core)
    checked = host.check(tree, program, random_inputs(program, 2), cc="zig")
    assert checked.compiler.endswith("zig cc")
    assert checked.values > 0


@pytest.mark.parametrize(
    "board", ["qemu:mps2-an385", "qemu:mps2-an386", "qemu:mps2-an505", "qemu:mps3-an547", "qemu:riscv32-virt"]
)
def test_boards_compute_the_same_with_clang(board: str, tmp_path: Path) -> None:
    program, chosen = random_layers(7, 10), load_board(board)
    tree = write(program, tmp_path, core=chosen.core)
    found = measure(tree, program, chosen, random_inputs(program, 2), which="zig")
    assert found.mismatches == 0, found.first
    assert found.toolchain.startswith("zig ")
