"""Generated C for computers against the reference: every integer, with vectors, without them, and from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.export.c.writer import random_samples, write
from bitwright.mcu import host
from bitwright.mcu.cpu.cores import cores, this_core
from bitwright.mcu.library import Library, core_flags
from bitwright.program.program import Program
from bitwright.simulate import reference
from random_layers import random_layers
from zoo_programs import quantized

LAYERS = 16
PROFILES = ("pow2-halfup", "tflite-double", "tflite-single", "ort-cpu", "float32-half-away")
ARM = tuple(name for name, core in cores().items() if core.emulator is not None)
X86 = tuple(name for name, core in cores().items() if core.emulator is None)


def inputs_of(program: Program, count: int = 2) -> dict[str, np.ndarray]:
    samples = random_samples(program, count, seed=3)
    return {name: np.concatenate([s[name] for s in samples]) for name in program.inputs}


def macros(name: str, family: str) -> str:
    """A line of C that only compiles where the compiler gives the family's instructions."""
    wanted = {
        "neon": "__ARM_NEON", "neon-dot": "__ARM_FEATURE_DOTPROD", "avx2": "__AVX2__", "vnni": "__AVXVNNI__",
        "avx512-vnni": "__AVX512VNNI__",
    }  # fmt: skip
    return f"#ifndef {wanted[family]}\n#error {name}\n#endif\n"


@pytest.mark.parametrize("name", cores())
def test_the_flags_of_a_core_switch_its_instructions_on(name: str, tmp_path: Path) -> None:
    core, source = cores()[name], tmp_path / "probe.c"
    source.write_text(macros(name, core.family), "utf-8")
    for command, flags in (
        ([core.gcc.command], core.gcc.flags),
        ([*host.compiler("zig"), "-target", core.zig.target], core.zig.flags),
    ):
        done = [*command, *flags, "-E", str(source), "-o", str(tmp_path / "probe.i")]
        subprocess.run(done, check=True, timeout=120, capture_output=True)


@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a76", "x86-64-avx2", "x86-64-avx512-vnni"])
def test_what_stands_for_the_vectors_computes_the_same(name: str, tmp_path: Path) -> None:
    program = random_layers(100, LAYERS, PROFILES, wide=True)
    tree = write(program, tmp_path, core=name)
    kernels = kernels_of(tree.report)
    assert {"bw_cpu_conv_s8", "bw_cpu_conv_u8"} <= kernels
    assert any(k.startswith("bw_cpu_depthwise") for k in kernels)
    assert host.check(tree, program, inputs_of(program), flags=host.SANITIZE).samples == 2


def kernels_of(report: object) -> set[str]:
    assert isinstance(report, dict)
    return {str(row["by"]).split()[0] for row in report["layers"]}


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in ARM for seed in (1, 2)])
def test_random_layers_on_arm(name: str, seed: int, tmp_path: Path) -> None:
    core, program = cores()[name], random_layers(seed, LAYERS, PROFILES, wide=seed > 1)
    assert core.emulator is not None
    tree = write(program, tmp_path, core=name)
    found = host.check(
        tree, program, inputs_of(program), cc=core.gcc.command, flags=[*host.OPTIMIZE, *core.gcc.flags, "-static"],
        runner=(core.emulator.command, *core.emulator.arguments),
    )  # fmt: skip
    assert found.values == 2 * sum(program.buffers[s.outputs[0]].size for s in program.steps)


def runs_here(name: str) -> bool:
    """Whether this machine has the instructions; where it has not, the text is compiled without them and still compared."""
    best = this_core()
    return best in X86 and X86.index(name) <= X86.index(best)


@pytest.mark.parametrize(("name", "seed", "cc"), [*((n, s, "gcc") for n in X86 for s in (1, 2)), (X86[0], 3, "zig")])
def test_random_layers_on_x86(name: str, seed: int, cc: str, tmp_path: Path) -> None:
    program = random_layers(seed, LAYERS, PROFILES, wide=seed > 1)
    tree = write(program, tmp_path, core=name)
    flags = core_flags(name if runs_here(name) else None, cc)
    assert host.check(tree, program, inputs_of(program), cc=cc, flags=flags).samples == 2


def test_threads_share_a_library(tmp_path: Path) -> None:
    program = quantized("residual", "cpu")
    core = this_core()
    library = Library(write(program, tmp_path, core=core), program, core=core)
    inputs = inputs_of(program, 7)
    want, got = reference.run(program, inputs), library.run(inputs, threads=3)
    for name in program.outputs:
        np.testing.assert_array_equal(got[name], want[name])


def imported(folder: Path, name: str) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(folder))


def test_the_python_face_needs_nothing_of_bitwright(tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    tree = write(program, tmp_path, core="x86-64-avx2", name="faced")
    subprocess.run(["make", "-s", "-C", str(tmp_path), "shared", "ARCH="], check=True, timeout=120)
    assert "bitwright" not in (tmp_path / "faced.py").read_text("utf-8").split('"""')[2]
    network = imported(tmp_path, "faced").Network()
    inputs = inputs_of(program, 5)
    (name,), (result,) = program.inputs, program.outputs
    source, form = program.buffers[name], program.buffers[name].format
    real = (inputs[name].astype(np.float64) - int(form.zero_point)) * float(form.scale)
    (codes,) = network.quantize(real)
    rows = np.stack([tree.layouts[name].stored(x) for x in inputs[name][:, None]])
    np.testing.assert_array_equal(codes.reshape(5, -1), rows.reshape(5, -1))
    want = reference.run(program, inputs)[result]
    out = program.buffers[result].format
    for threads in (1, 3):
        expected = (want.astype(np.float64) - int(out.zero_point)) * float(out.scale)
        np.testing.assert_allclose(network(real, threads=threads), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="expected"):
        network.quantize(np.zeros((1, *source.shape[1:], 2)))
    with pytest.raises(ValueError, match="not a number"):
        network.quantize(np.full_like(real, np.nan))
