"""The two files of an ncnn model: lines of ``.param`` and numbers of ``.bin``.

Sources: Tencent/ncnn a4d2ea1, ``src/modelbin.cpp`` (tags), ``docs/developer-guide/param-and-model-file-structure.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 7767517
INT8_TAG = 0x000D4B38
FLOAT_TAG = 0
Value = int | float | Sequence[int | float]


@dataclass
class NcnnGraph:
    """Lines and numbers of a model under construction."""

    lines: list[tuple[str, str, list[str], list[str], dict[int, Value]]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    int8: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def name(self, stem: str) -> str:
        """A name without spaces that nothing else has."""
        plain = "_".join(str(stem).split()) or "unnamed"
        found, number = plain, 1
        while found in self.taken:
            number += 1
            found = f"{plain}_{number}"
        self.taken.add(found)
        return found

    def blob(self, tensor: str) -> str:
        """The blob of a tensor of the network."""
        if tensor not in self.names:
            self.names[tensor] = self.name(tensor)
        return self.names[tensor]

    def layer(self, kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], **parameters: Value) -> None:
        """Add a line; parameters are ``p0=…`` by their numbers."""
        numbered = {int(key[1:]): value for key, value in parameters.items()}
        self.lines.append((kind, self.name(name), list(inputs), list(outputs), numbered))

    def floats(self, values: NDArray[Any], *, tagged: bool = False) -> None:
        """Numbers in single precision, with the tag of weights or without."""
        head = struct.pack("<I", FLOAT_TAG) if tagged else b""
        self.chunks.append(head + np.ascontiguousarray(values, "<f4").tobytes())

    def bytes8(self, codes: NDArray[np.int64]) -> None:
        """Weights of 8 bits, padded to whole words."""
        data = np.ascontiguousarray(codes.astype(np.int8)).tobytes()
        self.chunks.append(struct.pack("<I", INT8_TAG) + data + bytes(-len(data) % 4))

    def param(self) -> str:
        """The ``.param`` file; a blob that several layers read is split first, as ncnn demands."""
        readers: dict[str, int] = {}
        for _, _, inputs, _, _ in self.lines:
            for name in inputs:
                readers[name] = readers.get(name, 0) + 1
        lines, copies = [], {name: [f"{name}_splitncnn_{i}" for i in range(n)] for name, n in readers.items() if n > 1}
        waiting = {name: list(parts) for name, parts in copies.items()}
        blobs = set()
        for kind, name, inputs, outputs, parameters in self.lines:
            given = [waiting[i].pop(0) if i in waiting else i for i in inputs]
            words = [kind, name, str(len(given)), str(len(outputs)), *given, *outputs]
            lines.append(" ".join([*words, *(parameter(k, v) for k, v in parameters.items())]))
            blobs |= {*given, *outputs}
            for made in outputs:
                if made in copies:
                    parts = copies[made]
                    lines.append(" ".join(["Split", f"splitncnn_{made}", "1", str(len(parts)), made, *parts]))
        return "\n".join([str(MAGIC), f"{len(lines)} {len(blobs)}", *lines]) + "\n"


def parameter(number: int, value: Value) -> str:
    """``number=value``; arrays have numbers of their own and their length first."""
    if isinstance(value, (int, float)):
        return (
            f"{number}={value if isinstance(value, int) else f'{value:.9g}' if value != int(value) else f'{value:.1f}'}"
        )
    return f"{-23300 - number}={','.join([str(len(value)), *(format(v, '.9g') for v in value)])}"


def dims(shape: Sequence[int], numbers: tuple[int, int, int, int]) -> dict[str, Value]:
    """Extents of a blob without its batch as (w, h, d, c) under their parameter numbers."""
    w, h, d, c = numbers
    order = {1: (w,), 2: (h, w), 3: (c, h, w), 4: (c, d, h, w)}[len(shape)]
    return {f"p{number}": int(n) for number, n in sorted(zip(order, shape, strict=True))}
