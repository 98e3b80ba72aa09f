"""The command line keeps its promises: JSON, exit codes, errors in one paragraph, files whole or not at all."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bitwright import validating
from bitwright.calibrate import observe
from bitwright.calibrate.scheme import schemes
from bitwright.cli import COMMANDS
from bitwright.commands import catalog, screen
from bitwright.errors import BitwrightError
from bitwright.metrics.choose import METRICS
from bitwright.targets.target import list_targets, load_target
from command_line import CALIB, MODEL, SOURCE, VAL, Answer, Line, apart, one_paragraph, process


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return Line(capsys)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibration and two quantized networks."""
    folder = tmp_path_factory.mktemp("made")
    calls = (
        ("calibrate", MODEL, "--data", CALIB, "-o", "digits.bwcal"),
        ("quantize", MODEL, "--data", "digits.bwcal", "--target", "generic", "-o", "generic.bw"),
        ("quantize", MODEL, "--data", "digits.bwcal", "--target", "fpga", "-o", "fpga.bw"),
    )
    for call in calls:
        answer = apart(*call, cwd=folder)
        assert answer.code == 0, answer.err
    return folder


def save(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int] | None = None
) -> Path:
    """A network from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *(shape or [2, 4, 4])])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    path.with_suffix(".toml").write_text('[input]\nlayout = "raw"\n[output]\ntask = "none"\n')
    return path


def conv_net(path: Path, names: tuple[str, str] = ("first", "second"), *, poison: float = 0.0) -> Path:
    """Two convolutions."""
    random = np.random.default_rng(1)
    weights = {"w": random.normal(size=(2, 2, 3, 3)), "v": random.normal(size=(3, 2, 1, 1))}
    weights["w"][0, 0, 0, 0] += poison
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name=names[0], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["t", "v"], ["y"], name=names[1], kernel_shape=[1, 1]),
    ]
    return save(path, nodes, weights)


def products(path: Path) -> Path:
    """A product of two activations, which no target computes in integers."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="gram"),
    ]
    return save(path, nodes, {})


def noise(path: Path, count: int = 20, shape: tuple[int, ...] = (2, 4, 4), *, nan_at: int | None = None) -> Path:
    """Samples without labels."""
    x = np.random.default_rng(2).normal(size=(count, *shape)).astype(np.float32)
    if nan_at is not None:
        x[nan_at].flat[3] = np.nan
    np.savez(path, x=x)
    return path


# -------------------------------------------------------------------- what every command gives


