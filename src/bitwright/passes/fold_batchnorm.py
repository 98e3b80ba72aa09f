"""Batch normalizations vanish in the linear layers beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.affine import Affine, absorb, fold_into_producer, fold_notes, read_batch_norm

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class FoldBatchNorm:
    """Absorb each BatchNormalization into the linear layer before it, else into those after it.

    1. ``Conv/ConvTranspose/Gemm → BN``, the tensor between them used nowhere else: weights and bias change, BN goes,
       its name joins the layer's sources.  ``→ BN → BN`` folds both.
    2. ``BN → Conv/Gemm`` where all readers can take it: only without padding, or if the shift is zero.
    3. Anything else is left alone, and a note says why.

    Widens the range of weights (reported per layer), the usual cause of lost accuracy on per-tensor targets.
    """

    name: ClassVar[str] = "fold-batchnorm"
    summary: ClassVar[str] = "Absorb batch normalizations into the linear layers beside them."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Fold ``net`` in place."""
        folds, left = absorb(net, _read)
        notes = fold_notes(folds)
        for node in net.nodes():
            reason = read_batch_norm(net, node)
            if isinstance(reason, str):
                notes.append(Note(f"batch normalization left in place: {reason}", layer=str(node.name)))
        for node, affine, after in left:
            before = fold_into_producer(net, node, affine)
            text = f"batch normalization left in place: before it, {before}; after it, {after}"
            notes.append(Note(text, layer=str(node.name)))
        return Change(bool(folds), tuple(notes), folds)


def _read(net: Network, node: ir.Node) -> Affine | None:
    found = read_batch_norm(net, node)
    return found if isinstance(found, Affine) else None
