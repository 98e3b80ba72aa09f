"""One number that stands for a network: its structure and every bit of its weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from bitwright.network.reading import pieces

if TYPE_CHECKING:
    from bitwright.network.network import Network


def fingerprint(net: Network) -> str:
    """SHA-256 in hex; equal for equal networks whatever their file, nodes and layers are called."""
    digest = hashlib.sha256()
    for text in (net.inputs, net.outputs, [net.shape(name) for name in net.inputs]):
        digest.update(repr(text).encode())
    for node in net.nodes():
        wires = [[v.name if v is not None else "" for v in ends] for ends in (node.inputs, node.outputs)]
        digest.update(repr((node.domain, node.op_type, *wires)).encode())
        for name, value in sorted(net.attributes(node).items()):
            plain = (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
            digest.update(repr((name, plain)).encode())
    for name, value in sorted(net.model.graph.initializers.items()):
        tensor = value.const_value
        assert tensor is not None
        digest.update(repr((name, int(tensor.dtype), tuple(tensor.shape.numpy()))).encode())
        for piece in pieces(tensor):
            digest.update(np.ascontiguousarray(piece).data if piece.dtype != object else repr(piece).encode())
    return digest.hexdigest()
