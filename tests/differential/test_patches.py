"""Generated C of programs by patches against the reference, in every integer of every patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.export.c.writer import random_samples, write
from bitwright.mcu import host
from bitwright.program.patches import patch, stage_ends
from bitwright.simulate import reference
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
