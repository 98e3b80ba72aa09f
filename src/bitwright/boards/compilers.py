"""What the user may say about the compiler of a board."""

from __future__ import annotations

from bitwright.errors import ExportError, printable
from bitwright.mcu.firmware import Which


def which(board: str, text: str | None) -> Which | None:
    """``gcc``, ``zig`` or None, of a board whose compilers its file names.

    Raises:
        ExportError: it is another.
    """
    known: dict[str, Which] = {"gcc": "gcc", "zig": "zig"}
    if text is None:
        return None
    if text not in known:
        raise ExportError(f"The compiler of {printable(board)} is gcc or zig, not '{printable(text, 40)}'.")
    return known[text]
