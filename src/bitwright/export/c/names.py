"""Names and numbers as C text: identifiers that cannot collide, comments that cannot end early, arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# C99 and C++20 keywords, and names that a libc may have taken.
KEYWORDS = """\
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class co_await
co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long main mutable
namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires
restrict return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true
try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
abs exit free malloc memcpy memset printf puts remove rename signal stdin stdout time test linux unix"""
RESERVED = frozenset(KEYWORDS.split())
LONGEST = 40
INT32 = 1 << 31


def plain(name: str) -> str:
    """``name`` as a C identifier: ASCII letters, digits and single underscores, not a keyword, not too long."""
    text = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")[:LONGEST].rstrip("_")
    if not text or text[0].isdigit():
        text = f"n{text}"
    return f"{text}_net" if text in RESERVED else text


@dataclass
class Names:
    """Gives every foreign name an identifier of its own: the same name the same, two names never one.

    Attributes:
        given: What has been given away, in any letter case (file systems may not tell).
    """

    given: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def identifier(self, name: str) -> str:
        """The identifier for ``name``."""
        if name not in self.given:
            stem = plain(name)
            text, number = stem, 1
            while text.lower() in self._taken:
                number += 1
                text = f"{stem}_{number}"
            self._taken.add(text.lower())
            self.given[name] = text
        return self.given[name]


def comment(text: object, limit: int = 80) -> str:
    """``text`` for a ``/* … */`` comment: printable ASCII without what could end it, continue a line or be a trigraph."""
    safe = "".join(c if c.isascii() and c.isprintable() and c not in "\\?*" else "_" for c in str(text))
    return safe if len(safe) <= limit else f"{safe[: limit - 3]}..."


def string(text: object, limit: int = 120) -> str:
    """``text`` as a C string literal, quotes included; bytes outside printable ASCII in octal."""
    out = []
    for byte in str(text).encode("utf-8", "replace")[:limit]:
        char = chr(byte)
        out.append(char if 32 <= byte < 127 and char not in '"\\?' else f"\\{byte:03o}")
    return f'"{"".join(out)}"'


def c_int(value: int) -> str:
    """An integer constant of the smallest type that C gives it without a warning."""
    if value == -(1 << 63):
        return "INT64_MIN"
    if value == -INT32:
        return "INT32_MIN"
    if -INT32 < value < INT32:
        return str(value)
    return f"INT64_C({value})"


def type_of(dtype: np.dtype[Any]) -> str:
    """The C99 type of a NumPy integer type."""
    return f"{dtype.name}_t"


SHORT = {"int8": "s8", "uint8": "u8", "int16": "s16", "uint16": "u16", "int32": "s32", "uint32": "u32", "int64": "s64"}


def short(dtype: np.dtype[Any]) -> str:
    """A NumPy integer type as a suffix of kernel names: ``s8``, ``u8``, ``s16`` and so on."""
    return SHORT.get(dtype.name, dtype.name)


def array_body(values: NDArray[Any], width: int = 118) -> Iterable[str]:
    """The elements of an array in C, as lines."""
    flat = np.ravel(values)
    if flat.size == 0:
        yield "    0"
        return
    if flat.dtype.itemsize >= 4:
        texts = [c_int(int(v)) for v in flat.tolist()]
    else:
        texts = [str(v) for v in flat.tolist()]
    per_line = max(1, width // (max(map(len, texts)) + 1))
    for start in range(0, len(texts), per_line):
        yield "    " + ",".join(texts[start : start + per_line]) + ","
