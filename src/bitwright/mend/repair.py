"""The one shape of a repair, and the clock that it looks at."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from bitwright.mend.bench import Bench
from bitwright.mend.solution import Solution


@dataclass(frozen=True)
class Clock:
    """How long a repair may take, and whom it tells how far it is.

    Attributes:
        until: ``time.monotonic()`` at which it should come to an end; what is done so far counts.
        tell: Called with what is going on.
    """

    until: float = float("inf")
    tell: Callable[[str], None] = field(default=lambda text: None)

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self.until

    def share(self, part: float) -> Clock:
        """A clock that gives ``part`` of the time that is left."""
        if self.until == float("inf"):
            return self
        now = time.monotonic()
        return Clock(now + max(0.0, self.until - now) * part, self.tell)


@runtime_checkable
class Repair(Protocol):
    """A frozen dataclass whose fields are its options.

    A repair may look at the samples to learn from as it likes; whether its result is kept is decided by others, on
    samples that it has not seen.  One with a class attribute ``part`` gets no more than this share of the time left, unless
    it is the last.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """Another solution, or the same one, and in a sentence with numbers what was done or why nothing was."""
        ...
