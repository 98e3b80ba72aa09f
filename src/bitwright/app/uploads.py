"""Files that come from the browser, and paths that a person types."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import BinaryIO

from bitwright.errors import BadModelFile, InputMismatch, NoData, printable

NETWORKS = (".onnx", ".bw", ".pt2", ".tflite", ".keras", ".h5")
SAMPLES = (".npz", ".npy", ".csv", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
OTHERS = (".toml", ".bwcal", ".html", ".data")
LONGEST_NAME = 80
MOST_FILES = 20_000
CHUNK = 1 << 20


def safe_name(name: str) -> str:
    """A name under which a file from elsewhere is kept: letters, digits, dot, dash; the ending stays.

    Raises:
        BadModelFile: if the ending is none that bitwright reads.
    """
    last = re.split(r"[\\/]", name)[-1]
    suffix = Path(last).suffix.lower()
    if suffix not in (*NETWORKS, *SAMPLES, *OTHERS):
        known = ", ".join((*NETWORKS, *SAMPLES[:3]))
        raise BadModelFile(
            f"{printable(last, 60)!r} is nothing that the app reads: it takes networks, images and arrays ({known}, …)."
        )
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(last).stem).strip("._-")[: LONGEST_NAME - len(suffix)]
    return f"{stem or 'file'}{suffix}"


def keep(folder: Path, name: str, source: BinaryIO) -> Path:
    """Write an uploaded file into ``folder``, whole or not at all; a name that is taken gets a number.

    Raises:
        BadModelFile: if it is of an unknown kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = safe_name(name)
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        with part.open("wb") as out:
            while chunk := source.read(CHUNK):
                out.write(chunk)
        place = _free(folder, wanted)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return place


def _free(folder: Path, name: str) -> Path:
    place, number = folder / name, 1
    while place.exists():
        number += 1
        place = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return place


def network_path(text: str) -> str:
    """A typed path of a network.

    Raises:
        BadModelFile: if there is no such file, or it is of another kind.
    """
    path = _path(text)
    if path.suffix.lower() not in NETWORKS:
        raise BadModelFile(
            f"{printable(text)} is no network that the app reads: its name ends in none of {', '.join(NETWORKS)}."
        )
    if not path.is_file():
        raise BadModelFile(f"There is no file {printable(text)}. Give the whole path, or drop the file on the page.")
    return str(path)


def data_path(text: str) -> str:
    """A typed path of samples.  Python functions are for the command line: a page shall not name code to run.

    Raises:
        NoData: if there is nothing.
    """
    path = _path(text)
    if not path.exists():
        raise NoData(
            f"There is no data at {printable(text)}: give the path of a folder of images, a .csv, an .npz or an .npy. "
            "(Functions, package.module:function, are for the command line.)"
        )
    return str(path)


def _path(text: str) -> Path:
    if "\0" in text or len(text) > 4096:
        raise InputMismatch("This is no path.")
    try:
        return Path(text.strip()).expanduser().absolute()
    except RuntimeError as error:
        raise InputMismatch(f"{printable(text)} is no path: {error}.") from error


def offered(text: str, most: int = 40) -> list[str]:
    """Paths that begin with ``text``: folders, networks and samples."""
    try:
        path = _path(text or "/")
        whole = text.endswith("/") or not text
        folder, start = (path, "") if whole else (path.parent, path.name)
        found: list[str] = []
        for number, entry in enumerate(sorted(folder.iterdir())):
            if number > MOST_FILES or len(found) >= most:
                break
            if not entry.name.startswith(start) or (entry.name.startswith(".") and not start.startswith(".")):
                continue
            if entry.is_dir():
                found.append(f"{entry}/")
            elif entry.suffix.lower() in (*NETWORKS, *SAMPLES):
                found.append(str(entry))
    except (OSError, ValueError, InputMismatch):
        return []
    return found
