"""Generated C of programs by patches against the reference, in every integer of every patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.deploying import deploy
from bitwright.errors import ExportError
from bitwright.export.c.patching import by_patches
from bitwright.export.c.writer import random_samples, write
from bitwright.mcu import host
from bitwright.program.patches import patch, stage_ends
from bitwright.simulate import reference
from serial_boards import on_this_machine
from zoo_programs import quantized


@pytest.mark.parametrize(
    ("network", "core"), [("residual", "cortex-m4"), ("depthwise_relu6", "cortex-m55"), ("fire", "x86-64-avx2")]
)
def test_patches_in_c(network: str, core: str, tmp_path: Path) -> None:
    program = quantized(network, "mcu-cmsis-nn")
    made, _ = patch(program, stage_ends(program)[2], (3, 2))
    tree = write(made, tmp_path, core=core)
    inputs = random_samples(program, 1, seed=2)[0]
    assert host.check(tree, made, inputs, flags=host.SANITIZE).samples == 1
    want, got = reference.run(program, inputs), reference.run(made, inputs)
    for name in program.outputs:
        np.testing.assert_array_equal(got[name], want[name])
    kernels = {str(row["by"]).split("_")[1] for row in tree.report["layers"] if str(row["by"]).startswith("bw_")}
    assert kernels  # parts of a picture run on the kernels of the core too


@pytest.mark.parametrize("board", ["host", "qemu:mps2-an386"])
def test_boards_run_by_patches(board: str) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    whole, parts = (deploy(program, board, samples=1, patches=wish) for wish in ("off", "9"))
    assert parts.mismatches == 0, parts.first_mismatch
    assert len(parts.cost.layers) > len(whole.cost.layers)
    assert parts.cost.memory["arena_bytes"] < whole.cost.memory["arena_bytes"]


def test_a_serial_board_by_patches_is_known(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    made = by_patches(program, "9")
    assert made.patched is not None
    tree = write(made.program, tmp_path, patching=made)
    with on_this_machine(tree, tmp_path) as path:
        with pytest.raises(ExportError, match="--patches"):
            deploy(program, f"serial:{path}", samples=1, prune=False)
        found = deploy(program, f"serial:{path}", samples=1, prune=False, patches="9")
    assert found.mismatches == 0, found.first_mismatch
    assert found.cost.memory["arena_bytes"] == tree.plan.arena_bytes
