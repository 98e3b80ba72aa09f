"""Boards behind one switch: ``deploy``, ``validate --board`` and ``estimate`` keep the promises of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.boards.board import Job
from bitwright.boards.registry import board_names, find_board, nearest
from bitwright.cli import COMMANDS
from bitwright.commands import catalog
from bitwright.deploying import deploy, random_inputs
from bitwright.errors import DataError, ToolMissing, UnknownTarget, UnsupportedOp
from bitwright.estimating import estimate
from bitwright.mcu import firmware
from bitwright.mcu.board import FOLDER
from bitwright.mcu.microcontrollers import find_core, microcontrollers
from bitwright.program.forms import Island
from bitwright.simulate import reference
from command_line import CALIB, MODEL, VAL, Line, apart, one_paragraph
from zoo_programs import quantized

FILE = "digits.bw"


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, made: Path) -> Line:
    monkeypatch.chdir(made)
    monkeypatch.setenv("COLUMNS", "100")
    return Line(capsys)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quantized network."""
    folder = tmp_path_factory.mktemp("made")
    answer = apart("quantize", MODEL, "--data", CALIB, "--target", "mcu-cmsis-nn", "-o", FILE, cwd=folder)
    assert answer.code == 0, answer.err
    return folder


def test_the_boards_of_the_help_are_those_of_the_registry() -> None:
    assert catalog.board_titles().keys() <= board_names().keys()
    assert {"deploy", "estimate"} <= set(COMMANDS)


@pytest.mark.parametrize("board", ["host", "qemu:mps2-an386"])
def test_deploy_says_what_it_costs_and_that_it_is_equal(line: Line, board: str) -> None:
    answer = line("deploy", FILE, "--board", board, "--json", "--quiet")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    found = answer.json
    unit = "cycles" if board == "host" else "instructions"
    assert found[unit] > 0
    assert found["frames_per_s"] > 0
    assert found["outputs_checked"] > 0
    assert found["mismatches"] == 0
    assert found["memory"]["arena_bytes"] == found["memory"]["arena_bound_bytes"] > 0
    assert sum(row["macs"] for row in found["layers"]) == found["macs"] > 0
    assert sum(row[unit] for row in found["layers"]) == pytest.approx(found[unit], rel=0.5)
    assert all(block["first_step"] <= block["last_step"] for block in found["memory"]["map"])
    if board != "host":
        assert found["memory"]["flash_bytes"] < found["memory"]["limits"]["flash_bytes"]


def test_deploy_for_people(line: Line, tmp_path: Path) -> None:
    answer = line("deploy", FILE, "--board", "qemu:an386", "--data", VAL, "--samples", 3, "--keep", tmp_path / "out")
    assert answer.code == 0, answer.err
    for words in (
        "qemu:mps2-an386",
        "integers are those of the reference",
        "3 samples",
        "Instructions",
        "/MAC",
        "Arena of",
    ):
        assert words in answer.out
    assert (tmp_path / "out" / "Makefile").is_file()
    assert len(answer.out.splitlines()[0]) <= 100


def test_validate_runs_the_metric_on_a_board(line: Line) -> None:
    given = ("validate", FILE, "--data", VAL, "--samples", 40, "--json", "--quiet", "--metric", "sqnr", "--min", 99)
    simulated = line(*given)
    found = line(*given, "--board", "qemu:mps3-an547")
    assert simulated.code == found.code == 1
    assert found.json["bit_exact"]["engine"].startswith("qemu:mps3-an547 (arm-none-eabi-gcc")
    assert found.json["bit_exact"]["values_checked"] == simulated.json["bit_exact"]["values_checked"] + 40 * 10
    for key in ("samples", "metric", "float", "quantized", "agreement", "output_sqnr_db"):
        assert found.json[key] == simulated.json[key]
    q = bitwright.Quantized.load(FILE)
    assert bitwright.validate(q, VAL, "top1", samples=5, board="host").engine.startswith("host (")


def test_estimate_is_the_same_every_time_and_near_the_count(line: Line) -> None:
    first = line("estimate", FILE, "--core", "cortex-m4", "--json")
    assert first.code == 0, first.err
    assert (
        first.out == line("estimate", FILE, "--core", "cortex-m4", "--json").out == line("estimate", FILE, "--json").out
    )
    counted = line("deploy", FILE, "--board", "qemu:mps2-an386", "--json", "--quiet").json
    assert first.json["instructions"] == pytest.approx(counted["instructions"], rel=0.1)
    assert first.json["memory"]["flash_bytes"] == pytest.approx(counted["memory"]["flash_bytes"], rel=0.25)
    assert first.json["basis"] == "estimated"
    faster = line("estimate", FILE, "--clock", 240, "--json").json
    assert faster["frames_per_s"] == pytest.approx(2 * first.json["frames_per_s"], rel=0.001)
    assert "Frames/s" in line("estimate", FILE).out


