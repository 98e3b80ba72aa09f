"""Running the command line in tests: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bitwright.cli import run
from bitwright.commands import screen

SOURCE = Path(__file__).parent.parent / "src"
DIGITS = SOURCE / "bitwright" / "demo"
MODEL, CALIB, VAL = DIGITS / "digits.onnx", DIGITS / "digits-calib.npz", DIGITS / "digits-val.npz"


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Line:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Answer:
        self.capsys.readouterr()
        screen.forget_streams()
        code = run([str(a) for a in arguments])
        seen = self.capsys.readouterr()
        return Answer(code, seen.out, seen.err)


def process(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None, script: str = "") -> Any:
    """Start the command line in a process of its own; ``script`` runs before it.

    Where the tests run in the background, Ctrl-C is ignored, and so it would be in the process: it is made to count.
    """
    ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{ctrl_c}\n{script}\nfrom bitwright.cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{cwd}", "COLUMNS": "100", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def apart(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None, script: str = "") -> Answer:
    """Run the command line in a process of its own."""
    started = process(*arguments, cwd=cwd, env=env, script=script)
    out, err = started.communicate(timeout=120)
    return Answer(started.returncode, out, err)


def one_paragraph(answer: Answer, *words: str, code: int = 2) -> None:
    """An error is one wrapped paragraph on stderr, with no traceback and nothing on stdout."""
    assert answer.code == code, answer
    assert answer.out == ""
    text = answer.err.strip()
    assert "Traceback" not in text, text
    assert "\n\n" not in text, text
    assert all(len(line) <= 120 for line in text.splitlines()), text
    joined = " ".join(text.split())
    for word in words:
        assert word in joined, joined
