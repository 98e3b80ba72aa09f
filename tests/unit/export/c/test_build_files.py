"""What is written around the C: build files for cores, reports, and a header that C++ reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitwright.errors import DoesNotFit, ExportError, UnknownTarget
from bitwright.export.c.writer import random_samples, write
from bitwright.export.c_library import export_c, parse_bytes, read_c
from bitwright.export.running import make_codes
from bitwright.mcu import host
from bitwright.mcu.firmware import sizes
from bitwright.mcu.microcontrollers import microcontrollers
from bitwright.program.prune import prune
from bitwright.quantized import Quantized
from bitwright.simulate import reference
from zoo_programs import quantized

CPLUSPLUS = """\
#include "{prefix}.h"
#include "{prefix}.h" /* twice does no harm */
#include <cstdio>
#include <vector>
#if {upper}_HOOKS
static int calls;
static void count(void *, int, const void *) {{ calls++; }}
#endif
int main()
{{
    std::vector<int64_t> arena({upper}_ARENA_BYTES / 8 + 1);
    std::vector<int8_t> in({upper}_INPUT_SIZE), out({upper}_OUTPUT_SIZE);
    for (auto &v : in) {{
        int c = std::getchar();
        v = static_cast<int8_t>(c);
    }}
#if {upper}_HOOKS
    if ({prefix}_run_hooked(in.data(), out.data(), arena.data(), count, nullptr) != 0 || calls != {upper}_STEPS) {{
        return 1;
    }}
#else
    if ({prefix}_run(in.data(), out.data(), arena.data()) != 0) {{
        return 1;
    }}
#endif
    std::fwrite(out.data(), 1, out.size(), stdout);
    return 0;
}}
"""


@pytest.mark.parametrize("hooks", [0, 1])
def test_a_cplusplus_program_uses_the_network(hooks: int, tmp_path: Path) -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    tree = write(program, tmp_path, core="cortex-m4")
    upper = tree.prefix.upper()
    (tmp_path / "main.cpp").write_text(CPLUSPLUS.format(prefix=tree.prefix, upper=upper))
    defined = f"-D{upper}_HOOKS={hooks}"
    for name in tree.library_sources:
        subprocess.run(
            ["gcc", "-c", "-O1", "-fno-strict-aliasing", defined, "-DBW_WEIGHTS_SECTION=__attribute__((section(\".rodata.net\")))",
             name, "-o", f"{name}.o"], cwd=tmp_path, check=True,
        )  # fmt: skip
    objects = [f"{name}.o" for name in tree.library_sources]
    subprocess.run(
        ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", defined, "main.cpp", *objects, "-o", "main"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    sample = random_samples(program, 1, seed=4)[0]
    name, out = program.inputs[0], program.outputs[0]
    given = np.asarray(tree.layouts[name].stored(sample[name]), np.int8).tobytes()
    done = subprocess.run([tmp_path / "main"], input=given, capture_output=True, check=True)
    got = tree.layouts[out].restored(np.frombuffer(done.stdout, np.int8))
    np.testing.assert_array_equal(got, reference.run(program, sample)[out])
    headers = subprocess.run(
        ["objdump", "-h", f"{tree.prefix}_weights.c.o"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ".rodata.net" in headers.stdout


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55", "rv32imc"])
def test_the_makefile_builds_for_the_core(core: str, tmp_path: Path) -> None:
    tree = write(quantized("mlp", "mcu-cmsis-nn"), tmp_path, core=core)
    cflags = ["CFLAGS=-O2 -ffreestanding"] if core == "rv32imc" else []
    include = Path(host.__file__).parent / "firmware" / "include"
    if cflags:  # that compiler comes without a C library
        cflags[0] += f" -I{include}"
    subprocess.run(["make", "-s", "-C", tmp_path, *cflags], check=True, timeout=120)
    objects = tmp_path / f"{tree.prefix}.o"
    assert objects.read_bytes()[4] == 1, "an ELF file of 32 bits"
    machine = int.from_bytes(objects.read_bytes()[18:20], "little")
    assert machine == (243 if core == "rv32imc" else 40)
    assert sizes(objects).flash_bytes > 0
    subprocess.run(["make", "-s", "-C", tmp_path, "clean"], check=True)
    done = subprocess.run(["make", "-s", "-C", tmp_path, "check"], check=True, capture_output=True, text=True)
    assert "PASS" in done.stdout


@pytest.mark.parametrize("core", microcontrollers())
def test_build_files_name_the_flags_of_the_core(core: str, tmp_path: Path) -> None:
    write(quantized("mlp", "mcu-cmsis-nn"), tmp_path, core=core)
    flags = microcontrollers()[core].flags
    assert f"ARCH ?= {' '.join(flags)}\n" in (tmp_path / "Makefile").read_text()
    cmake = (tmp_path / "CMakeLists.txt").read_text()
    assert ";".join(flags) in cmake
    assert "CMAKE_CROSSCOMPILING" in cmake


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    from bitwright.api import quantize
    from command_line import CALIB, MODEL

    return quantize(MODEL, CALIB, "mcu-cmsis-nn")


def test_reports_hold_measured_instructions_where_a_board_can_be_run(digits: Quantized, tmp_path: Path) -> None:
    counted = export_c(digits, tmp_path / "a", core="cortex-m4")
    guessed = export_c(digits, tmp_path / "b", core="cortex-m4", measure="no")
    assert counted.facts["instructions_basis"].startswith("measured on qemu:mps2-an386, arm-none-eabi-gcc")
    assert guessed.facts["instructions_basis"].startswith("estimated for cortex-m4")
    assert guessed.facts["instructions"] == pytest.approx(counted.facts["instructions"], rel=0.1)
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["instructions"]["total"] == counted.facts["instructions"]
    assert sum(row["instructions"] for row in report["layers"]) == pytest.approx(
        report["instructions"]["total"], rel=0.1
    )
    assert report["flash"]["linked_bytes"] == counted.facts["flash_bytes"]
    assert 0 < report["ram"]["stack_bytes"] < 2000
    text = (tmp_path / "a" / "report.txt").read_text()
    for row in report["layers"]:
        assert f"{row['layer']}, {row['op']}: {row['by']}" in text
    for block in report["ram"]["blocks"]:
        assert f"{block['bytes']:,}" in text
    assert "measured on" in text
    assert "#" in text
    portable = export_c(digits, tmp_path / "c")
    assert portable.facts["instructions_basis"].startswith("estimated for cortex-m4")
    assert portable.facts["instructions"] > 2 * counted.facts["instructions"]
    again = export_c(digits, tmp_path / "d", core="cortex-m4")
    assert again.facts["instructions"] == counted.facts["instructions"]
    codes = make_codes(
        digits, [np.zeros((2, *digits.program.buffers[digits.program.inputs[0]].shape[1:]), np.float32)], "zeros"
    )
    assert read_c(digits, counted, codes).differing == 0


def test_options_that_cannot_be_meant(digits: Quantized, tmp_path: Path) -> None:
    with pytest.raises(UnknownTarget, match="Did you mean cortex-m4"):
        export_c(digits, tmp_path, core="cortexm4")
    with pytest.raises(ExportError, match="auto, yes or no"):
        export_c(digits, tmp_path, measure="maybe")
    with pytest.raises(ExportError, match="give one"):
        export_c(digits, tmp_path, measure="yes")
    with pytest.raises(ExportError, match="256k"):
        export_c(digits, tmp_path, flash="a lot")
    assert [parse_bytes("ram", x) for x in (None, "65536", "64k", "1M", "0.5m", "32kB")] == [
        None, 65536, 65536, 1 << 20, 1 << 19, 32768,
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_says_what_would(digits: Quantized, tmp_path: Path) -> None:
    tree = write(prune(digits.program)[0], tmp_path, contract=digits.contract)
    arena, flash = tree.plan.arena_bytes, tree.report["flash"]["estimate_bytes"]
    with pytest.raises(DoesNotFit) as small:
        export_c(digits, tmp_path, ram=str(arena - 100))
    words = str(small.value)
    assert f"{arena} bytes of RAM and there are {arena - 100}: 100 too many" in words
    assert tree.report["ram"]["busiest_step"]["layer"] in words
    assert "of the height and width" in words
    assert "KiB for the arena (qemu:" in words
    with pytest.raises(DoesNotFit) as narrow:
        export_c(digits, tmp_path, flash=str(flash - 500), measure="no")
    words = str(narrow.value)
    assert "500 too many" in words
    largest = max(tree.report["layers"], key=lambda row: row["constant_bytes"])
    assert f"'{largest['layer']}' {largest['constant_bytes']}" in words
    assert "% of the constants" in words
    with pytest.raises(DoesNotFit, match="Even without constants"):
        export_c(digits, tmp_path, flash="1k")
