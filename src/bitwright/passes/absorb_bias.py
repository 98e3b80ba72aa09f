"""High biases go on to the next layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.observed import ChannelStats, Observed
from bitwright.passes.offsets import OffsetSite, offset_sites, shift

if TYPE_CHECKING:
    from bitwright.network.network import Network

Reals = NDArray[np.float64]

WORTH = 0.02
"""An offset below this share of the largest value changes no format."""


def absorbable(stats: ChannelStats, sigmas: float, high: float) -> Reals:
    """What can be taken out of each channel before an activation: ``max(0, mean - sigmas · deviation)``, ``[channels]``.

    Nagel et al. 2019 (arXiv:1906.04721, section 4.1.3), with observed moments for those of the batch normalization.
    Channels that reach an upper bound ``high`` keep their values, because the bound would have to move with them.
    """
    deviation = np.sqrt(np.maximum(stats.energy - np.square(stats.mean), 0.0))
    offset = np.maximum(0.0, stats.mean - sigmas * deviation)
    return np.asarray(np.where(stats.hi < high, offset, 0.0), np.float64)


@dataclass(frozen=True, kw_only=True)
class AbsorbBias:
    """Move biases that lift a channel far above zero into the layers that read it (high-bias absorption).

    A channel whose values before ReLU never come near zero carries a constant, which costs range and says nothing.  It
    is taken out of the bias, and the next layers' biases make up for it.  Values more than ``sigmas`` deviations below
    the mean are changed.  Only where nobody pads the tensor with zeros.

    Attributes:
        sigmas: Deviations below the mean that are kept.
    """

    name: ClassVar[str] = "absorb-bias"
    summary: ClassVar[str] = (
        "Move biases that lift whole channels above zero into the next layers (high-bias absorption)."
    )
    changes_function: ClassVar[bool] = True

    sigmas: float = 3.0

    def needs(self, net: Network) -> Needs:
        """Moments of every channel before the activations."""
        return Needs(channels=tuple(_before(site, i) for site in _sites(net) for i in range(len(site.makers))))

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Shift ``net`` in place; ``got`` is an :class:`Observed`, or None."""
        if not isinstance(got, Observed):
            return Change(notes=(Note("no bias absorbed: nothing was observed"),))
        notes: list[Note] = []
        moved = 0
        for site in _sites(net):
            stats = got.channels.get(_before(site, 0))
            if stats is None:
                continue
            offset = absorbable(stats, self.sigmas, site.makers[0].high)
            offset = np.where(offset > WORTH * float(stats.hi.max()), offset, 0.0)
            if not offset.any():
                continue
            shift(net, site, offset, bounds=False)
            moved += int((offset > 0).sum())
            text = f"{int((offset > 0).sum())} of {len(offset)} channels lose a constant of up to {offset.max():.3g}"
            notes.append(Note(text, layer=str(site.makers[0].linear.name)))
        if not moved:
            return Change(notes=(Note("no channel carries a bias that could be absorbed"),))
        return Change(True, (Note(f"the constants of {moved} channels moved into the next biases"), *notes))


def _sites(net: Network) -> tuple[OffsetSite, ...]:
    return offset_sites(net, joined=False, means=True)


def _before(site: OffsetSite, index: int) -> str:
    value = site.makers[index].activation.inputs[0]
    assert value is not None  # the site was found by reading it
    return str(value.name)
