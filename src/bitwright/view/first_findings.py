"""What the formats alone tell, before anything was explained by measurement: a few sentences, the heaviest first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bitwright.errors import printable
from bitwright.view.seen import FindingSeen, FoldSeen, TensorSeen

if TYPE_CHECKING:
    from bitwright.detailing import FloatRow

ONE_LAYER = re.compile(r": \d+ of \d+ channels")
POOR_DB = 20.0
MANY_OVER = 0.01
MOST = 7
SHOWN_FLOATS, MANY_BITS = 3, 2


def first_findings(
    sentences: Sequence[str],
    tensors: Sequence[TensorSeen],
    floats: Sequence[FloatRow] = (),
    folds: Sequence[FoldSeen] = (),
) -> tuple[FindingSeen, ...]:
    """Up to seven things that stand out, the heaviest first; what is well stands last, in one card.

    Args:
        sentences: What ``details`` found.
        tensors: All tensors.
        floats: Layers that run in float.
        folds: What folding did.
    """
    found = [_folded(f) for f in _stretched(folds, tensors)]
    named = {one.layer for one in found}
    found += [_poor(t) for t in _worst(tensors) if t.layer not in named]
    rest = list(sentences)
    if floats:
        found.insert(0, _in_float(rest.pop(0), floats))
    serious = [s for s in rest if "may overflow" in s]
    found += [FindingSeen(title="Accumulators", text=s, kind="accumulator", severity="bad") for s in serious]
    quiet = " ".join(s for s in rest if s not in serious and not ONE_LAYER.search(s))
    if quiet:
        found.append(FindingSeen(title="Proven of the integers", text=quiet, severity="good"))
    return tuple(found[:MOST])


def _stretched(folds: Sequence[FoldSeen], tensors: Sequence[TensorSeen]) -> list[FoldSeen]:
    """Folds that cost several bits, where the weights have one format for all channels."""
    shared = {t.layer for t in tensors if t.kind == "Weights" and not t.type.per_channel}
    costly = [f for f in folds if f.kind == "weights" and f.bits_lost >= MANY_BITS and f.layer in shared]
    return sorted(costly, key=lambda f: -f.bits_lost)[:3]


def _folded(fold: FoldSeen) -> FindingSeen:
    harmed = sum(n > 0 for n in fold.channel_bits_lost)
    whose = "" if fold.worst_channel is None else f" (channel {fold.worst_channel} by {fold.worst_scale:.3g})"
    most = max(0, *fold.channel_bits_lost)
    return FindingSeen(
        title=fold.layer,
        text=f"Folding batch normalization stretched the weights {fold.factor:.3g}-fold{whose}: {harmed} of "
        f"{len(fold.channel_bits_lost)} channels lose up to {most} bit{'' if most == 1 else 's'} in one common format.",
        kind="fold",
        severity="bad",
        figure=f"−{fold.bits_lost} bits",
        remedy="Equalize the channels (--mend equalize), or take a target with a step for each channel.",
        action=(("mend", "equalize"),),
        layer=fold.layer,
        tensor=f"{fold.layer}.Weights",
    )


def _worst(tensors: Sequence[TensorSeen]) -> list[TensorSeen]:
    """The tensors that lose most; what a bias loses counts beside its layer's output, not beside the bias."""
    poor = [t for t in tensors if t.kind != "Bias" and t.sqnr_db is not None and t.sqnr_db < POOR_DB]
    return sorted(poor, key=lambda t: t.sqnr_db or 0.0)[:3]


def _poor(tensor: TensorSeen) -> FindingSeen:
    assert tensor.sqnr_db is not None
    over, under = tensor.overflow or 0.0, tensor.underflow or 0.0
    if over > MANY_OVER:
        kind, text = "overflow", f"{100 * over:.1f} % of the values lie beyond the range of {tensor.type.text}."
    elif under > 0.1:
        kind = "underflow"
        text = f"{100 * under:.0f} % of the values are smaller than half a step of {tensor.type.text} and become zero."
    else:
        kind, text = "coarse steps", f"The steps of {tensor.type.text} are coarse for these values."
    where = "weights" if tensor.kind == "Weights" else "activations"
    return FindingSeen(
        title=tensor.name,
        text=f"{text} Storing these {where} keeps {tensor.sqnr_db:.1f} dB.",
        kind=kind,
        severity="bad",
        figure=f"{tensor.sqnr_db:.1f} dB",
        remedy="bitwright explain measures what that costs and tries the remedies.",
        layer=tensor.layer,
        tensor=tensor.name,
    )


def _in_float(sentence: str, floats: Sequence[FloatRow]) -> FindingSeen:
    shown = "; ".join(f"{printable(r.layer, 60)}: {printable(r.reason, 200)}" for r in floats[:SHOWN_FLOATS])
    more = f"; and {len(floats) - SHOWN_FLOATS} more" if len(floats) > SHOWN_FLOATS else ""
    return FindingSeen(
        title="Layers in float",
        text=f"{sentence} {shown}{more}.",
        kind="float",
        severity="note",
        remedy="Replace the layer by one that the target has, or choose another target.",
        command="",
        layer=floats[0].layer,
    )
