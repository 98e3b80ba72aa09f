"""Additions and multiplications by constants vanish in the linear layers beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.affine import absorb, fold_notes, read_arithmetic

if TYPE_CHECKING:
    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class FoldScale:
    """Absorb Mul, Add, Sub and Div by a scalar or per-channel constant into the neighbouring linear layers.

    1. After a Conv, ConvTranspose, Gemm (MatMul: only factors), the tensor between them used nowhere else.
    2. Before linear layers, the network's own input included (``x / 255`` and mean subtraction): a shift only where
       no padding is.
    3. Anything else is left alone; for an input that is shifted before a padded layer a note says why.
    """

    name: ClassVar[str] = "fold-scale"
    summary: ClassVar[str] = "Absorb arithmetic with constants into the linear layers beside it."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Fold ``net`` in place."""
        folds, left = absorb(net, read_arithmetic)
        notes = fold_notes(folds)
        for node, affine, reason in left:
            if affine.source.is_graph_input():
                notes.append(Note(f"arithmetic on the input left in place: {reason}", layer=str(node.name)))
        return Change(bool(folds), tuple(notes), folds)
