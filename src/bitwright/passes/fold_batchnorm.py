"""Batch normalizations vanish in the linear layers beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.affine import fold_into_consumers, fold_into_producer, read_batch_norm
from bitwright.passes.fold import Fold, sentence

if TYPE_CHECKING:
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
        notes: list[Note] = []
        folds: list[Fold] = []
        for node in net.nodes():
            if node.op_type != "BatchNormalization":
                continue
            name = str(node.name)
            affine = read_batch_norm(net, node)
            if isinstance(affine, str):
                notes.append(Note(f"batch normalization left in place: {affine}", layer=name))
                continue
            result = fold_into_producer(net, node, affine)
            if isinstance(result, str):
                before, result = result, fold_into_consumers(net, node, affine)
                if isinstance(result, str):
                    text = f"batch normalization left in place: before it, {before}; after it, {result}"
                    notes.append(Note(text, layer=name))
                    continue
            folds.extend(result)
            for layer in dict.fromkeys(fold.layer for fold in result):
                notes.append(Note(sentence(tuple(f for f in result if f.layer == layer)), layer=layer))
        net.sweep()
        return Change(bool(folds), tuple(notes), tuple(folds))
