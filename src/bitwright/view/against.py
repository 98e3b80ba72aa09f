"""Comparing reports with each other and with networks: the same answer that two ``.bw`` files give."""

from __future__ import annotations

import math
import os

from bitwright.comparing import NetworkComparison, Side, TensorPair
from bitwright.tensors import TensorReport
from bitwright.view.pairs import pairs_seen
from bitwright.view.report import page_of
from bitwright.view.seen import SideSeen, TensorSeen


def compare_files(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> NetworkComparison:
    """Compare two networks, at least one of them as a report has it.

    The signal to noise of each is that which its own calibration told.

    Raises:
        BadModelFile: if a file cannot be read.
    """
    found = pairs_seen(page_of(a), page_of(b))
    notes = list(found.notes)
    if found.a.samples != found.b.samples:
        notes.append(
            f"Activations are judged by each one's own calibration, of {found.a.samples} and {found.b.samples} samples."
        )
    return NetworkComparison(
        a=_side(found.a),
        b=_side(found.b),
        tensors=tuple(TensorPair(a=_report(row.a), b=_report(row.b)) for row in found.rows),
        only_a=found.only_a,
        only_b=found.only_b,
        notes=tuple(notes),
    )


def _side(side: SideSeen) -> Side:
    return Side(
        name=side.name,
        target=side.target,
        schemes=dict(side.schemes),
        learnable_bytes=side.learnable_bytes[1],
        integer_mac_share=side.integer_mac_share,
        samples=side.samples,
        fingerprint=side.fingerprint,
    )


def _report(tensor: TensorSeen) -> TensorReport:
    bits = tensor.bits
    return TensorReport(
        tensor=tensor.name,
        layer=tensor.layer,
        kind=tensor.kind,
        format=tensor.type.text,
        bits=tensor.type.bits,
        min=tensor.min,
        max=tensor.max,
        overflow=tensor.overflow,
        underflow=tensor.underflow,
        sqnr_db=math.inf if tensor.lossless else tensor.sqnr_db,
        msb_counts=None if bits is None else {str(bits.top - k): n for k, n in enumerate(bits.totals) if n},
    )
