"""The passes that bring any network into the form that lowering expects, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitwright.passes._pass import Change, Pass, run
from bitwright.passes.fold_batchnorm import FoldBatchNorm
from bitwright.passes.fold_constants import FoldConstants
from bitwright.passes.fold_pad import FoldPad
from bitwright.passes.fold_scale import FoldScale
from bitwright.passes.fuse_activation import FuseActivation
from bitwright.passes.group_functions import GroupFunctions
from bitwright.passes.lone_batchnorm import LoneBatchNorm
from bitwright.passes.matmul_to_gemm import MatMulToGemm
from bitwright.passes.remove_identity import RemoveIdentity

if TYPE_CHECKING:
    from bitwright.network.network import Network

FOLDING: tuple[Pass, ...] = (
    FoldConstants(),
    RemoveIdentity(),
    MatMulToGemm(),
    FoldPad(),
    FoldBatchNorm(),
    # Functions first: SiLU's "x · σ(x)" has no constants to fold, but GELU's ½ must stay with GELU.
    GroupFunctions(),
    FoldScale(),
)
FINISHING: tuple[Pass, ...] = (LoneBatchNorm(), FoldBatchNorm(), FoldScale(), FuseActivation())
_ROUNDS = 16


def prepare(net: Network) -> tuple[Network, tuple[Change, ...]]:
    """A copy of ``net`` folded and grouped into layers, and everything that was done to it.

    The folding passes are repeated until none changes anything, then what could not be folded is written in another
    way and activations are grouped.

    Returns:
        The network, and the changes that modified something, followed by what the last round left alone and why.
    """
    changes: list[Change] = []
    for _ in range(_ROUNDS):
        net, latest = run(net, FOLDING)
        changes.extend(change for change in latest if change.modified)
        if not any(change.modified for change in latest):
            break
    net, finished = run(net, FINISHING)
    left = [change for change in (*latest, *finished) if change.notes and not change.modified]
    changes.extend(change for change in finished if change.modified)
    return net, (*changes, *left)
