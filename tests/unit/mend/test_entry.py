from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import zoo
from bitwright import api
from bitwright.cli import run
from bitwright.errors import CalibrationError
from bitwright.mend.reconstruct import Reconstruct
from bitwright.mend.rewrite import EqualizeChannels
from bitwright.quantized import Quantized


def chain() -> onnx.ModelProto:
    g = zoo.Graph("chain")
    x = g.relu(g.conv(g.input("x", ["N", 3, 8, 8]), 3, 8))
    w = g.random.normal(size=(8, 1, 3, 3)).astype(np.float32) * 0.4
    w[3] *= 50.0
    x = g.relu(g.node("Conv", x, g.constant(w), kernel_shape=[3, 3], pads=[1] * 4, group=8))
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    return g.build(g.gemm(x, 8, 5))


def data() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(40, 3, 8, 8)).astype(np.float32)


def error(q: Quantized, x: np.ndarray) -> float:
    want = zoo.run(chain(), {"x": x})[0]
    return float(((q.run(x) - want) ** 2).mean() / (want**2).mean())


def test_quantize_with_repairs(tmp_path: object) -> None:
    told: list[str] = []
    repairs = "equalize,reconstruct{rows=400}"
    model = api.load(chain(), input_spec={"input": {"layout": "raw"}})
    plain = api.quantize(model, data(), "fpga")
    q = api.quantize(model, data(), "fpga", mend=repairs, progress=lambda done, total, text: told.append(text))
    fresh = np.random.default_rng(2).normal(size=(30, 3, 8, 8)).astype(np.float32)
    assert error(q, fresh) < 0.5 * error(plain, fresh)
    rows = q.provenance["repairs"]
    assert [row["repair"] for row in rows] == ["equalize", "reconstruct{rows=400}"]
    assert all(row["kept"] in (True, False) and "dB" in row["sentence"] for row in rows)
    assert any("; equalize" in text and text.startswith("mending: best") for text in told)
    file = q.save(tmp_path / "chain.bw")  # type: ignore[operator]
    again = Quantized.load(file)
    assert np.array_equal(again.run(fresh), q.run(fresh))
    assert again.provenance["repairs"] == rows


def test_repairs_need_samples() -> None:
    model = api.load(chain(), input_spec={"input": {"layout": "raw"}})
    calibration = api.calibrate(model, data())
    with pytest.raises(CalibrationError, match="on samples"):
        api.quantize(model, calibration, "fpga", mend="auto")
    assert api.quantize(model, calibration, "fpga", mend="equalize", data=data()).provenance["repairs"]


def test_a_search_broken_off_on_the_command_line_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second repair: the first is not tried again, and nothing is left behind in the end."""
    (tmp_path / "chain.onnx").write_bytes(chain().SerializeToString())
    (tmp_path / "chain.toml").write_text('[input]\nlayout = "raw"\n')
    np.save(tmp_path / "x.npy", data())
    line = ["quantize", str(tmp_path / "chain.onnx"), "--data", str(tmp_path / "x.npy"), "--target", "fpga"]
    line += ["--mend", "equalize,reconstruct{rows=400}", "-o", str(tmp_path / "chain.bw"), "--quiet"]
    kept = tmp_path / "chain.bw.mending"
    real = {kind: kind.apply for kind in (EqualizeChannels, Reconstruct)}
    begun: list[str] = []

    def spied(kind: type, fail: bool) -> None:
        def apply(self: object, *args: object) -> object:
            begun.append(kind.name)
            if fail:
                raise KeyboardInterrupt
            return real[kind](self, *args)

        monkeypatch.setattr(kind, "apply", apply)

    spied(EqualizeChannels, False)
    spied(Reconstruct, True)
    assert run(line) != 0
    assert kept.exists()
    assert not (tmp_path / "chain.bw").exists()
    spied(Reconstruct, False)
    assert run(line) == 0
    assert begun == ["equalize", "reconstruct", "reconstruct"]
    assert not kept.exists()
    assert (tmp_path / "chain.bw").exists()
