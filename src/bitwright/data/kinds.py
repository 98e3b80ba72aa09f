"""Which reader serves which kind of data."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitwright.data import arrays, files, python
from bitwright.data.contract import InputContract, nearest
from bitwright.data.image import is_image_name
from bitwright.data.reader import Indexed, Stream
from bitwright.errors import NoData, printable

KINDS = "a folder of images, a .csv with the columns file,label, an .npz, an .npy, or package.module:function"


def reader_for(
    data: Any, contract: InputContract, samples: int | None = None, inputs: Sequence[str] = ()
) -> Indexed | Stream:
    """The reader of ``data``; see ``open_source`` for the kinds.

    Raises:
        NoData: if there is nothing, or nothing of a known kind.
        InputMismatch: if an object cannot give samples.
    """
    if isinstance(data, str | os.PathLike):
        return _of_path(os.fspath(data), contract, samples, inputs)
    if isinstance(data, np.ndarray):
        return arrays.Arrays(f"an array of shape {list(data.shape)}", data, None, "array")
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(v, np.ndarray) for v in data):
        return arrays.Arrays(f"an array of shape {list(data[0].shape)}", data[0], data[1], "array")
    if isinstance(data, Mapping) and data and all(isinstance(v, np.ndarray) for v in data.values()):
        columns = dict(data)
        y = columns.pop("y", None) if len(columns) > 1 else None
        return arrays.Arrays("arrays by name", columns["x"] if set(columns) == {"x"} else columns, y, "arrays")
    if callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        return python.open_function(data, contract, inputs, samples=samples)
    return python.open_object(data, contract, inputs)


def _of_path(text: str, contract: InputContract, samples: int | None, inputs: Sequence[str]) -> Indexed | Stream:
    path = Path(text)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if re.fullmatch(python.FUNCTION, text):
            return reader_for(python.find_function(text), contract, samples, inputs)
        raise NoData(f"There is no data at {printable(text)}{_siblings(path)}.") from error
    if stat.S_ISDIR(status.st_mode):
        return files.open_folder(path)
    if not stat.S_ISREG(status.st_mode):
        raise NoData(f"{printable(text)} is neither a file nor a folder: give {KINDS}.")
    match path.suffix.lower():
        case ".csv":
            return files.open_csv(path, contract)
        case ".npz":
            return arrays.open_npz(path, contract, inputs)
        case ".npy":
            return arrays.open_npy(path)
    if is_image_name(path.name):
        return files.ImageFiles(f"the image {printable(path)}", path.parent, [path.name], None)
    raise NoData(f"{printable(text)} is no source of samples: give {KINDS}.")


def _siblings(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("."))
    except (OSError, ValueError):
        return f": give {KINDS}"
    return printable(nearest(path.name, names[:100]), 300) if names else f": give {KINDS}"
