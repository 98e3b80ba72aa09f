"""Validation that is broken off: what was measured is kept, and marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.metrics.validation import Seconds, Validation
from command_line import CALIB, MODEL, VAL, Line


@pytest.fixture(scope="module")
def network() -> bitwright.Quantized:
    net = bitwright.load(MODEL)
    return bitwright.quantize(net, bitwright.calibrate(net, CALIB), target="generic")


def stopping(after: int) -> object:
    """A progress callback that stops the run when so many samples are done."""

    def progress(done: int, total: int | None, what: str) -> None:
        if done >= after:
            raise KeyboardInterrupt

    return progress


def plain(found: Validation) -> dict[str, object]:
    """What does not depend on the clock."""
    return replace(found, seconds=Seconds(0.0, 0.0, 0.0), notes=(), partial=False).to_json()


def test_what_was_measured_is_kept(network: bitwright.Quantized) -> None:
    arrays = np.load(VAL)
    found = bitwright.validate(network, VAL, "top1", progress=stopping(30))  # type: ignore[arg-type]
    assert found.partial
    assert found.samples == 32  # whole batches
    assert found.notes[0] == "Interrupted: these are the first 32 of 600 samples."
    few = bitwright.validate(network, (arrays["x"][:32], arrays["y"][:32]), "top1")
    assert not few.partial
    assert plain(found) == plain(few)


def test_nothing_is_made_of_nothing(network: bitwright.Quantized) -> None:
    with pytest.raises(KeyboardInterrupt):
        bitwright.validate(network, VAL, "top1", progress=stopping(0))  # type: ignore[arg-type]


def test_on_the_command_line(
    network: bitwright.Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network.save(tmp_path / "digits.bw")
    run, calls = bitwright.Quantized.integers, []

    def stops(self: bitwright.Quantized, arrays: object) -> object:
        calls.append(1)
        if len(calls) > 3:  # the first two warm the engine up
            raise KeyboardInterrupt
        return run(self, arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(bitwright.Quantized, "integers", stops)
    answer = Line(capsys)("validate", tmp_path / "digits.bw", "--data", VAL, "--min", 0.1, "--quiet")
    assert answer.code == 130
    assert "Interrupted: these are the first" in answer.out
    assert "stopped: The figures above are of the first" in answer.err
