"""HTML and SVG that cannot be broken by what is put into it: every text is escaped unless it is markup already.

Names come from files that we did not write, and reports are mailed.  So there is one way to make an element, :func:`tag`,
and one way to show a foreign name, :func:`label`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from bitwright.errors import printable

SHOWN, TOLD = 80, 2000
"""Characters of a name that are shown, and that its tool tip tells."""

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
SHAPES = {"circle", "path", "rect"}
"""Elements of SVG that end themselves where nothing is in them."""

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")
ADDRESSES = {"href", "src", "action", "formaction", "xlink:href"}
ADDRESS = re.compile(r"(?:[#?.]|/(?![/\\])|data:image/png;base64,|[\w%-]+(?:[/?#.]|$))")
RIGHT_TO_LEFT = {"R", "AL", "AN"}


class Markup(str):
    """Text that is HTML already.  Only this module makes it from anything but constants."""

    __slots__ = ()

    def __html__(self) -> str:
        """Itself; what template engines ask for."""
        return str(self)


Content: TypeAlias = "str | Markup | int | float | Iterable[Content] | None"
Value: TypeAlias = str | int | float | bool | None


def text(content: Content) -> Markup:
    """``content`` as HTML: text is escaped, markup is kept, None is nothing, the rest is put together."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup("")
    if isinstance(content, (str, int, float)):
        return Markup(escape(_visible(str(content)), quote=True))
    return Markup("".join(map(text, content)))


def tag(name: str, /, *content: Content, **attributes: Value) -> Markup:
    """One element.

    Args:
        name: Its name; no user's text.
        content: What is in it.
        attributes: A trailing ``_`` is dropped (``class_``), other ``_`` become ``-``; None and False leave one out, True
            gives it without a value.

    Raises:
        ValueError: if a name is none, an address leads elsewhere, or an attribute would be a script.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an element")
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        named = key.rstrip("_").replace("_", "-")
        if not NAME.fullmatch(named) or named.lower().startswith("on") or named == "style":
            raise ValueError(f"{named!r} is no attribute that may be written: it would be a script or a style")
        if value is True:
            parts.append(f" {named}")
            continue
        shown = _visible(str(value))
        if named in ADDRESSES and not ADDRESS.match(shown):
            raise ValueError(f"{named} would lead elsewhere: {printable(shown, 60)}")
        parts.append(f' {named}="{escape(shown, quote=True)}"')
    if name in SHAPES and not content:
        return Markup("".join(parts) + "/>")
    parts.append(">")
    if name not in VOID:
        parts += [text(content), f"</{name}>"]
    return Markup("".join(parts))


def label(name: object, limit: int = SHOWN) -> Markup:
    """A foreign name: nothing hidden, nothing reordered beside it, cut in the middle where it is long, whole in its tip."""
    whole = printable(name, TOLD)
    shown = cut(whole, limit)
    turns = any(unicodedata.bidirectional(c) in RIGHT_TO_LEFT for c in shown)
    if shown == whole and not turns:
        return text(whole)
    return tag("bdi", shown, title=None if shown == whole else whole)


def sentence(text_: str, limit: int = 600, word: int = 60) -> Markup:
    """A sentence with foreign names in it: what fills more than a line is cut in the middle, and so is the whole."""
    return label(" ".join(cut(one, word) for one in printable(text_, 20 * TOLD).split(" ")), limit)


def breakable(name: object, limit: int = SHOWN) -> Markup:
    """A foreign name as :func:`label` shows it, which may go on in the next line after a dot, slash or underscore."""
    shown = label(name, limit)
    if shown.startswith("<"):
        return shown
    return Markup(re.sub(r"([/._])(?=[^/._])", r"\1<wbr>", shown))


def spaced(*content: Content) -> list[Content]:
    """Pieces with spaces between them, for readers without a stylesheet; nothing for what is None."""
    kept = [piece for piece in content if piece is not None]
    return [part for k, piece in enumerate(kept) for part in ((" ", piece) if k else (piece,))]


def cut(name: str, limit: int) -> str:
    """``name`` in at most ``limit`` characters, the middle left out: both ends of a layer's name tell something."""
    if len(name) <= limit:
        return name
    head = limit // 2
    return f"{name[:head]}…{name[len(name) - (limit - head - 1) :]}"


def _visible(value: str) -> str:
    """Text without characters that hide or turn others; line breaks and tabs stay."""
    return (
        value if value.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in value)
    )