def test_what_cannot_be_meant_is_refused(line: Line) -> None:
    one_paragraph(line("deploy", FILE, "--board", "qemu:mps2-an38"), "Did you mean qemu:mps2-an386", "host")
    one_paragraph(line("deploy", FILE, "--board", "cortex-m7"), "Did you mean qemu:mps2-an500")
    one_paragraph(line("deploy", "none.bw", "--board", "ulx3"), "no board")
    one_paragraph(line("deploy", FILE, "--board", "host", "--core", "cortex-m44"), "Did you mean cortex-m4")
    one_paragraph(line("deploy", FILE, "--board", "qemu:an386", "--compiler", "icc"), "gcc or zig")
    one_paragraph(line("deploy", FILE, "--board", "host", "--config", "16x16"), "has no config")
    one_paragraph(line("estimate", FILE, "--core", "cortex-m4", "--config", "x"), "not for both")
    one_paragraph(line("validate", FILE, "--data", VAL, "--core", "cortex-m4"), "--board")
    one_paragraph(line("deploy", FILE, "--board", "serial:/dev/none"), "cannot be opened")
    one_paragraph(line("deploy", "none.bw", "--board", "host"), "none.bw")
    one_paragraph(line("deploy", FILE, "--board", "host", "--kernels", "cmsis-nn"), "library of yours")
    one_paragraph(line("estimate", FILE, "--kernels", "cmsis-nn"), "cannot be estimated")
    one_paragraph(line("export", FILE, "--to", "c", "-o", "out", "--core", "cortex-m9"), "no core", "cortex-m4")
    one_paragraph(line("export", FILE, "--to", "c", "-o", "out", "--ram", "1k"), "BW701", "4096 too many")
    one_paragraph(line("export", FILE, "--to", "onnx-int", "-o", "out", "--core", "cortex-m4"), "no option 'core'")


def test_a_layer_without_an_integer_form_names_itself(made: Path) -> None:
    program = quantized("pools", "dpu")
    assert any(isinstance(step.form, Island) for step in program.steps)
    for board in ("host", "qemu:mps2-an386"):
        with pytest.raises(UnsupportedOp, match="runs in float") as caught:
            deploy(program, board)
        assert caught.value.op
        assert caught.value.layer in str(caught.value)
        assert caught.value.exit_code == 3


def test_export_for_a_core_on_the_command_line(line: Line, tmp_path: Path) -> None:
    found = line(
        "export", FILE, "--to", "c", "-o", tmp_path, "--core", "cortex-m55", "--flash", "256k", "--verify", "--json"
    )
    assert found.code == 0, found.err
    facts = found.json["facts"]
    assert facts["instructions"] > 0
    assert facts["instructions_basis"].startswith("measured on qemu:mps3-an547")
    assert found.json["verified"]["differing"] == 0
    assert "-mcpu=cortex-m55" in (tmp_path / "Makefile").read_text()


def test_a_board_that_is_too_small_says_by_how_much(line: Line, tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    text = (FOLDER / "mps2-an386.toml").read_text("utf-8")
    small.write_text(text.replace("origin = 0x00000000\nbytes = 0x00400000", "origin = 0x00000000\nbytes = 0x00002000"))
    one_paragraph(line("deploy", FILE, "--board", small), "BW701", "too many", "are the most of")


def test_python_faces(made: Path) -> None:
    q = bitwright.Quantized.load(made / FILE)
    found = q.deploy("host", samples=1)
    assert found.mismatches == 0
    assert "<table" in found._repr_html_()
    assert bitwright.deploy(made / FILE, "qemu:mps2-an386", samples=1).count > 0
    assert q.estimate(core="cortex-m55").count < bitwright.estimate(made / FILE, core="cortex-m3").count
    assert find_core("cortex-m4").frames_per_s(0) == (None, "nothing is computed")


def test_sessions_give_the_integers_of_the_reference() -> None:
    program = quantized("residual", "mcu-cmsis-nn")
    inputs = random_inputs(program, 3, seed=5)
    want = reference.run(program, inputs)
    for name in ("host", "qemu:mps2-an385"):
        with find_board(name).session(Job(program=program)) as session:
            got = session.run(inputs)
        for output in program.outputs:
            np.testing.assert_array_equal(got[output], want[output])
            assert got[output].dtype == want[output].dtype


def test_gcc_is_replaced_by_zig_and_both_missing_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = quantized("mlp", "mcu-cmsis-nn")
    tools = tmp_path / "bin"
    tools.mkdir()
    emulator = firmware.shutil.which("qemu-system-arm")
    assert emulator is not None
    (tools / "qemu-system-arm").symlink_to(emulator)
    monkeypatch.setenv("PATH", os.fspath(tools))
    found = deploy(program, "qemu:mps2-an386", samples=1)
    assert found.toolchain.startswith("zig ")
    found.require_equal()
    assert deploy(program, "host", samples=1).toolchain.startswith("zig ")
    monkeypatch.setattr(firmware, "has_zig", lambda: False)
    with pytest.raises(ToolMissing, match=r"apt install gcc-arm-none-eabi.*pip install 'bitwright\[mcu\]'"):
        deploy(program, "qemu:mps2-an386", samples=1)
    with pytest.raises(ToolMissing, match="pip install 'bitwright"):
        deploy(program, "qemu:mps2-an386", compiler="zig")
    with pytest.raises(ToolMissing, match="apt install gcc-arm-none-eabi"):
        deploy(program, "qemu:mps2-an386", compiler="gcc")


@pytest.mark.parametrize("core", microcontrollers())
def test_every_core_is_described(core: str) -> None:
    found = find_core(core)
    assert found.name == core
    assert found.flags
    assert 0.3 < found.cycles < 3
    cost = estimate(quantized("mlp", "mcu-cmsis-nn"), core=core)
    assert cost.count > 0
    assert cost.frames_per_s is not None


def test_near_names() -> None:
    known = board_names()
    assert nearest("an386", known)[0] == "qemu:mps2-an386"
    assert nearest("Cortex-M33", known)[0] == "qemu:mps2-an505"
    assert nearest("hots", known)[0] == "host"
    with pytest.raises(UnknownTarget) as caught:
        find_board("riscv")
    assert "qemu:riscv32-virt" in caught.value.nearest
    with pytest.raises(UnknownTarget, match="no core"):
        estimate(quantized("mlp", "mcu-cmsis-nn"), core="z80")


def test_data_needs_a_contract() -> None:
    with pytest.raises(DataError, match="no input contract"):
        deploy(quantized("mlp", "mcu-cmsis-nn"), "host", data=VAL)
