"""Compute once what does not depend on the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bitwright.errors import printable
from bitwright.network.constants import fold_constants
from bitwright.passes._pass import Change, Needs, Note

if TYPE_CHECKING:
    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class FoldConstants:
    """Replace everything that follows from constants and shapes by its value.

    1. ``Constant`` nodes, arithmetic and reordering of weights: become initializers.
    2. Chains of shape arithmetic: become constants where they are equal for every batch.
    3. Shapes that hold the batch: their reader copies it from its data, so the batch stays free.
    4. ``DequantizeLinear`` of constants is left alone: it is information for a quantizer.
    """

    name: ClassVar[str] = "fold-constants"
    summary: ClassVar[str] = "Compute once what does not depend on the input."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Fold ``net`` in place."""
        gone, freed = fold_constants(net)
        notes = [Note("takes the batch from its data instead of from a computed shape", layer=n) for n in freed]
        if gone:
            some = ", ".join(printable(n, 40) for n in gone[:3])
            notes.append(
                Note(f"{len(gone)} nodes do not depend on the input and were computed: {some}{' …' * (len(gone) > 3)}")
            )
        return Change(bool(gone or freed), tuple(notes))
