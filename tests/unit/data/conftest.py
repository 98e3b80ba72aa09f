"""Small pictures made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def picture() -> Draw:
    """Writes a smooth picture whose colors depend on ``seed``."""

    def draw(path: Path, size: tuple[int, int] = (24, 20), seed: int = 0) -> Path:
        height, width = size
        y, x = np.mgrid[:height, :width]
        planes = [(x * (3 + c) + y * (5 - c) + 37 * seed + 60 * c) % 256 for c in range(3)]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(path)
        return path

    return draw


@pytest.fixture
def classes(tmp_path: Path, picture: Draw) -> Path:
    """A folder of three class folders, two pictures each."""
    root = tmp_path / "pictures"
    for number, name in enumerate(("ant", "bee", "cat")):
        for i in range(2):
            picture(root / name / f"{i}.png", seed=2 * number + i)
    return root
