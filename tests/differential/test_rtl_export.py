"""The exported processor: its bench passes and can fail, on both buses; its C driver computes the reference's integers."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import fpga_programs
import zoo_programs
from bitwright.errors import ExportError, UnknownTarget, UnsupportedOp
from bitwright.export.c.writer import random_samples
from bitwright.export.rtl import simulated
from bitwright.export.rtl.bench import bench, models
from bitwright.export.rtl.exporter import EXPORTER
from bitwright.export.rtl.network_c import Driver, network_files, processor_files
from bitwright.export.rtl.readme import makefile
from bitwright.fpga.config import ProcessorConfig, load_config
from bitwright.fpga.image import Image, compile_program
from bitwright.fpga.registers import BY_NAME
from bitwright.fpga.verilog import BUSES, Bus, verilog
from bitwright.program.forms import Island
from bitwright.program.program import Program
from bitwright.simulate import reference
from exported_rtl import Model, command, equal, run_bench
from exports import quantized

CONFIG = load_config("sim-tiny")


def write_bench(folder: Path, program: Program, bus: Bus, config: ProcessorConfig = CONFIG) -> Path:
    """A bench of one random sample."""
    image = compile_program(program, config)
    found = bench(image, random_samples(program, 1)[0], bus)
    (folder / "bench").mkdir(parents=True)
    (folder / "rtl").mkdir()
    for name, text in found.files.items():
        (folder / "bench" / name).write_text(text)
    hardware = verilog(config, bus)
    (folder / "rtl" / "processor.v").write_text(hardware)
    for name, text in models(hardware).items():
        (folder / "bench" / name).write_text(text)
    return folder


# ---------------------------------------------------------------- test benches


@pytest.mark.parametrize("bus", BUSES)
@pytest.mark.parametrize("seed", range(2))
def test_random_programs_pass_with_stalls_and_without(bus: Bus, seed: int, tmp_path: Path) -> None:
    folder = write_bench(tmp_path / "out", fpga_programs.random_program(seed + 201, steps=4), bus)
    cycles = []
    for stall in (0, 60):
        said = run_bench(folder, stall=stall, seed=seed)
        assert re.search(r"^PASS: [1-9]\d* bytes compared, 0 differ$", said, re.MULTILINE), said
        cycles.append(sum(int(n) for n in re.findall(r"(\d+) cycles", said)))
    assert cycles[1] > cycles[0]


@pytest.mark.parametrize("bus", BUSES)
def test_a_network_with_steps_on_the_host(bus: Bus, tmp_path: Path) -> None:
    program = zoo_programs.quantized("pools", "fpga")
    folder = write_bench(tmp_path / "out", program, bus)
    said = run_bench(folder)
    assert "PASS" in said, said


def test_what_was_never_written_changes_nothing(tmp_path: Path) -> None:
    """Results of four channels leave half of a word as it was, and whoever reads it multiplies that half by 0."""
    folder = write_bench(tmp_path / "out", zoo_programs.quantized("fire", "fpga"), "axi4", replace(CONFIG, pp=1, icp=8))
    said = run_bench(folder)
    assert "PASS" in said, said
    assert "1'b1}};\n`endif" in (folder / "rtl" / "processor.v").read_text()


def test_multipliers_of_a_device_have_a_model(tmp_path: Path) -> None:
    program = zoo_programs.quantized("mlp", "fpga")
    folder = write_bench(tmp_path / "out", program, "wishbone", load_config("up5k"))
    said = run_bench(folder)
    assert "PASS" in said, said
    assert (folder / "bench" / "SB_MAC16.v").exists()
    assert "SB_MAC16.v" in makefile(["SB_MAC16.v"])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench that passes."""
    return write_bench(tmp_path_factory.mktemp("good") / "out", fpga_programs.random_program(203, steps=3), "axi4")


def changed(good: Path, folder: Path, file: str, line: int, digit: int) -> Path:
    """The same with one digit of a file changed."""
    shutil.copytree(good, folder)
    path = folder / "bench" / file
    lines = path.read_text().splitlines()
    old = lines[line][digit]
    lines[line] = lines[line][:digit] + ("1" if old == "0" else "0") + lines[line][digit + 1 :]
    path.write_text("\n".join(lines) + "\n")
    return folder


def test_a_changed_expected_byte_fails(good: Path, tmp_path: Path) -> None:
    assert "PASS" in run_bench(good)
    lines = (good / "bench" / "expected_0.hex").read_text().splitlines()
    # A digit of the lowest byte, which every pixel has.
    folder = changed(good, tmp_path / "out", "expected_0.hex", 1, len(lines[1]) - 1)
    said = run_bench(folder)
    assert re.search(r"^FAIL: 1 of \d+ bytes differ, 0 faults", said, re.MULTILINE), said
    assert re.search(r"byte [0-9a-f]{8} is [0-9a-f]{2}, expected [0-9a-f]{2}\n +in tensor \w+", said), said
    assert "PASS" not in said


