"""The constants of a network as C arrays, equal ones stored once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.names import Names, array_body, comment, type_of


@dataclass(frozen=True)
class Constant:
    """One array.

    Attributes:
        symbol: Its C name.
        values: Its values, flat.
        role: What it is: ``weights``, ``bias``, ``requantization``, ``table`` or ``indices``.
        layer: The layer that first asked for it.
    """

    symbol: str
    values: NDArray[Any]
    role: str
    layer: str

    @property
    def declaration(self) -> str:
        """``const int8_t name[n]``."""
        return f"const {type_of(self.values.dtype)} {self.symbol}[{max(self.values.size, 1)}]"


@dataclass
class Constants:
    """Collects arrays.

    Attributes:
        prefix: Put before every name.
        names: Where names come from.
    """

    prefix: str
    names: Names
    made: dict[tuple[str, bytes], Constant] = field(default_factory=dict)

    def add(self, layer: str, role: str, stem: str, values: NDArray[Any]) -> str:
        """The symbol of an array with these values and this type; a new one only if there is none yet."""
        flat = np.ascontiguousarray(values).ravel()
        key = (flat.dtype.name, flat.tobytes())
        if key not in self.made:
            symbol = f"{self.prefix}_{self.names.identifier(f'{layer} {stem} {len(self.made)}')}"
            self.made[key] = Constant(symbol, flat, role, layer)
        return self.made[key].symbol

    def declarations(self) -> Iterable[str]:
        """For the header that the network's own files share."""
        return (f"extern {constant.declaration};" for constant in self.made.values())

    def definitions(self) -> Iterable[str]:
        """For the file of weights."""
        for constant in self.made.values():
            yield f"/* {comment(constant.layer)}: {constant.role} */"
            yield f"BW_WEIGHTS_SECTION {constant.declaration} = {{"
            yield from array_body(constant.values)
            yield "};"

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(constant.values.nbytes for constant in self.made.values())

    def bytes_of(self, role: str) -> int:
        """Bytes of the arrays with one role."""
        return sum(constant.values.nbytes for constant in self.made.values() if constant.role == role)


def smallest_unsigned(values: NDArray[np.int64]) -> NDArray[Any]:
    """Indices in the smallest unsigned type, or signed 32 bits where some are negative."""
    if values.size and values.min() < 0:
        return values.astype(np.int32)
    for dtype in (np.uint8, np.uint16):
        if not values.size or values.max() <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.uint32)
