"""Labels: from text or files to values, and moved along when the image is resized and cropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bitwright.data import transform
from bitwright.data.contract import InputContract
from bitwright.data.image import read_indices
from bitwright.errors import InputMismatch, printable

BOX_NUMBERS = 5


def parser(task: str, texts: Sequence[str], folder: Path) -> tuple[Callable[[str], object], list[str]]:
    """How to read the label column of a CSV for ``task``, and notes about what was assumed.

    - classification: whole numbers as they are; names by their place in ``classes.txt`` beside the CSV (a name a
      line), or else among the sorted names of the column;
    - detection: ``class cx cy w h;...`` relative to the image, as float32 ``[boxes, 5]``;
    - segmentation: the path of a label image, relative to the CSV, read when the sample is;
    - other tasks: a number where it is one, else the text.
    """
    if task == "detection":
        return boxes, []
    if task == "segmentation":
        return lambda text: folder / text, []
    if task != "classification":
        return _number_or_text, []
    filled = [t for t in texts if t]
    if all(_is_whole(t) for t in filled):
        return lambda text: int(float(text)) if text else None, []
    names = sorted(set(filled))
    origin = "their sorted order in the CSV"
    listed = folder / "classes.txt"
    if listed.is_file():
        lines = [line.strip() for line in listed.read_text("utf-8", "replace").splitlines() if line.strip()]
        unknown = [n for n in names if n not in lines]
        if unknown:
            raise InputMismatch(
                f"The class {printable(repr(unknown[0]))} of the CSV is not in {printable(listed)}: correct one of them."
            )
        names, origin = lines, "classes.txt"
    index = {name: i for i, name in enumerate(names)}
    note = f"Class names were numbered by {origin}: {shown(names)}."
    return lambda text: index[text] if text else None, [note]


def shown(names: Sequence[str], most: int = 6) -> str:
    """``a = 0, b = 1, ...`` for a note."""
    text = ", ".join(f"{printable(name, 30)} = {i}" for i, name in enumerate(names[:most]))
    return text + (f", … ({len(names)} classes)" if len(names) > most else "")


def boxes(text: str) -> NDArray[np.float32]:
    """``class cx cy w h;...`` as float32 ``[boxes, 5]``.

    Raises:
        InputMismatch: if a box has not five numbers.
    """
    rows = [part.split() for part in text.split(";") if part.strip()]
    try:
        values = np.array([[float(v) for v in row] for row in rows], np.float32).reshape(-1, BOX_NUMBERS)
    except ValueError as error:
        raise InputMismatch(
            f"the label {printable(repr(text), 60)} is not of the form 'class cx cy w h;...' with numbers relative to "
            "the image"
        ) from error
    if len(values) != len(rows) or not np.isfinite(values).all():
        raise InputMismatch(f"the label {printable(repr(text), 60)} has a box without five finite numbers")
    return values


def loaded(label: object) -> object:
    """A label that stands for a file (a path) read; any other as it is."""
    return read_indices(label) if isinstance(label, Path) else label


def moved(label: object, contract: InputContract, size: tuple[int, int] | None) -> object:
    """``label`` after the image of ``size`` (h, w) was resized and cropped by ``contract``.

    Only a crop changes labels: boxes ``[n, 5]`` are cut to the crop and given relative to it (a box with nothing left
    is dropped), label images ``[h, w]`` of the image's own size are resized (nearest) and cut.  After a resize alone,
    boxes are the same relative to the image, and a label image keeps its size: metrics compare at the label's size.
    """
    if size is None or contract.crop is None or contract.layout == "raw" or not isinstance(label, np.ndarray):
        return label
    height, width = size if contract.resize is None else transform.target_size(*size, contract.resize)
    top, left = transform.corner(height, width, contract.crop)
    rows, columns = contract.crop
    if contract.task == "segmentation" and label.shape == size:
        if (height, width) != size:
            label = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
        return label[top : top + rows, left : left + columns]
    if contract.task == "detection" and label.ndim == 2 and label.shape[1] == BOX_NUMBERS:
        return _cut(label, (width, height), (left, top), (columns, rows))
    return label


def _cut(label: NDArray[Any], full: tuple[int, int], start: tuple[int, int], crop: tuple[int, int]) -> NDArray[Any]:
    full_, start_, crop_ = (np.array(v, np.float32) for v in (full, start, crop))
    low = ((label[:, 1:3] - label[:, 3:5] / 2) * full_ - start_) / crop_
    high = ((label[:, 1:3] + label[:, 3:5] / 2) * full_ - start_) / crop_
    low, high = low.clip(0, 1), high.clip(0, 1)
    kept = ((high - low) > 0).all(1)
    result = np.concatenate([label[:, :1], (low + high) / 2, high - low], 1)[kept]
    return np.asarray(result, label.dtype)


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False


def _number_or_text(text: str) -> object:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
