"""What the formats alone tell, before anything was explained by measurement: a few sentences, the heaviest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bitwright.errors import printable
from bitwright.view.seen import FindingSeen, TensorSeen

if TYPE_CHECKING:
    from bitwright.detailing import FloatRow

POOR_DB = 20.0
MANY_OVER = 0.01
MOST = 7
SHOWN_FLOATS = 3


def first_findings(
    sentences: Sequence[str], tensors: Sequence[TensorSeen], floats: Sequence[FloatRow] = ()
) -> tuple[FindingSeen, ...]:
    """Three to seven things that stand out.

    Args:
        sentences: What ``details`` found.
        tensors: All tensors.
        floats: Layers that run in float.
    """
    found = [_poor(t) for t in _worst(tensors)]
    if floats:
        found.append(_in_float(sentences[0], floats))
        sentences = sentences[1:]
    # What a channel of weights or an accumulator does is said of the network as a whole.
    found += [
        FindingSeen(
            title="Accumulators" if "ccumulator" in s else "The integers", text=s, kind="proven", severity="good"
        )
        for s in sentences
    ]
    return tuple(found[:MOST])


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
