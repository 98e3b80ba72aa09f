"""The reasons why two networks differ, for ``bitwright compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bitwright.commands import screen

if TYPE_CHECKING:
    from bitwright.comparing import NetworkComparison
    from bitwright.explain.contrast import Contrast


def reasons(
    a: Path, b: Path, found: NetworkComparison, *, data: str | None, samples: int | None = None
) -> Contrast | None:
    """Why they differ; None where they are different networks, or one carries no calibration."""
    from bitwright.errors import CalibrationError
    from bitwright.explain.contrast import contrast

    if found.a.fingerprint != found.b.fingerprint or not found.tensors:
        return None
    try:
        with screen.progress("Comparing", "samples", quiet=data is None) as progress:
            return contrast(a, b, data, samples=samples, progress=progress)
    except CalibrationError:  # the comparison itself has said so
        return None


def show_reasons(why: Contrast, most: int) -> None:
    """The whole in a sentence, then tensor by tensor."""
    width = min(screen.out().width, screen.TEXT_WIDTH)
    screen.say(screen.text("Why", "bold"))
    screen.say(screen.paragraph(screen.safe(why.summary, 1000), first="  ", indent="  ", width=width))
    for rank, one in enumerate(why.differences[:most], 1):
        words = screen.safe(one.sentence, 1500)
        screen.say(screen.paragraph(words, first=f" {rank:>2}. ", indent="     ", width=width))
    if len(why.differences) > most:
        screen.say(
            screen.text(f"     and {screen.many(len(why.differences) - most, 'more difference')} (--most)", "dim")
        )