def test_a_changed_weight_fails(good: Path, tmp_path: Path) -> None:
    program = fpga_programs.random_program(203, steps=3)
    image = compile_program(program, CONFIG)
    region = next(r for r in image.regions if r.name == "ConvWeightDataOffset")
    line = 1 + (region.offset - image.memory_offset) // CONFIG.bus.bytes
    shutil.copytree(good, tmp_path / "out")
    path = tmp_path / "out" / "bench" / "image.hex"
    lines = path.read_text().splitlines()
    for at in range(line, line + 64):
        lines[at] = f"{int(lines[at], 16) ^ 0x10101010:08x}"
    path.write_text("\n".join(lines) + "\n")
    assert "FAIL" in run_bench(tmp_path / "out")


def test_another_fingerprint_fails(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "out")
    path = tmp_path / "out" / "bench" / "testbench.v"
    path.write_text(re.sub(r"FINGERPRINT = 32'h[0-9a-f]{8}", "FINGERPRINT = 32'h00000001", path.read_text()))
    said = run_bench(tmp_path / "out")
    assert f"FAIL: the processor is {CONFIG.fingerprint:08x}, the program is for 00000001" in said


# ---------------------------------------------------------------- the C driver


def built(image: Image, folder: Path, name: str = "net") -> tuple[Driver, simulated.Driven]:
    """The driver, compiled with every warning an error."""
    driver = network_files(image, name, None)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in driver.files.items():
        (folder / file).write_text(text)
    simulated.compiled_driver(folder, driver.sources, folder / "driver.so")
    command(["gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-o", "example", "example.c",
             *driver.sources, "-lm"], folder)  # fmt: skip
    return driver, simulated.Driven(folder / "driver.so", driver.prefix, image.program, driver.arena_bytes)


def programs() -> dict[str, Program]:
    """Random ones, and networks with gathered columns, concatenations and steps of the host in the middle."""
    found = {f"random{seed}": fpga_programs.random_program(seed) for seed in range(300, 304)}
    return found | {
        n: zoo_programs.quantized(n, "fpga") for n in ("fire", "pools", "residual", "shuffle", "mlp", "unet", "audio")
    }


@pytest.mark.parametrize(
    ("name", "config"),
    [*((name, "sim-tiny") for name in programs()), *((name, "ecp5-25f") for name in ("fire", "residual", "unet"))],
)
def test_the_driver_computes_the_reference(name: str, config: str, tmp_path: Path) -> None:
    program = programs()[name]
    image = compile_program(program, load_config(config))
    _, driven = built(image, tmp_path, name)
    model = Model(image, base=0x40000000)
    assert driven.load(model.processor, image.memory.tobytes()) == 0
    for sample in random_samples(program, 2):
        result, outputs, cycles = driven.run(model.processor, sample)
        assert result == 0
        assert cycles == len(model.segments) * ((1 << 32) + 7)
        equal(outputs, reference.run(program, sample))


def test_an_end_to_end_network_on_the_exported_hardware(tmp_path: Path) -> None:
    """The exported Verilog and the exported C, on a memory that refuses half of the time and does not begin at 0."""
    program = fpga_programs.random_program(201, steps=3)
    image = compile_program(program, CONFIG)
    driver, driven = built(image, tmp_path)
    (tmp_path / "processor.v").write_text(verilog(CONFIG, "axi4"))
    library = simulated.simulator(tmp_path / "processor.v", "axi4", "verilator")
    bus = CONFIG.bus
    hardware = simulated.Hardware(library, image.size_bytes, bus.bytes, bus.latency_cycles, base=0x10000000)
    hardware.stall(50)
    sample = random_samples(program, 1)[0]
    ran = simulated.run_samples(driven, hardware, image.memory.tobytes(), sample)
    equal(ran.outputs, reference.run(program, sample))
    assert ran.cycles > 0
    assert driver.host_steps == 0


