"""The face for people who come from NNoM: one call that writes ``weights.h``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitwright as bw
from bitwright.calibrate.foreign import read_header
from bitwright.errors import CalibrationError, ExportError
from command_line import CALIB, MODEL

IMAGES = np.load(CALIB)["x"][:, None].astype(np.float32) / 255


def test_one_call_writes_the_header(tmp_path: Path) -> None:
    q = bw.generate_model(MODEL, IMAGES, name=tmp_path / "weights.h", quantize_method="max_min")
    text = (tmp_path / "weights.h").read_text("utf-8")
    macros = read_header(text)
    assert q.program.target == "mcu-q7"
    assert q.provenance["schemes"]["activation"] == "minmax"
    weights = [x for x in q.program.learnables if x.parameter == "Weights"]
    assert sum(1 for name in macros if name.endswith("_KERNEL_0")) == len(weights)
    assert all(-128 <= v <= 127 for name, row in macros.items() if name.endswith("_KERNEL_0") for v in row)
    other = bw.generate_model(MODEL, IMAGES, name=tmp_path / "kld.h", quantize_method="kld")
    assert other.provenance["schemes"]["activation"] == "kl"
    assert (tmp_path / "kld.h").read_text("utf-8") != text


def test_older_scripts_spell_it_otherwise(tmp_path: Path) -> None:
    q = bw.generate_model(MODEL, IMAGES, name=tmp_path / "weights.h", kld=False)
    assert q.provenance["schemes"]["activation"] == "minmax"
    text = (tmp_path / "weights.h").read_text("utf-8")
    assert "_OUTPUT_SHIFT (" in text
    assert "_OUTPUT_DEC (" not in text


def test_what_the_header_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h"
    with pytest.raises(ExportError, match="one format per tensor"):
        bw.generate_model(MODEL, IMAGES, True, path)
    with pytest.raises(ExportError, match="order hwc"):
        bw.generate_model(MODEL, IMAGES, name=path, format="chw")
    with pytest.raises(CalibrationError, match="max_min and kld"):
        bw.generate_model(MODEL, IMAGES, name=path, quantize_method="mse")
    assert not path.exists()
