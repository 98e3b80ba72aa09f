"""Generated C that calls CMSIS-NN, built with stand-ins for that library, against the reference in every integer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bitwright.errors import ExportError
from bitwright.export.c.cmsis_q7 import split_bias
from bitwright.export.c.library import NotCovered
from bitwright.export.c.writer import Exported, random_samples, write
from bitwright.mcu import host
from bitwright.program.program import Program
from random_layers import random_layers
from zoo_programs import quantized

STUBS = Path(__file__).parents[1] / "stubs"
FOLDERS = {"cmsis-nn": STUBS / "cmsis_nn", "cmsis-nn-q7": STUBS / "cmsis_nn_q7"}


def inputs_of(program: Program, count: int = 2) -> dict[str, np.ndarray]:
    samples = random_samples(program, count, seed=3)
    return {name: np.concatenate([s[name] for s in samples]) for name in program.inputs}


def checked(program: Program, folder: Path, kernels: str, core: str | None = None, *more: str) -> Exported:
    tree = write(program, folder, kernels=kernels, core=core)
    stub = FOLDERS[kernels]
    found = host.check(
        tree, program, inputs_of(program), flags=[*host.SANITIZE, f"-I{stub}", str(stub / "stub.c"), *more]
    )
    assert found.samples == 2
    return tree


def functions(tree: Exported) -> Counter[str]:
    return Counter(str(row["by"]).split()[0] for row in tree.report["layers"])


def reasons(tree: Exported) -> set[str]:
    return {str(row["not_by_library"]) for row in tree.report["layers"] if "not_by_library" in row}


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        ("residual", {"arm_convolve_wrapper_s8", "arm_elementwise_add_s8"}),
        ("depthwise_relu6", {"arm_depthwise_conv_wrapper_s8"}),
        ("mlp", {"arm_fully_connected_s8"}),
        ("fire", {"arm_max_pool_s8", "arm_avgpool_s8"}),
        ("split_slice", {"arm_elementwise_mul_s8"}),
    ],
)
def test_networks_call_the_int8_functions(network: str, wanted: set[str], tmp_path: Path) -> None:
    tree = checked(quantized(network, "mcu-cmsis-nn"), tmp_path, "cmsis-nn", "cortex-m4")
    assert wanted <= set(functions(tree))


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        ("residual", {"arm_convolve_HWC_q7_basic_nonsquare"}),
        ("shared", {"arm_depthwise_separable_conv_HWC_q7_nonsquare", "arm_maxpool_q7_HWC"}),
        ("mlp", {"arm_fully_connected_q7"}),
        ("fire", {"arm_convolve_1x1_HWC_q7_fast_nonsquare", "arm_maxpool_q7_HWC"}),
    ],
)
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4"])
def test_networks_call_the_q7_functions(network: str, wanted: set[str], core: str, tmp_path: Path) -> None:
    tree = checked(quantized(network, "mcu-q7"), tmp_path, "cmsis-nn-q7", core)
    assert wanted <= set(functions(tree))
    if network == "fire":  # which averages
        assert any("cuts off twice" in reason for reason in reasons(tree)) == (core == "cortex-m4")


@pytest.mark.parametrize("seed", [1, 2])
def test_random_layers(seed: int, tmp_path: Path) -> None:
    for semantics, flags in (("tflite-double", ()), ("tflite-single", ("-DCMSIS_NN_USE_SINGLE_ROUNDING",))):
        tree = checked(random_layers(seed, 8, (semantics,)), tmp_path / semantics, "cmsis-nn", "cortex-m4", *flags)
        assert any(name.startswith("arm_") for name in functions(tree))
    tree = checked(random_layers(seed, 8, ("pow2-halfup",)), tmp_path / "q7", "cmsis-nn-q7", "cortex-m4")
    assert reasons(tree)  # zero points, and shifts of every channel's own


def test_what_is_not_covered_says_why(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-q7")
    assert reasons(checked(program, tmp_path / "a", "cmsis-nn", "cortex-m4")) >= {
        "its requantizer is not one of CMSIS-NN's multipliers"
    }
    program = quantized("residual", "cpu")
    assert "CMSIS-NN's functions take int8, and one of its tensors is uint8" in reasons(
        checked(program, tmp_path / "b", "cmsis-nn")
    )
    program = quantized("fire", "mcu-cmsis-nn")
    why = reasons(checked(program, tmp_path / "c", "cmsis-nn"))
    assert any("inside another one" in reason for reason in why)
    program = random_layers(1, 6, ("tflite-single",))
    why = reasons(checked(program, tmp_path / "d", "cmsis-nn", "cortex-m55"))
    assert "on cores with vectors CMSIS-NN's single rounding is another one" in why


def test_the_wrong_rounding_does_not_compile(tmp_path: Path) -> None:
    program = quantized("mlp", "mcu-cmsis-nn")
    with pytest.raises(ExportError, match="rounds twice"):
        checked(program, tmp_path, "cmsis-nn", None, "-DCMSIS_NN_USE_SINGLE_ROUNDING")
    with pytest.raises(ExportError, match="choose own, cmsis-nn or cmsis-nn-q7"):
        write(program, tmp_path, kernels="cmsis")


def test_a_library_that_computes_something_else_is_seen(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    stub = tmp_path / "stub"
    stub.mkdir()
    for file in FOLDERS["cmsis-nn"].iterdir():
        text = file.read_text("utf-8").replace("+ p->output_offset, &p", "+ p->output_offset + 1, &p")
        (stub / file.name).write_text(text, "utf-8")
    tree = write(program, tmp_path / "c", kernels="cmsis-nn")
    with pytest.raises(host.Mismatch, match="instead of"):
        host.check(tree, program, inputs_of(program), flags=[*host.OPTIMIZE, f"-I{stub}", str(stub / "stub.c")])


def test_a_library_that_wants_more_memory_is_refused(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    stub = tmp_path / "stub"
    stub.mkdir()
    for file in FOLDERS["cmsis-nn"].iterdir():
        (stub / file.name).write_text(
            file.read_text("utf-8").replace("return 4 * padded", "return 8 * padded"), "utf-8"
        )
    tree = write(program, tmp_path / "c", kernels="cmsis-nn")
    with pytest.raises(ExportError, match="status"):
        host.check(tree, program, inputs_of(program), flags=[*host.OPTIMIZE, f"-I{stub}", str(stub / "stub.c")])


def test_biases_are_bytes_and_a_shift() -> None:
    codes, shift = split_bias(np.array([96, -4096, 0]))
    np.testing.assert_array_equal(codes.astype(int) << shift, [96, -4096, 0])
    assert split_bias(np.array([5, -128]))[1] == 0
    assert split_bias(np.zeros(3, np.int64))[1] == 0
    with pytest.raises(NotCovered):
        split_bias(np.array([4097, 1]))
