from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitwright.data.contract import InputContract
from bitwright.errors import DoesNotFit, ExportError, ToolMissing, UnsupportedOp
from bitwright.export.c.writer import Exported, random_samples, write
from bitwright.mcu import host
from bitwright.mcu.library import Library
from bitwright.number.format import Format, Rounding
from bitwright.program.forms import Island
from bitwright.program.program import Program
from unit.export.c.programs import Net

HOSTILE = (
    'quote" back\\slash', "*/ int main", "??/", "line\nbreak", "int", "conv a", "conv-a", "名前", "a" * 300, "\x1b[2J", "%s%n",
)  # fmt: skip


def small(name: str = "net", *, format: Format | None = None, layers: tuple[str, ...] = ("a", "b")) -> Program:
    net = Net(name, format) if format else Net(name)
    x = net.input(1, 3, 6, 5)
    y = x
    for layer in layers:
        y = net.conv(y, 4, 3, pad=1, layer=layer)
    return net.program(net.table(y))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def test_what_is_written(tmp_path: Path) -> None:
    tree = write(small(), tmp_path / "out")
    expected = {
        "net.h", "net.c", "net_weights.c", "net_kernels.h", "net_kernels.c", "net_test.c", "net_vectors.h",
        "net_serial.c", "CMakeLists.txt", "Makefile", "report.json", "report.txt",
    }  # fmt: skip
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(tree.files) == expected
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["ram"]["arena_bytes"] == tree.plan.arena_bytes
    blocks = report["ram"]["blocks"]
    assert all(b["offset"] + b["bytes"] <= report["ram"]["arena_bytes"] for b in blocks)
    assert report["flash"]["weights_bytes"] == 3 * 4 * 9 + 4 * 4 * 9
    assert [row["layer"] for row in report["layers"]] == ["a", "b", "table"]


def test_only_the_kernels_used_are_written(tmp_path: Path) -> None:
    write(small(), tmp_path)
    text = (tmp_path / "net_kernels.c").read_text()
    assert "bw_conv_s8_s8_s8_shift" in text
    assert "depthwise" not in text
    assert "pointwise" not in text


def test_the_same_program_gives_the_same_files(tmp_path: Path) -> None:
    a, b = write(small(), tmp_path / "a"), write(small(), tmp_path / "b")
    for file in a.files:
        assert (a.directory / file).read_bytes() == (b.directory / file).read_bytes()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out(name: str, tmp_path: Path) -> None:
    program = small(name, layers=HOSTILE)
    tree = write(program, tmp_path)
    assert tree.prefix.isidentifier()
    assert tree.prefix.isascii()
    assert host.self_test(tree).startswith("PASS")


def test_the_header_is_for_cpp_too_and_two_networks_link_together(tmp_path: Path) -> None:
    trees = [write(small(name), tmp_path / name) for name in ("first", "second")]
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler, "a C++ compiler is needed: apt install g++"
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "first.h"\n#include "second.h"\n#include <cstdint>\n'
        "alignas(8) static unsigned char arena[FIRST_ARENA_BYTES + SECOND_ARENA_BYTES];\n"
        "static std::int8_t in[FIRST_INPUT_SIZE], out[FIRST_OUTPUT_SIZE];\n"
        "int main() { return first_run(in, out, arena) + second_run(in, out, arena); }\n"
    )
    objects = []
    for tree in trees:
        for source in tree.library_sources:
            objects.append(str(tmp_path / f"{source}.o"))
            subprocess.run(
                [*host.compiler(), *host.WARNINGS, "-c", tree.directory / source, "-o", objects[-1]], check=True
            )
    folders = [f"-I{tree.directory}" for tree in trees]
    warnings = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([compiler, *warnings, *folders, main, *objects, "-o", tmp_path / "main", "-lm"], check=True)
    subprocess.run([tmp_path / "main"], check=True)


