"""What ``bitwright compare`` prints of integers that flip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitwright.commands import screen

if TYPE_CHECKING:
    from bitwright.flipping import Flips


def show_flips(found: Flips, most: int) -> None:
    """Layer by layer what a layer flips itself, and what differs with all that came before; then the outputs."""
    screen.say(f"{found.a} against {found.b}, {found.samples} samples")
    screen.say()
    shown = [layer for layer in found.layers if layer.carried or layer.own][:most]
    if shown:
        screen.table(
            (
                screen.Column("Layer", shrinks=True),
                screen.Column("Op", style="cyan", drop=1),
                screen.Column("Integers", right=True, drop=2),
                screen.Column("Own flips", right=True),
                screen.Column("All flips", right=True),
                screen.Column("Largest", right=True),
            ),
            [
                [
                    screen.safe(layer.layer),
                    layer.op,
                    f"{layer.integers:,}",
                    _share(layer.own, layer.integers),
                    _share(layer.carried, layer.integers),
                    str(layer.largest),
                ]
                for layer in shown
            ],
        )
        screen.say()
    screen.say(found.sentence)
    screen.notes(found.notes)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.2f} %"
