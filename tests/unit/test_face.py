"""The package's public face: everything named is there, nothing heavy is loaded, folders are functions."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import bitwright

SOURCE = Path(bitwright.__file__).parent.parent


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_all_is_sorted_and_there() -> None:
    assert bitwright.__all__ == sorted(bitwright.__all__)
    for name in bitwright.__all__:
        assert getattr(bitwright, name) is not None
    assert set(bitwright.__all__) <= set(dir(bitwright))
    with pytest.raises(AttributeError, match="nothing"):
        _ = bitwright.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "before",
    ["", "import bitwright.calibrate.observe as o; assert o.observe", "from bitwright.calibrate import observe",
     "import bitwright; bitwright.calibrate"],
)  # fmt: skip
def test_calibrate_is_a_function_whatever_was_imported_before(before: str) -> None:
    code = f"{before}\nimport bitwright, inspect\nfrom bitwright.calibrate.statistics import Statistics\n"
    assert "samples" in run(f"{code}print(inspect.signature(bitwright.calibrate))")


def test_calling_the_folder_calibrates() -> None:
    import bitwright.calibrate.statistics

    demo = Path(bitwright.__file__).parent / "demo"
    found = bitwright.calibrate(demo / "digits.onnx", demo / "digits-calib.npz", samples=8)
    assert found.statistics.samples == 8
    assert list(inspect.signature(bitwright.calibrate).parameters)[:2] == ["model", "data"]


def test_star_import() -> None:
    assert run("from bitwright import *\nprint(callable(load), callable(calibrate), __version__)").startswith(
        "True True"
    )
