"""The benchmark against other tools, with the one tool that is always there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mend_peers.py"
DEMO = Path(str(files("bitwright"))) / "demo"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    data = {"digits": {"calib": str(DEMO / "digits-calib.npz"), "val": str(DEMO / "digits-val.npz")}}
    model = {"name": "digits", "file": str(DEMO / "digits.onnx"), "dataset": "digits", "metric": "top1"}
    (tmp_path / "index.json").write_text(json.dumps({"datasets": data, "models": [model]}))
    return tmp_path


def run(pack: Path, *options: str) -> str:
    command = [sys.executable, str(SCRIPT), str(pack), "--out", str(pack / "out"), "--targets", "generic", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_same_rows_for_both_and_nothing_is_measured_twice(pack: Path) -> None:
    options = ("--tools", "bitwright,onnxruntime", "--mend", "correct-bias", "--samples", "40")
    first = run(pack, *options)
    cells = {path.name: json.loads(path.read_text()) for path in (pack / "out").glob("*.json")}
    assert set(cells) == {"digits-generic-bitwright-mend.json", "digits-generic-onnxruntime-w8.json"}
    ours, theirs = (cells[name] for name in sorted(cells))
    assert ours["samples"] == theirs["samples"] > 100
    assert ours["float"] == theirs["float"] > 0.9
    for cell in (ours, theirs):
        assert cell["sqnr"] > 20
        assert cell["agreement"] > 0.95
        assert cell["seconds"] > 0
    assert f"{ours['sqnr'] - theirs['sqnr']:+.1f} dB" in first
    for path in (pack / "out").glob("*.json"):
        row = json.loads(path.read_text())
        path.write_text(json.dumps({**row, "tool": "as it was"}))
    assert run(pack, *options) == first
    assert all(json.loads(path.read_text())["tool"] == "as it was" for path in (pack / "out").glob("*.json"))


def test_a_tool_that_fails_is_a_row(pack: Path) -> None:
    broken = pack / "python"
    broken.write_text("#!/bin/sh\necho 'no such operator' >&2\nexit 1\n")
    broken.chmod(0o755)
    table = run(pack, "--tools", "brevitas", "--env", f"brevitas={broken}", "--samples", "10")
    assert "failed: no such operator" in table


def test_formats_without_a_sign_are_a_target_for_comparing_alone(pack: Path) -> None:
    run(pack, "--tools", "bitwright", "--targets", "fpga,fpga-unsigned", "--mend", "correct-bias", "--samples", "40")
    signed, unsigned = (
        json.loads((pack / "out" / f"digits-{target}-bitwright-mend.json").read_text())
        for target in ("fpga", "fpga-unsigned")
    )
    assert unsigned["sqnr"] > signed["sqnr"]  # a bit more behind ReLU
