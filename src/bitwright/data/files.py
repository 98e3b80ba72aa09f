"""Samples in files: a folder of class-named folders, a folder of images, a CSV ``file,label``."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bitwright.data.contract import InputContract, nearest
from bitwright.data.image import is_image_name, read_image
from bitwright.data.labels import loaded, parser, shown
from bitwright.data.reader import Item, files_digest
from bitwright.errors import InputMismatch, NoData, printable

CLUTTER = frozenset({"thumbs.db", "desktop.ini"})


class ImageFiles:
    """Images listed with their labels, each decoded when it is asked for.

    Args:
        title: What to call the source.
        root: Folder that the names are relative to.
        names: File names, ``/`` between folders.
        labels: A label each, or None.
        notes: What the user should know.
        parse: Turns a label into its value when the sample is read.
    """

    parallel = True
    costly = True
    pixels = True
    selects = True

    def __init__(
        self,
        title: str,
        root: Path,
        names: Sequence[str],
        labels: Sequence[object] | None,
        notes: Sequence[str] = (),
        parse: Callable[[object], object] | None = None,
    ) -> None:
        self.title, self.root, self.names, self.labels = title, root, names, labels
        self.notes = list(notes)
        self.parse = parse
        self.labelled = labels is not None
        self.length = len(names)

    def read(self, index: int) -> Item:
        """Decode image ``index`` and its label."""
        if not self.names[index]:
            raise InputMismatch("the row names no file")
        label = None if self.labels is None else self.labels[index]
        if self.parse is not None and label is not None:
            label = loaded(self.parse(label))
        return Item(read_image(self.root / self.names[index]), label, index, self.names[index])

    def origin(self, index: int) -> str:
        """The file's name."""
        return self.names[index]

    def digest(self, indices: Sequence[int] | None) -> bytes:
        """Names, labels, sizes and contents of the chosen files."""
        indices = range(self.length) if indices is None else indices
        return files_digest(
            (self.names[i], self.root / self.names[i], None if self.labels is None else self.labels[i]) for i in indices
        )


def open_folder(root: Path) -> ImageFiles:
    """The images of a folder: labelled by class if its sub-folders hold them, in sorted order of their names.

    The label is the place of the sub-folder among all sub-folders, sorted by name.  Images may lie deeper; folders
    that link back to themselves are entered once; hidden files are passed over.

    Raises:
        NoData: if there is no image.
    """
    direct: list[str] = []
    nested: list[tuple[str, str]] = []
    others = 0
    folders: set[str] = set()
    try:
        for name in _walk(root, folders):
            if not is_image_name(name.rsplit("/", 1)[-1]):
                others += 1
            elif "/" in name:
                nested.append((name.split("/", 1)[0], name))
            else:
                direct.append(name)
    except OSError as error:
        raise NoData(f"The folder {printable(root)} cannot be read: {error.strerror}.") from error
    notes = [f"{others} files in {printable(root)} are no images and were passed over."] if others else []
    if not direct and not nested:
        raise NoData(
            f"The folder {printable(root)} holds no images ({others} other files): give a folder of images, or of "
            "folders of images named after their classes."
        )
    if direct:
        names = sorted(direct + [name for _, name in nested])
        if nested:
            notes.append(
                "Images lie both in the folder itself and in sub-folders, so no classes were read from the folders' names."
            )
        return ImageFiles(f"{len(names)} images of {printable(root)}", root, names, None, notes)
    classes = sorted(folders)
    index = {name: i for i, name in enumerate(classes)}
    names = sorted(name for _, name in nested)
    labels = [index[name.split("/", 1)[0]] for name in names]
    notes.append(f"Labels are the folders' places in sorted order: {shown(classes)}.")
    empty = [c for c in classes if index[c] not in set(labels)]
    if empty:
        notes.append(f"{len(empty)} class folders hold no images, for one {printable(repr(empty[0]))}.")
    if all(c.isdecimal() for c in classes) and any(int(c) != i for c, i in index.items()):
        notes.append(
            "The folders are named by numbers that differ from their places in sorted order (10 sorts before 2): pad them "
            "with zeros, or give a CSV, if the numbers are the labels."
        )
    title = f"{len(names)} images in {len(classes)} class folders of {printable(root)}"
    return ImageFiles(title, root, names, labels, notes)


def _walk(root: Path, folders: set[str]) -> Iterator[str]:
    """Names of all files below ``root``, and into ``folders`` the names of its visible sub-folders."""
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError:  # a link that leads to itself
                    continue
                if is_folder:
                    waiting.append(name)
                    if not folder:
                        folders.add(name)
                elif is_file:
                    yield name


def open_csv(path: Path, contract: InputContract) -> ImageFiles:
    """The images of a CSV with the columns ``file`` and, if there are labels, ``label``; others are passed over.

    Raises:
        NoData: if it cannot be read, lacks the column ``file`` or has no rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or ())
            if "file" not in columns:
                hint = nearest("file", columns) if columns else "; it is empty"
                raise NoData(
                    f"The CSV {printable(path)} has no column 'file'{printable(hint, 300)}: its first line must be "
                    "'file,label' or 'file'."
                )
            rows = [(row["file"] or "", row.get("label") or "") for row in table]
    except OSError as error:
        raise NoData(f"The CSV {printable(path)} cannot be read: {error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise NoData(f"The CSV {printable(path)} is damaged or not UTF-8 text: {error}.") from error
    if not rows:
        raise NoData(f"The CSV {printable(path)} has no rows after its first line.")
    names = [name.strip() for name, _ in rows]
    labels = [label.strip() for _, label in rows] if "label" in columns else None
    notes: list[str] = []
    parse: Callable[[str], object] | None = None
    if labels is not None:
        if contract.task != "detection" and not any(labels):
            labels = None  # a column without a value is no labels
        else:
            parse, notes = parser(contract.task, labels, path.parent)
    title = f"{len(names)} images of {printable(path)}"
    return ImageFiles(title, path.parent, names, labels, notes, _of_text(parse))


def _of_text(parse: Callable[[str], object] | None) -> Callable[[object], object] | None:
    return None if parse is None else lambda label: parse(str(label))
