"""How a tensor's values spread over powers of two, drawn in one line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BARS = " ▁▂▃▄▅▆▇█"
WIDEST = 24


def bit_columns(counts: Sequence[Mapping[str, int]]) -> tuple[int, int]:
    """The powers of two of the first and the last column: the highest that occurs, and at most ``WIDEST`` in all."""
    powers = [int(power) for row in counts for power, count in row.items() if count]
    if not powers:
        return 0, -1
    top = max(powers)
    return top, max(min(powers), top - WIDEST + 1)


def spark(counts: Mapping[str, int], top: int, bottom: int) -> str:
    """One character per power of two from ``top`` down to ``bottom``, higher where more values have their top bit."""
    values = [counts.get(str(power), 0) for power in range(top, bottom - 1, -1)]
    most = max(values, default=0)
    if not most:
        return " " * len(values)
    return "".join(BARS[0] if not v else BARS[max(1, round(8 * v / most))] for v in values)
