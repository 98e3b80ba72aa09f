"""Errors as one paragraph, and the exit code of each."""

from __future__ import annotations

import errno

import click
import pytest

from bitwright.commands import screen
from bitwright.commands.failures import Interrupted, Missed, report
from bitwright.errors import Mismatch, UnknownTarget, UnsupportedOp


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UnknownTarget("There is no target called x."), 2, ["error BW301: There is no target called x."]),
        (UnsupportedOp("Layer a stays in float."), 3, ["error BW101"]),
        (Mismatch("They differ."), 70, ["error BW600"]),
        (Missed("top1 is 0.4."), 1, ["missed: top1 is 0.4."]),
        (Interrupted("5 samples are in x."), 130, ["stopped: 5 samples"]),
        (KeyboardInterrupt(), 130, ["stopped", "Nothing was written"]),
        (click.UsageError("no such option"), 2, ["usage: No such option."]),
        (OSError(errno.ENOSPC, "No space left on device", "out.bw"), 2, ["out.bw", "Free some space"]),
        (PermissionError(errno.EACCES, "Permission denied", "x\x1b.bw"), 2, ["x\\x1b.bw", "permissions"]),
        (MemoryError(), 2, ["memory"]),
        (KeyError("lost"), 70, ["internal error", "KeyError", "report", "--debug"]),
    ],
)
def test_paragraphs(error: BaseException, code: int, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    screen.forget_streams()
    assert report(error, debug=False) == code
    seen = capsys.readouterr()
    assert seen.out == ""
    text = " ".join(seen.err.split())
    for word in words:
        assert word in text
    assert "\x1b" not in seen.err
    assert "Traceback" not in text


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError) as caught:
        {}["lost"]
    assert report(caught.value, debug=True) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "test_debug_shows_where" in err
    assert "--debug" not in err
