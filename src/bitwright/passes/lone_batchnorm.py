"""A batch normalization that folds nowhere becomes a depthwise convolution, which every target has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.affine import Affine, read_batch_norm

if TYPE_CHECKING:
    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class LoneBatchNorm:
    """Write each remaining BatchNormalization of rank 3 and more as a depthwise Conv with a kernel of one element.

    The node keeps its name and its place.  One of rank 2 (after a Gemm whose output is used elsewhere too) stays, because a
    matrix with one diagonal would multiply by zeros.  Apply it after the folding passes: what it turns into a
    convolution no longer folds into its neighbours.
    """

    name: ClassVar[str] = "lone-batchnorm"
    summary: ClassVar[str] = "Write batch normalizations that fold nowhere as depthwise convolutions."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Rewrite ``net`` in place."""
        notes: list[Note] = []
        for node in net.nodes():
            if node.op_type != "BatchNormalization" or node.inputs[0] is None:
                continue
            source = str(node.inputs[0].name)
            affine = read_batch_norm(net, node)
            if not isinstance(affine, Affine) or not net.has_shape(source) or len(net.shape(source)) < 3:
                continue
            kernel = (1,) * (len(net.shape(source)) - 2)
            weight = affine.scale.astype(np.float32).reshape(-1, 1, *kernel)
            node.op_type = "Conv"
            net.set_attributes(node, epsilon=None, momentum=None, training_mode=None)
            net.set_attributes(node, group=len(weight), kernel_shape=list(kernel))
            net.set_input(node, 1, net.new_constant(f"{node.name}.scale", weight))
            net.set_input(node, 2, net.new_constant(f"{node.name}.shift", affine.shift.astype(np.float32)))
            node.resize_inputs(3)
            notes.append(Note("batch normalization written as a depthwise convolution", layer=str(node.name)))
        net.sweep()
        return Change(bool(notes), tuple(notes))