@pytest.mark.parametrize("flags", [("-O0",), ("-Os",), ("-O3", "-Wshadow", "-Wconversion", "-Wno-sign-conversion")])
def test_the_interface_compiles_with_other_options(flags: tuple[str, ...], tmp_path: Path) -> None:
    assert host.self_test(write(small(), tmp_path), flags=flags[:1]).startswith("PASS")


def test_cmake_and_make_files_work(tmp_path: Path) -> None:
    tree = write(small(), tmp_path)
    done = subprocess.run(
        ["make", "-C", tree.directory, "check", f"CC={host.compiler()[0]}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS 1 vectors, 3 steps" in done.stdout
    text = (tree.directory / "CMakeLists.txt").read_text()
    for source in tree.library_sources:
        assert source in text


def test_a_missing_pointer_and_a_crooked_arena_are_refused(tmp_path: Path) -> None:
    program = small()
    library = Library(write(program, tmp_path), program)
    run = library._run
    arena = np.zeros(library.arena_bytes // 8 + 2, np.int64)
    given, made = np.zeros(90, np.int8), np.zeros(120, np.int8)
    assert run(pointer(given), pointer(made), pointer(arena)) == 0
    assert run(None, pointer(made), pointer(arena)) == -1
    assert run(pointer(given), pointer(made), None) == -1
    assert run(pointer(given), pointer(made), ctypes.c_void_p(arena.ctypes.data + 4)) == -1
    result = made.copy()
    assert run(pointer(given), None, pointer(arena)) == 0  # the result stays in the arena
    header = (tmp_path / "net.h").read_text()
    offset = int(header.split("NET_OUTPUT_OFFSET ")[1].split()[0])
    np.testing.assert_array_equal(arena.view(np.int8)[offset : offset + 120], result)


def test_the_input_may_lie_at_its_offset_in_the_arena(tmp_path: Path) -> None:
    program = small()
    library = Library(write(program, tmp_path), program)
    arena = np.zeros(library.arena_bytes // 8 + 1, np.int64)
    sample = random_samples(program, 1)[0]
    want = library.run(sample)[program.outputs[0]]
    offset = int((tmp_path / "net.h").read_text().split("NET_INPUT_OFFSET ")[1].split()[0])
    flat = library.stored("x", sample["x"])
    arena.view(np.int8)[offset : offset + flat.size] = flat
    made = np.zeros(120, np.int8)
    assert library._run(ctypes.c_void_p(arena.ctypes.data + offset), pointer(made), pointer(arena)) == 0
    got = library.tree.layouts[program.outputs[0]].restored(made)
    np.testing.assert_array_equal(got, want)


FORMATS = {
    "int8": Format(8, True, np.asarray(1 / 57), np.asarray(-3)),
    "uint8": Format(8, False, np.asarray(0.0173), np.asarray(120)),
    "pow2": Format.power_of_two(8, -5),
}
CONTRACTS = {
    "plain": InputContract(),
    "each": InputContract(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    "bgr": InputContract(color="BGR", mean=(104.0, 117.0, 123.0), std=(10.0, 20.0, 30.0)),
    "one": InputContract(mean=(127.5,), std=(127.5,)),
}


@pytest.mark.parametrize("contract", sorted(CONTRACTS))
@pytest.mark.parametrize("format", sorted(FORMATS))
def test_pixels_become_the_integers_that_were_measured(format: str, contract: str, tmp_path: Path) -> None:
    program = small(format=FORMATS[format])
    bound = CONTRACTS[contract].bind((1, 3, 6, 5), name="x")
    library = Library(write(program, tmp_path, contract=bound), program)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    buffer = program.buffers["x"]
    made = np.zeros(90, buffer.format.dtype)
    library.handle.net_quantize_pixels(pointer(pixels), pointer(made))
    want = buffer.format.quantize(bound.apply(pixels)[None], program.input_rounding)
    np.testing.assert_array_equal(library.tree.layouts["x"].restored(made), want)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("format", sorted(FORMATS))
def test_floats_become_the_integers_of_the_format(format: str, rounding: Rounding, tmp_path: Path) -> None:
    net = Net("net", FORMATS[format])
    x = net.input(1, 3, 40, 5)
    program = net.build.build(
        net.inputs, [net.conv(x, 2).name], batchable=True, input_rounding=rounding
    )  # fmt: skip
    library = Library(write(program, tmp_path), program)
    step, zero = float(x.format.scale), int(x.format.zero_point)
    codes = np.linspace(x.format.lo - 4, x.format.hi + 4, 600)
    codes[::3] = np.floor(codes[::3]) + 0.5  # ties, for scales that have them
    real = ((codes - zero) * step).astype(np.float32).reshape(1, 3, 40, 5)
    made = np.zeros(600, x.format.dtype)
    assert library.handle.net_quantize_input_f32(pointer(real), pointer(made)) == 0
    np.testing.assert_array_equal(library.tree.layouts["x"].restored(made), x.format.quantize(real, rounding))
    real[0, 0, 0, 0], real[0, 0, 0, 1], real[0, 0, 0, 2] = np.nan, np.inf, -np.inf
    assert library.handle.net_quantize_input_f32(pointer(real), pointer(made)) == -1
    restored = library.tree.layouts["x"].restored(made)
    assert restored[0, 0, 0, :3].tolist() == [zero, x.format.hi, x.format.lo]


def test_integers_become_reals_and_the_best_classes_are_found(tmp_path: Path) -> None:
    net = Net("net", FORMATS["int8"])
    program = net.program(net.conv(net.input(1, 3, 1, 1), 40))
    library = Library(write(program, tmp_path, contract=InputContract().bind((1, 3, 1, 1), name="x")), program)
    codes = np.random.default_rng(1).integers(-8, 8, 40).astype(np.int8)
    real = np.zeros(40, np.float32)
    library.handle.net_dequantize_output(pointer(codes), pointer(real))
    np.testing.assert_allclose(real, FORMATS["int8"].dequantize(codes), rtol=1e-6)
    best = np.zeros(5, np.int32)
    assert library.handle.net_top_k(pointer(codes), 5, pointer(best)) == 5
    assert best.tolist() == np.argsort(-codes.astype(int), kind="stable")[:5].tolist()
    assert library.handle.net_top_k(pointer(codes), 0, pointer(best)) == 0


def test_what_does_not_fit_says_by_how_much_and_where(tmp_path: Path) -> None:
    program = small()
    tree = write(program, tmp_path)
    with pytest.raises(DoesNotFit, match=r"1 too many.*layer '[ab]'") as ram:
        write(program, tmp_path, ram_bytes=tree.plan.arena_bytes - 1)
    assert (ram.value.need_bytes, ram.value.have_bytes) == (tree.plan.arena_bytes, tree.plan.arena_bytes - 1)
    with pytest.raises(DoesNotFit, match="flash"):
        write(program, tmp_path, flash_bytes=100)
    write(program, tmp_path, ram_bytes=tree.plan.arena_bytes, flash_bytes=1 << 20)


def test_float_islands_are_refused_by_name(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 3, 2, 2)
    net.build.enter("resample", "GridSample", [])
    out = net.build.buffer(x.shape, net.format)
    island = Island(model=net.build.tensor("m", np.zeros(1, np.uint8)), reason="no integer form", feeds=(), fetches=())
    net.build.step(island, [x], [out])
    with pytest.raises(UnsupportedOp, match=r"'resample'.*no integer form") as error:
        write(net.program(out), tmp_path)
    assert (error.value.op, error.value.layer) == ("GridSample", "resample")


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="-o"):
        write(small(), tmp_path / "file" / "out")


def test_a_missing_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree: Exported = write(small(), tmp_path)
    with pytest.raises(ToolMissing, match="apt install gcc") as error:
        host.self_test(tree, cc="no-such-compiler")
    assert error.value.tool == "no-such-compiler"
    monkeypatch.setattr(host.shutil, "which", lambda _: None)
    monkeypatch.setitem(__import__("sys").modules, "ziglang", None)
    with pytest.raises(ToolMissing, match="No C compiler"):
        host.compiler()