def test_help_lists_the_commands_and_loads_little(tmp_path: Path) -> None:
    """What makes it answer at once is what it does not import; ``benchmarks/startup_time.py`` measures the seconds."""
    script = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    answer = apart("--help", cwd=tmp_path, script=script)
    positions = [answer.out.index(f"\n  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    loaded = {name.partition(".")[0] for name in answer.err.split()}
    assert {"bitwright", "click"} <= loaded
    assert not loaded & {"numpy", "onnx", "onnxruntime", "scipy", "rich", "torch", "tensorflow", "amaranth", "asyncio"}


def test_version(tmp_path: Path) -> None:
    text = (SOURCE.parent / "pyproject.toml").read_text()
    version = next(row for row in text.splitlines() if row.startswith("version")).split('"')[1]
    assert apart("--version", cwd=tmp_path).out == f"bitwright {version}\n"
    done = subprocess.run(
        [sys.executable, "-m", "bitwright", "--version"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"bitwright {version}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, line: Line) -> None:
    answer = line(command, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: bitwright {command}")
    assert all(len(row) <= 110 for row in answer.out.splitlines())


def test_help_lists_all_schemes_targets_and_metrics(line: Line) -> None:
    text = line("quantize", "--help").out
    for name, kind in schemes().items():
        assert f"  {name}" in text
        assert kind.summary in text
    assert catalog.scheme_names() == {name: kind.summary for name, kind in schemes().items()}
    assert catalog.target_titles() == {name: load_target(name).title for name in list_targets()}
    assert set(catalog.METRICS) == set(METRICS)


def test_inspect_json(line: Line) -> None:
    answer = line("inspect", MODEL, "--target", "fpga", "--json")
    found = answer.json
    assert answer.err == ""
    assert {"layer", "op", "becomes", "reason", "macs"} <= found["layers"][0].keys()
    assert found["totals"]["integer_mac_share"] == 1.0
    assert {row["becomes"] for row in found["layers"]} == {"integer"}
    assert found["totals"]["macs"] == sum(row["macs"] for row in found["layers"])
    worst = max(found["folds"], key=lambda fold: fold["bits_lost"])
    assert (worst["layer"], worst["bits_lost"], worst["kind"]) == ("depthwise_conv", 7, "weights")


def test_inspect_needs_no_calibration_to_know_what_quantizing_gives(line: Line, made: Path) -> None:
    before = line("inspect", MODEL, "--target", "fpga", "--json").json["totals"]
    after = line("details", made / "fpga.bw", "--json").json
    assert before["integer_mac_share"] == after["integer_mac_share"]
    assert before["learnable_bytes"] == after["learnable_bytes"]


def test_calibrate_json(line: Line, tmp_path: Path) -> None:
    rows = line("calibrate", MODEL, "--data", CALIB, "--samples", 20, "--json").json
    keys = {"optimized_layer", "network_layers", "kind", "min", "max", "count", "zeros", "msb_counts"}
    assert all(keys <= row.keys() for row in rows)
    assert {row["kind"] for row in rows} == {"Weights", "Bias", "Activations"}
    assert (tmp_path / "digits.bwcal").is_file()
    assert not (tmp_path / "digits.bwcal.part").exists()


def test_quantize_and_details_json(line: Line, made: Path, tmp_path: Path) -> None:
    answer = line("quantize", MODEL, "--data", made / "digits.bwcal", "--target", "dpu", "--scheme", "minmax", "--json")
    assert answer.json["output"] == "digits.bw"
    assert answer.json["schemes"] == dict.fromkeys(("input", "activation", "weight", "bias"), "minmax")
    found = line("details", tmp_path / "digits.bw", "--json").json
    keys = {"is_quantized", "target", "quantized_layers", "quantized_learnables", "float_layers", "formats"}
    assert keys <= found.keys()
    assert found["is_quantized"] is True
    assert found["target"] == "dpu"
    learnable = found["quantized_learnables"][0]
    assert {"layer", "parameter", "format", "shape"} <= learnable.keys()
    assert learnable["shape"] == [16, 1, 3, 3]
    assert found["float_layers"] == []
    assert "No accumulator can overflow" in found["findings"][0]


def test_validate_json(line: Line, made: Path) -> None:
    found = line("validate", made / "generic.bw", "--data", VAL, "--samples", 100, "--json").json
    assert {
        "samples", "metric", "float", "quantized", "agreement", "output_sqnr_db", "learnable_bytes",
        "integer_mac_share", "bit_exact", "seconds", "target",
    } <= found.keys()  # fmt: skip
    assert (found["samples"], found["metric"], found["target"]) == (100, "top1", "generic")
    assert found["bit_exact"]["mismatches"] == 0
    assert found["bit_exact"]["values_checked"] > 10_000
    assert set(found["seconds"]) == {"float", "quantized", "data"}
    assert set(found["learnable_bytes"]) == {"float", "quantized"}


def test_compare_json(line: Line, made: Path) -> None:
    found = line("compare", made / "fpga.bw", made / "generic.bw", "--json").json
    assert found["totals"]["different_formats"] == found["totals"]["tensors"] == len(found["tensors"])
    assert found["totals"]["mean_gain_db"] > 3
    gains = [abs(pair["gain_db"]) for pair in found["tensors"] if pair["kind"] != "Bias"]
    assert gains == sorted(gains, reverse=True)
    same = line("compare", made / "fpga.bw", made / "fpga.bw")
    assert "have the same formats" in same.out


def test_targets(line: Line) -> None:
    listed = line("targets", "--json").json
    assert [row["name"] for row in listed] == list(list_targets())
    assert all(name in line("targets").out for name in list_targets())
    assert line("targets", "show", "dpu").out.startswith("dpu: ")
    assert line("targets", "show", "dpu", "--json").json["name"] == "dpu"


def test_demo_goes_the_whole_way(tmp_path: Path) -> None:
    answer = apart("demo", "--folder", "shown", cwd=tmp_path)
    assert answer.code == 0, answer.err
    for word in ("inspect", "calibrate", "quantize", "validate", "details", "compare"):
        assert f"$ bitwright {word} shown/" in answer.out
    assert answer.out.count("0 differ") == 2
    assert {f.name for f in (tmp_path / "shown").iterdir()} == {
        "digits.onnx", "digits.toml", "digits-calib.npz", "digits-val.npz", "digits.bwcal",
        "digits-generic.bw", "digits-fpga.bw",
    }  # fmt: skip


# -------------------------------------------------------------------- exit codes and output


def test_a_missed_threshold_is_1_and_the_result_stands(line: Line, made: Path) -> None:
    arguments = ("validate", made / "generic.bw", "--data", VAL, "--samples", 50, "--quiet")
    assert line(*arguments, "--min", 0.5).code == 0
    assert line(*arguments, "--min", 10, "--metric", "sqnr").code == 0  # decibels
    missed = line(*arguments, "--min", 99, "--metric", "sqnr", "--json")
    assert missed.code == 1
    assert missed.json["metric"] == "sqnr"
    assert "less than --min 99" in missed.err
    assert line(*arguments, "--max", 1, "--metric", "sqnr").code == 1
    one_paragraph(line(*arguments, "--min", 0.5, "--metric", "mse"), "--max")
    one_paragraph(line(*arguments, "--min", 60, "--metric", "top1"), "60 % is 0.6")


def test_unsupported_is_3_and_names_the_layer(line: Line, tmp_path: Path) -> None:
    model, data = products(tmp_path / "gram.onnx"), noise(tmp_path / "x.npz")
    free = line("inspect", model)
    assert free.code == 0
    assert "gram" in free.out
    strict = line("inspect", model, "--strict", "--json")
    assert strict.code == 3
    assert "Layer 'gram' (MatMul)" in strict.err
    assert [row["becomes"] for row in strict.json["layers"]] == ["integer", "unsupported"]
    one_paragraph(line("quantize", model, "--data", data, "--strict"), "gram", "MatMul", code=3)
    assert not (tmp_path / "gram.bw").exists()
    island = line("quantize", model, "--data", data, "--quiet")
    assert island.code == 0
    found = line("details", "gram.bw", "--json").json
    assert [(row["layer"], row["op"]) for row in found["float_layers"]] == [("gram", "MatMul")]
    assert "constant" in found["float_layers"][0]["reason"]


def test_usage_is_2_and_names_the_nearest(line: Line) -> None:
    one_paragraph(line("calibrat"), "Did you mean 'calibrate'?")
    one_paragraph(line("validate"), "Missing argument", "--help")
    one_paragraph(line("inspect", MODEL, "--targt", "fpga"), "--target")
    one_paragraph(line("calibrate", MODEL), "--data", "--merge")
    one_paragraph(line("calibrate", MODEL, "--data", CALIB, "--samples", 0), "--samples")
    one_paragraph(line("inspect", MODEL, "--shape", "data"), "NAME=SHAPE")
    one_paragraph(line("quantize", MODEL, "--data", CALIB, "--mend", "auto", "--time", "soon"), "--time soon", "5m")
    one_paragraph(line("quantize", MODEL, "--data", CALIB, "--mend", "hammer", "--time", "1s"), "hammer")
    one_paragraph(line("validate", "x.bw", "--data", VAL, "--board", "zcu102"), "no board", "zcu102", "host")
    one_paragraph(line("quantize", MODEL, "--data", CALIB, "-o", "nowhere/x.bw"), "no folder")
    one_paragraph(line("quantize", MODEL, "--data", CALIB, "--scheme", "mmse"), "'mse'")


def test_a_bug_of_ours_is_70_and_debug_shows_it(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("[red]boom[/red]")

    monkeypatch.setattr("bitwright.inspection.inspect", broken)
    one_paragraph(line("inspect", MODEL), "ZeroDivisionError", "[red]boom[/red]", "report", "--debug", code=70)
    shown = line("inspect", MODEL, "--debug")
    assert shown.code == 70
    assert "Traceback" in shown.err


def test_progress_goes_to_stderr_only(line: Line, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "PLAIN_SECONDS", 0.0)
    arguments = ("validate", made / "generic.bw", "--data", VAL, "--samples", 64, "--json")
    loud = line(*arguments)
    assert "Validating: 64/64 images" in loud.err
    assert loud.json["samples"] == 64
    assert line(*arguments, "--quiet").err == ""


def test_no_color_and_pipes_have_no_escape_codes(line: Line, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in line("details", made / "fpga.bw").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[36m" in line("details", made / "fpga.bw").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in line("details", made / "fpga.bw").out


@pytest.mark.parametrize("width", [80, 120])
def test_reports_fit_the_screen(width: int, line: Line, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    calls: tuple[tuple[object, ...], ...] = (
        ("inspect", MODEL, "--target", "fpga"),
        ("calibrate", MODEL, "--data", CALIB, "--table", "--quiet"),
        ("details", made / "generic.bw"),
        ("compare", made / "fpga.bw", made / "generic.bw"),
        ("validate", made / "generic.bw", "--data", VAL, "--quiet"),
        ("targets",),
    )
    for call in calls:
        answer = line(*call)
        assert answer.code == 0, answer.err
        too_long = [row for row in answer.out.splitlines() if len(row) > width]
        # A path that the user gave is never cut.
        assert not [row for row in too_long if str(made) not in row], too_long


def test_a_broken_pipe_is_quiet(made: Path, tmp_path: Path) -> None:
    for options in (["--json"], []):
        with process("details", made / "fpga.bw", *options, cwd=tmp_path) as started:
            started.stdout.close()
            assert started.stderr.read() == ""
            assert started.wait(60) == 141


# -------------------------------------------------------------------- bad input


def test_broken_models(line: Line, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(MODEL.read_bytes()[:20_000])
    (tmp_path / "random.onnx").write_bytes(np.random.default_rng(0).bytes(5_000))
    one_paragraph(line("inspect", "cut.onnx"), "cut.onnx", "cut off")
    one_paragraph(line("inspect", "random.onnx"), "random.onnx", "not an ONNX model")
    one_paragraph(line("inspect", "missing.onnx"), "missing.onnx")
    one_paragraph(line("inspect", tmp_path), "folder")


def test_nan_in_weights_names_the_tensor(line: Line, tmp_path: Path) -> None:
    one_paragraph(line("inspect", conv_net(tmp_path / "nan.onnx", poison=float("nan"))), "'w'", "NaN")


def test_nan_in_data_names_the_sample(line: Line, tmp_path: Path) -> None:
    model = conv_net(tmp_path / "net.onnx")
    data = noise(tmp_path / "x.npz", nan_at=7)
    for command in ("calibrate", "quantize"):
        one_paragraph(line(command, model, "--data", data, "--quiet"), "Sample 7", "NaN")
    assert line("quantize", model, "--data", noise(tmp_path / "fine.npz"), "--quiet").code == 0
    one_paragraph(line("validate", "net.bw", "--data", data, "--quiet"), "Sample 7", "NaN")
    skipped = line("calibrate", model, "--data", data, "--skip-bad", "--quiet")
    assert skipped.code == 0
    assert "1 samples were skipped" in " ".join(skipped.out.split())


def test_wrong_layout(line: Line, tmp_path: Path, made: Path) -> None:
    turned = noise(tmp_path / "nhwc.npz", shape=(4, 4, 2))
    model = conv_net(tmp_path / "net.onnx")
    one_paragraph(line("calibrate", model, "--data", turned, "--quiet"), "[2, 4, 4]", "[4, 4, 2]")
    np.savez(tmp_path / "large.npz", x=np.zeros((4, 20, 20), np.uint8), y=np.zeros(4, np.int64))
    one_paragraph(line("validate", made / "fpga.bw", "--data", tmp_path / "large.npz", "--quiet"), "[1, 16, 16]")


def test_data_normalized_twice(line: Line, tmp_path: Path) -> None:
    with np.load(CALIB) as arrays:
        np.savez(tmp_path / "twice.npz", x=(arrays["x"] / 255).astype(np.float32), y=arrays["y"])
    answer = line("calibrate", MODEL, "--data", tmp_path / "twice.npz", "--quiet")
    assert "normal" in f"{answer.err}{answer.out}"


def pictures(folder: Path, count: int, *, classes: bool) -> None:
    random = np.random.default_rng(3)
    for i in range(count):
        place = folder / f"class{i % 2}" if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (16, 16), np.uint8)).save(place / f"{i:03}.jpg")


def test_one_corrupt_jpeg_among_many(line: Line, tmp_path: Path) -> None:
    pictures(tmp_path / "images", 12, classes=False)
    (tmp_path / "images" / "005.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    one_paragraph(line("calibrate", MODEL, "--data", "images", "--quiet"), "005.jpg")
    answer = line("calibrate", MODEL, "--data", "images", "--skip-bad", "--quiet")
    assert answer.code == 0
    assert "11 images" in answer.out
    assert "005.jpg" in answer.out


def test_no_data(line: Line, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_paragraph(line("calibrate", MODEL, "--data", "empty"), "empty", "no images")
    one_paragraph(line("calibrate", MODEL, "--data", "nowhere.npz"), "no data at nowhere.npz")
    (tmp_path / "text.txt").write_text("hello")
    one_paragraph(line("calibrate", MODEL, "--data", "text.txt"), "text.txt")


def test_missing_labels(line: Line, tmp_path: Path, made: Path) -> None:
    pictures(tmp_path / "flat", 8, classes=False)
    one_paragraph(
        line("validate", made / "fpga.bw", "--data", "flat", "--metric", "top1"), "top1", "labels", "agreement"
    )
    assert line("validate", made / "fpga.bw", "--data", "flat", "--quiet").code == 0


def test_unknown_names_are_told_the_nearest(line: Line, made: Path) -> None:
    one_paragraph(line("inspect", MODEL, "--target", "fgpa"), "Did you mean fpga")
    one_paragraph(line("targets", "show", "genric"), "generic")
    one_paragraph(line("validate", made / "fpga.bw", "--data", VAL, "--metric", "topp1"), "top1")


def test_a_calibration_of_another_network_is_refused(line: Line, tmp_path: Path, made: Path) -> None:
    other = conv_net(tmp_path / "other.onnx")
    one_paragraph(line("quantize", other, "--data", made / "digits.bwcal"), "another network", "Calibrate again")
    assert line("calibrate", other, "--data", noise(tmp_path / "x.npz"), "--quiet").code == 0
    mixed = line("calibrate", MODEL, "--merge", made / "digits.bwcal", "--merge", "other.bwcal", "-o", "sum.bwcal")
    one_paragraph(mixed, "another network")


def test_damaged_files(line: Line, tmp_path: Path, made: Path) -> None:
    whole = (made / "fpga.bw").read_bytes()
    (tmp_path / "cut.bw").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.bw").write_bytes(whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:])
    calibration = (made / "digits.bwcal").read_bytes()
    (tmp_path / "cut.bwcal").write_bytes(calibration[: len(calibration) // 2])
    for command in (("details",), ("validate", "--data", VAL), ("compare", made / "fpga.bw")):
        one_paragraph(line(*command, "cut.bw"), "cut.bw", "damaged")
    one_paragraph(line("details", "flipped.bw"), "flipped.bw")
    one_paragraph(line("details", MODEL), "float network", "Quantize it")
    (tmp_path / "text.bw").write_text("no zip at all")
    one_paragraph(line("details", "text.bw"), "no .bw file")
    one_paragraph(line("quantize", MODEL, "--data", "cut.bwcal"), "cut.bwcal", "damaged")


def test_a_zip_bomb_is_refused_unread(line: Line, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.bw", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("program.json", "tensors.safetensors", "provenance.json"):
            with archive.open(name, "w", force_zip64=False) as member:
                for _ in range(64):
                    member.write(bytes(1 << 20))
    assert (tmp_path / "bomb.bw").stat().st_size < 1 << 20
    one_paragraph(line("details", "bomb.bw"), "bomb.bw")
    with zipfile.ZipFile(tmp_path / "bomb.bwcal", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("statistics.json", "arrays.safetensors"):
            archive.writestr(name, bytes(64 << 20))
    one_paragraph(line("quantize", MODEL, "--data", "bomb.bwcal"), "bomb.bwcal")


HOSTILE = ("<script>alert(1)</script>", "../../x", "[red]alarm[/red]", "a\x1b[31mb\r\nc", "\u202eevil", "שלום")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_only_names(name: str, line: Line, tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    os.chdir(inside)
    model, data = conv_net(inside / "net.onnx", (name, "plain")), noise(inside / "x.npz")
    before = {f for f in tmp_path.rglob("*") if f.is_file()}
    reports = [
        line("inspect", model),
        line("calibrate", model, "--data", data, "--table", "--quiet"),
        line("quantize", model, "--data", "net.bwcal", "--target", "dpu", "--quiet"),
        line("details", "net.bw"),
        line("validate", "net.bw", "--data", data, "--quiet"),
        line("compare", "net.bw", "net.bw"),
    ]
    for answer in reports:
        assert answer.code == 0, answer.err
        assert not {"\x1b", "\r", "\u202e"} & set(answer.out), repr(answer.out)
    shown = {"\u202eevil": "\\u202eevil", "שלום": "\u2068שלום\u2069"}.get(name, "\\x1b" if "\x1b" in name else name)
    assert shown in reports[0].out
    assert name in [row["layer"] for row in line("inspect", model, "--json").json["layers"]]
    made = {f for f in tmp_path.rglob("*") if f.is_file()} - before
    assert made == {inside / "net.bwcal", inside / "net.bw"}


# -------------------------------------------------------------------- files: whole, resumed, the same each time


def full_disk(folder: Path, *arguments: object) -> Answer:
    """Run with files limited to 4 KiB."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    return apart(*arguments, cwd=folder, script=limit)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, made: Path) -> None:
    for name, arguments in (
        ("digits.bwcal", ("calibrate", MODEL, "--data", CALIB, "--quiet")),
        ("digits.bw", ("quantize", MODEL, "--data", made / "digits.bwcal", "--quiet")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        one_paragraph(full_disk(folder, *arguments), name, "space")
        assert not [f.name for f in folder.iterdir() if f.is_file()]
        (folder / name).write_bytes(b"precious")
        one_paragraph(full_disk(folder, *arguments), name)
        assert (folder / name).read_bytes() == b"precious"


SLOW = """
import os, time
import numpy as np

def images():
    with np.load({path!r}) as arrays:
        x = arrays["x"]
    for i, image in enumerate(x):
        if os.environ.get("SLOW"):
            time.sleep(0.004)
        yield image
"""
OFTEN = "from bitwright.calibrate import observe; observe.CHECKPOINT_SECONDS = 0.05"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_calibration_goes_on_and_ends_the_same(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "slow_images.py").write_text(SLOW.format(path=str(VAL)))
    arguments = ("calibrate", MODEL, "--data", "slow_images:images")
    assert apart(*arguments, "-o", "whole.bwcal", cwd=tmp_path).code == 0
    part, made = tmp_path / "broken.bwcal.part", tmp_path / "broken.bwcal"
    started = process(*arguments, "-o", "broken.bwcal", cwd=tmp_path, script=OFTEN, env={"SLOW": "1"})
    deadline = time.monotonic() + 60
    while not part.exists() and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    started.send_signal(how)
    _, err = started.communicate(timeout=60)
    assert part.exists(), err
    if how == signal.SIGKILL:
        assert started.returncode == -signal.SIGKILL
        assert not made.exists()
    else:
        assert started.returncode == 130
        assert "go on from there" in " ".join(err.split())
        assert made.exists()
    resumed = apart(*arguments, "-o", "broken.bwcal", cwd=tmp_path)
    assert resumed.code == 0
    assert "going on from" in resumed.err
    assert made.read_bytes() == (tmp_path / "whole.bwcal").read_bytes()
    assert not part.exists()


def test_a_checkpoint_is_really_used(tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run counts only what is missing; else the test above would pass without any checkpoint."""
    counted: list[int] = []
    original = observe._Counter.run

    def watched(self: object, feeds: object, indices: tuple[int, ...]) -> int:
        counted.extend(indices)
        if stop_at is not None and len(counted) >= stop_at:
            raise KeyboardInterrupt
        return original(self, feeds, indices)  # type: ignore[arg-type]

    monkeypatch.setattr(observe, "cores", lambda: 1)
    monkeypatch.setattr(observe, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(observe._Counter, "run", watched)
    stop_at: int | None = 300
    line("calibrate", MODEL, "--data", VAL, "--quiet")
    first = len(counted)
    counted.clear()
    stop_at = None
    assert line("calibrate", MODEL, "--data", VAL, "--quiet").code == 0
    assert 0 < first < 600
    assert len(counted) < 600


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        arguments = ("--data", CALIB, "--target", "generic", "--samples", 40, "--seed", 5, "-o", f"{name}.bw")
        assert apart("quantize", MODEL, *arguments, cwd=tmp_path).code == 0
    assert (tmp_path / "a.bw").read_bytes() == (tmp_path / "b.bw").read_bytes()


def test_samples_and_seed_choose(line: Line, tmp_path: Path) -> None:
    def calibrated(name: str, *options: object) -> bytes:
        assert line("calibrate", MODEL, "--data", VAL, "-o", name, "--quiet", *options).code == 0
        return (tmp_path / name).read_bytes()

    spread, again = (calibrated(name, "--samples", 30) for name in ("a", "b"))
    one, two = (calibrated(name, "--samples", 30, "--seed", seed) for name, seed in (("c", 1), ("d", 2)))
    assert spread == again
    assert len({spread, one, two}) == 3
    assert "30 images" in line("calibrate", MODEL, "--data", VAL, "--samples", 30, "--quiet").out


def test_neither_batches_nor_threads_change_anything(
    line: Line, tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, figures = set(), set()
    for batch, threads in ((16, 1), (5, 3), (64, 2)):
        monkeypatch.setattr(validating, "VALIDATION_BATCH", batch)
        monkeypatch.setattr(observe, "LARGEST_BATCH", batch)
        monkeypatch.setattr(observe, "cores", lambda count=threads: count)
        assert line("calibrate", MODEL, "--data", CALIB, "-o", "c.bwcal", "--quiet").code == 0
        kept.add((tmp_path / "c.bwcal").read_bytes())
        found = line("validate", made / "fpga.bw", "--data", VAL, "--samples", 90, "--quiet", "--json").json
        figures.add((found["quantized"], found["agreement"], found["lost"], found["gained"]))
    assert len(kept) == 1
    assert len(figures) == 1


def test_parts_add_up_to_the_whole(line: Line, tmp_path: Path) -> None:
    with np.load(VAL) as arrays:
        x = arrays["x"]
    for name, part in (("all", x), ("one", x[:250]), ("two", x[250:])):
        np.savez(tmp_path / f"{name}.npz", x=part)
        assert line("calibrate", MODEL, "--data", f"{name}.npz", "-o", f"{name}.bwcal", "--quiet").code == 0
    merged = line("calibrate", MODEL, "--merge", "one.bwcal", "--merge", "two.bwcal", "-o", "sum.bwcal", "--json")
    whole = line("calibrate", MODEL, "--merge", "all.bwcal", "-o", "again.bwcal", "--json")
    assert merged.code == whole.code == 0
    assert merged.json == whole.json


def test_an_interrupted_run_does_not_replace_a_whole_file(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line("calibrate", MODEL, "--data", VAL, "--quiet").code == 0
    before = (tmp_path / "digits.bwcal").read_bytes()
    original = observe._Counter.feeds
    seen: list[int] = []

    def stops(self: object, batch: object) -> object:
        seen.append(1)
        if len(seen) > 3:
            raise KeyboardInterrupt
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(observe._Counter, "feeds", stops)
    answer = line("calibrate", MODEL, "--data", CALIB.with_name(VAL.name), "--samples", 599, "--quiet")
    assert answer.code == 130
    assert "digits.bwcal.part" in answer.err
    assert (tmp_path / "digits.bwcal").read_bytes() == before


def test_quantize_stopped_writes_nothing(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(observe._Counter, "feeds", stops)
    one_paragraph(line("quantize", MODEL, "--data", CALIB, "--quiet"), "stopped", "Nothing was written", code=130)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------- the errors themselves


def all_errors(kind: type[BitwrightError] = BitwrightError) -> list[type[BitwrightError]]:
    return [kind, *(e for sub in kind.__subclasses__() for e in all_errors(sub))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_is_a_paragraph_with_its_code(
    kind: type[BitwrightError], line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"index": 3} if kind.__name__ == "BadSample" else {}

    def fails(*_: object, **__: object) -> None:
        raise kind("Tensor 'a\x1b[2J' is wrong. Do this.", **extra)

    monkeypatch.setattr("bitwright.inspection.inspect", fails)
    answer = line("inspect", MODEL)
    one_paragraph(answer, kind.code, "Do this.", code=kind.exit_code)
    assert "\x1b" not in answer.err


def test_a_model_beside_a_broken_contract(line: Line, tmp_path: Path) -> None:
    shutil.copy(MODEL, tmp_path / "net.onnx")
    (tmp_path / "net.toml").write_text("[input]\nlayuot = 'NCHW'\n")
    one_paragraph(line("inspect", "net.onnx"), "net.toml", "layout")
    one_paragraph(line("inspect", MODEL, "--input-spec", "missing.toml"), "missing.toml")
    fine: Callable[[], Answer] = lambda: line("inspect", MODEL, "--input-spec", MODEL.with_suffix(".toml"))
    assert fine().code == 0


def test_json_never_holds_numbers_that_json_lacks(line: Line, tmp_path: Path, made: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.zeros((1, 16, 16), np.uint8))
    answer = line("validate", made / "generic.bw", "--data", "one.npz", "--quiet", "--json")
    json.load(io.StringIO(answer.out), parse_constant=pytest.fail)