def test_the_driver_says_what_is_wrong(tmp_path: Path) -> None:
    program = fpga_programs.random_program(300)
    image = compile_program(program, CONFIG)
    _, driven = built(image, tmp_path)
    data = image.memory.tobytes()
    sample = random_samples(program, 1)[0]

    def loaded(model: Model, given: bytes = data) -> str:
        return driven.message(driven.load(model.processor, given))

    assert loaded(Model(image)) == "done"
    assert "not that of this network" in loaded(Model(image), data[:-1])
    assert "not that of this network" in loaded(Model(image), bytes([data[0] ^ 1]) + data[1:])
    assert "multiple of 4096" in loaded(Model(image, base=2048))
    for name in ("FINGERPRINT", "VERSION"):
        other = Model(image)
        other.values[name] += 1
        assert "another configuration" in loaded(other)
        assert not other.writes
    absent = Model(image)
    absent.values["IDENTITY"] = 0xFFFFFFFF
    assert "no processor" in loaded(absent)
    for refused in ("write_memory", "read_register"):
        broken = Model(image)
        broken.refuse = {refused}
        assert "could not be reached" in loaded(broken)
    endless = Model(image)
    assert loaded(endless) == "done"
    endless.ends, endless.patience = False, 5
    assert "did not end" in driven.message(driven.run(endless.processor, sample)[0])
    assert endless.waited == 6
    faulty = Model(image)
    assert loaded(faulty) == "done"
    faulty.fault = True
    assert "with an error" in driven.message(driven.run(faulty.processor, sample)[0])


def test_registers_in_c_are_those_of_the_map() -> None:
    header = processor_files()["bitwright_processor.h"]
    assert {m[0]: int(m[1], 16) for m in re.findall(r"#define BWP_(\w+) 0x([0-9a-f]{2})u /\* read", header)} == {
        name: register.offset for name, register in BY_NAME.items()
    }


# ---------------------------------------------------------------- the exporter


def test_hostile_names(tmp_path: Path) -> None:
    program = fpga_programs.random_program(205, steps=3)
    evil = '*/ "$finish; `define x %s \\\n??/ end'
    renamed = replace(
        program,
        name=evil,
        steps=tuple(replace(step, layer=f"{evil}{at}", op=evil) for at, step in enumerate(program.steps)),
    )
    image = compile_program(renamed, CONFIG)
    _, driven = built(image, tmp_path / "c", evil)
    model = Model(image)
    assert driven.load(model.processor, image.memory.tobytes()) == 0
    folder = write_bench(tmp_path / "bench", renamed, "wishbone")
    assert "PASS" in run_bench(folder)


def test_the_folder_of_an_export(tmp_path: Path) -> None:
    q = quantized("residual", "fpga")
    report = EXPORTER.export(q, tmp_path / "out", config="sim-tiny", bus="wishbone")
    names = {str(path.relative_to(tmp_path / "out")) for path in report.files}
    assert {"README.md", "rtl/processor.v", "image/image.bin", "bench/testbench.v", "driver/example.c"} <= names
    assert report.files[0].name == "README.md"
    again = load_config(tmp_path / "out" / "rtl" / "configuration.toml")
    assert again == CONFIG
    image = compile_program(q.program, CONFIG)
    assert (tmp_path / "out" / "image" / "image.bin").read_bytes() == image.memory.tobytes()
    done = command(["make", "-s", "-C", "bench", "STALL=20"], tmp_path / "out")
    assert "PASS" in done.stdout
    for path in report.files:  # nothing of a template is left
        assert not re.search(rb"@[A-Z_]+@", path.read_bytes()), path
    listing = (tmp_path / "out" / "image" / "program.txt").read_text()
    assert sum(bool(re.match(r"[0-9a-f]{8}  (LOAD|CONV|VEC|STORE)", line)) for line in listing.splitlines()) == len(
        image.instructions()
    )


def test_what_is_refused(tmp_path: Path) -> None:
    q = quantized("residual", "fpga")
    with pytest.raises(ExportError, match="axi4 or wishbone, not 'pci'"):
        EXPORTER.export(q, tmp_path, config="sim-tiny", bus="pci")
    with pytest.raises(UnknownTarget, match="Did you mean sim-tiny"):
        EXPORTER.export(q, tmp_path, config="simtiny")
    with pytest.raises(ExportError, match=r"No step of this network runs on the processor .*--target fpga"):
        EXPORTER.export(quantized("residual", "generic"), tmp_path, config="sim-tiny")
    assert not list(tmp_path.iterdir())
    big = replace(CONFIG, bus=replace(CONFIG.bus, bytes=4, burst_beats=512))
    with pytest.raises(ExportError, match=r"does not go on AXI4: a burst of 512 beats"):
        verilog(big, "axi4")


def test_float_pieces_are_refused(tmp_path: Path) -> None:
    q = quantized("attention", "fpga")
    assert any(isinstance(step.form, Island) for step in q.program.steps)
    with pytest.raises(UnsupportedOp, match=r"computed in float, which neither the processor nor generated C does"):
        EXPORTER.export(q, tmp_path, config="sim-tiny")
