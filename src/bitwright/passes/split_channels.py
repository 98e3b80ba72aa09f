"""Outlier channels are written twice, at half their size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.passes import normal
from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.linear import Linear, read_linear, write_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Reals = NDArray[np.float64]


def outliers(largest: Reals, ratio: float, most: int) -> NDArray[np.int64]:
    """How often each input channel is written, ``[in]``, at least once.

    A channel whose largest weight is more than ``ratio`` times the median of all channels is split in two until it is
    not, the largest first, as long as no more than ``most`` channels are added.

    Args:
        largest: Largest magnitude of the weights that read each channel, ``[in]``.
        ratio: What is an outlier.
        most: Channels that may be added.
    """
    copies = np.ones(len(largest), np.int64)
    limit = ratio * float(np.median(largest))
    for _ in range(most):
        worst = int(np.argmax(largest / copies))
        if largest[worst] / copies[worst] <= limit:
            break
        copies[worst] += 1
    return copies


def divided(weight: Reals, copies: NDArray[np.int64], step: float) -> Reals:
    """Columns of ``weight`` ``[out, in, ...]`` repeated, each copy a share, rounded apart.

    The shares of a column split in ``n`` are ``(w + i · step) / n`` for ``i`` from ``-(n-1)/2`` to ``(n-1)/2``: their
    sum is ``w``, and the sum of the rounded shares is ``w`` rounded once (Zhao et al. 2019, arXiv:1901.09504, section
    3.3, for two halves; Hermite's identity for more).
    """
    columns: list[Reals] = []
    for i, count in enumerate(copies):
        places = np.arange(count) - (count - 1) / 2
        columns.extend((weight[:, i : i + 1] + place * step) / count for place in places)
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class SplitChannels:
    """Split input channels with outlying weights in two or more (outlier channel splitting).

    Zhao et al. 2019 (arXiv:1901.09504): the layer before writes such a channel several times, and the weights that read it
    are shared out, so the range of the layer's weights shrinks and the network stays what it is.  Costs the weights
    and multiplications of the channels that are added.

    Attributes:
        ratio: A channel is an outlier if its largest weight is so many times the median over channels.
        share: Channels that may be added to a layer, as a share of those it has.
    """

    name: ClassVar[str] = "split-channels"
    summary: ClassVar[str] = "Split channels with outlying weights in two (outlier channel splitting)."
    changes_function: ClassVar[bool] = False

    ratio: float = 3.0
    share: float = 0.1

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Split in ``net``."""
        bits = 8 if target is None else target.weight.bits
        notes: list[Note] = []
        added = 0
        for maker, passed, reader in _sites(net):
            before, after = read_linear(net, maker), read_linear(net, reader)
            assert before is not None  # the site was found by reading them
            assert after is not None
            if maker.metadata_props.get(MARK) or after.inputs != before.outputs:
                continue
            largest = np.abs(after.weight).max(axis=(0, *range(2, after.weight.ndim)))
            copies = outliers(largest, self.ratio, int(self.share * len(largest)))
            if copies.max() == 1:
                continue
            _write(net, maker, passed, reader, (before, after), copies, bits)
            more = int(copies.sum()) - len(copies)
            added += more
            text = f"{more} channels added to {len(copies)}; its largest weight falls from {largest.max():.3g} to {(largest / copies).max():.3g}"
            notes.append(Note(text, layer=str(reader.name)))
        if not notes:
            return Change(notes=(Note("no layer has outlying channels that could be split"),))
        net.reinfer()
        return Change(True, (Note(f"{added} channels added in {len(notes)} layers"), *notes))


MARK = "bitwright.split"
"""On layers whose outputs were split: once is enough, because the limit is a share of what there was."""


def _sites(net: Network) -> list[tuple[ir.Node, tuple[ir.Node, ...], ir.Node]]:
    """A linear layer, what passes its channels on, and the one linear layer that reads them."""
    found = []
    for maker in net.nodes():
        layer = read_linear(net, maker)
        if layer is None or layer.groups != 1 or layer.axis != 1 or layer.op not in ("Conv", "Gemm"):
            continue
        passed: list[ir.Node] = []
        value = maker.outputs[0]
        while True:
            reader = None if value.is_graph_output() else net.only_consumer(str(value.name))
            if reader is None or reader.op_type not in _KEEPS or reader.domain or len(reader.outputs) != 1:
                break
            passed.append(reader)
            value = reader.outputs[0]
        after = None if reader is None or reader.inputs[0] is not value else read_linear(net, reader)
        if (
            reader is not None
            and after is not None
            and after.groups == 1
            and after.axis == 1
            and after.op in ("Conv", "Gemm")
        ):
            found.append((maker, tuple(passed), reader))
    return found


_KEEPS = frozenset({"Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool"})


def _write(
    net: Network,
    maker: ir.Node,
    passed: tuple[ir.Node, ...],
    reader: ir.Node,
    layers: tuple[Linear, Linear],
    copies: NDArray[np.int64],
    bits: int,
) -> None:
    before, after = layers
    source = np.repeat(np.arange(len(copies)), copies)
    wider = replace(before, weight=before.weight[source], bias=None if before.bias is None else before.bias[source])
    largest = np.abs(after.weight).max(axis=(0, *range(2, after.weight.ndim))) / copies
    step = float(largest.max()) / (2.0 ** (bits - 1) - 1)
    write_linear(net, maker, wider)
    write_linear(net, reader, replace(after, weight=divided(after.weight, copies, step)))
    known = normal.read(maker)
    normal.write(maker, None if known is None else normal.Normal(known.mean[source], known.deviation[source]))
    maker.metadata_props[MARK] = str(len(copies))
    net.sweep()
