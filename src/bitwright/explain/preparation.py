"""Are the inputs prepared as they were in training?

A batch normalization knows what its channels were like in training: mean β and deviation |γ|.  The layer that it was
folded into still gives them, if its inputs are those of training.  So the outputs of the first such layer are compared
with β and γ, for the inputs as they are and for other ways in which they may have been meant: the usual means and
deviations, pixels in 0..1 or 0..255, the other order of colors, one normalization too many or too few.  What fits far
better is what the network was trained with.  No labels are needed; where there are some, they have to agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract

if TYPE_CHECKING:
    from bitwright.network.network import Network

Arrays = Mapping[str, NDArray[Any]]

# Mean and deviation in pixel units, as they are found in the model collections of the large frameworks.
KNOWN: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "pixels 0..255 as they are": ((0.0,), (1.0,)),
    "pixels in 0..1": ((0.0,), (255.0,)),
    "pixels in -1..1": ((127.5,), (127.5,)),
    "ImageNet mean and deviation": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "ImageNet mean": ((123.68, 116.779, 103.939), (1.0,)),
}
FAR = 1.0
"""Divergence from training from which inputs are doubted, where there are no labels."""
BETTER = 0.35
"""Another preparation must have less than this share of the divergence, where there are no labels."""
CLEARLY = 0.1
"""Share of right answers that another preparation must add, where there are labels."""
NEAREST = 3
"""Preparations nearest to training whose answers are looked at."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """One way to prepare inputs.

    Attributes:
        text: In words.
        contract: The input contract that does so, for the samples as the source gives them.
        scale: Inputs as they are now, times this,
        shift: plus this, give it; one for each channel, or one for all.
        swap: The order of the channels is turned round first.
        divergence: How far the layer's outputs are from those of training (see :func:`divergence`); None where nothing
            is known of training.
        correct: Share of right answers of the float network; None without labels.
    """

    text: str
    contract: InputContract
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    swap: bool = False
    divergence: float | None = None
    correct: float | None = None

    def apply(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """``x`` ``[n, ...]`` as the network would get it."""
        axis = _axis(self.contract, x)
        if self.swap:
            x = np.flip(x, axis)
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, shift = (np.asarray(v, np.float32).reshape(shape) for v in (self.scale, self.shift))
        return np.asarray(x * scale + shift, np.float32)


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Inputs that are not those of training.

    Attributes:
        layer: The layer that shows it; empty where labels do.
        now: As they are.
        better: As they were meant.
    """

    layer: str
    now: Preparation
    better: Preparation


def ways(contract: InputContract, x: NDArray[Any]) -> list[Preparation]:
    """The ways to prepare inputs that are tried, the present one first.

    Args:
        contract: The present one.
        x: Inputs as the network gets them now, ``[n, ...]``.
    """
    found = [Preparation(text="as it is", contract=contract)]
    if x.ndim != 4:
        return found
    mean, std = np.asarray(contract.mean, np.float64), np.asarray(contract.std, np.float64)
    axis = _axis(contract, x)
    if contract.normalizes:
        plain = replace(contract, mean=(0.0,), std=(1.0,))
        text = "the samples as they are, which are normalized already"
        found.append(Preparation(text=text, contract=plain, scale=_tuple(std), shift=_tuple(mean)))
    channels = x.shape[axis]
    listed = channels if contract.layout != "raw" else 1
    for said, factor, offset in _units(x, mean, std, axis):
        for name, (known_mean, known_std) in KNOWN.items():
            if max(len(known_mean), len(known_std)) not in (1, listed):
                continue
            for swap in (False, True) if channels == 3 and contract.layout != "raw" else (False,):
                color = {"RGB": "BGR", "BGR": "RGB"}.get(contract.color, contract.color) if swap else contract.color
                backwards = -1 if color == "BGR" else 1
                new_mean, new_std = (np.asarray(v, np.float64)[::backwards] for v in (known_mean, known_std))
                old_mean, old_std = (v[:: -1 if swap else 1] for v in (mean, std))
                # The source gives v = x·std + mean; the network should get (v·factor + offset − m) / s.
                scale = old_std * factor / new_std
                shift = (old_mean * factor + offset - new_mean) / new_std
                if not swap and np.allclose(scale, 1, atol=0.02) and np.allclose(shift, 0, atol=0.05):
                    continue
                other = replace(
                    contract, color=color, mean=_tuple((new_mean - offset) / factor), std=_tuple(new_std / factor)
                )
                text = f"{name}{f', {color}' if channels == 3 else ''}{said}"
                found.append(
                    Preparation(text=text, contract=other, scale=_tuple(scale), shift=_tuple(shift), swap=swap)
                )
    return found


def _tuple(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{v:.9g}") for v in np.atleast_1d(values))


def _axis(contract: InputContract, x: NDArray[Any]) -> int:
    """The axis of the colors."""
    if contract.layout == "raw":
        return 1 if x.shape[1] in (1, 3) else x.ndim - 1
    return 1 if contract.layout == "NCHW" and x.ndim == 4 else x.ndim - 1


def _units(
    x: NDArray[Any], mean: NDArray[np.float64], std: NDArray[np.float64], axis: int
) -> list[tuple[str, float, float]]:
    """What the source's numbers may be: (how that is said, factor and offset to pixels 0..255)."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    high = float((x.max(others) * std + mean).max())
    low = float((x.min(others) * std + mean).min())
    if low < -0.2 and max(-low, high) <= 1.05:
        return [(" (the samples are in -1..1)", 127.5, 127.5)]
    if high <= 1.5:
        return [(" (the samples are in 0..1)", 255.0, 0.0)] if low >= -0.01 else []
    return [("", 1.0, 0.0)]


def doubt(
    network: Network,
    contract: InputContract,
    feeds: Arrays,
    norms: Sequence[Mapping[str, Any]],
    *,
    correct: Callable[[Arrays], float] | None = None,
) -> Doubt | None:
    """What is wrong with the inputs, or None if nothing is seen.

    Args:
        network: The float network.
        contract: Of its input.
        feeds: Some inputs ``[n, ...]`` as the network gets them now.
        norms: What batch normalizations saw in training, as ``Norm.to_json`` gives it.
        correct: Share of right answers of the float network for inputs, where there are labels.
    """
    name = contract.name if contract.name is not None and contract.name in feeds else network.inputs[0]
    x = np.asarray(feeds[name])
    tried = ways(contract, x)
    norm = next((n for n in norms if _tensor(network, str(n.get("layer")))), None)
    if len(tried) == 1 or (norm is None and correct is None):
        return None
    if norm is not None:
        tensor = _tensor(network, str(norm["layer"]))
        session = network.session([tensor])
        wanted = np.asarray(norm["mean"], np.float64), np.asarray(norm["deviation"], np.float64)

        def judged(way: Preparation) -> Preparation:
            y = session.run([tensor], {**feeds, name: way.apply(x)})[0]
            return replace(way, divergence=divergence(np.asarray(y, np.float64), *wanted))

        tried = [judged(way) for way in tried]
        tried = [tried[0], *sorted(tried[1:], key=lambda way: way.divergence or 0.0)[:NEAREST]]
    if correct is not None:
        tried = [replace(way, correct=correct({**feeds, name: way.apply(x)})) for way in tried]
    now, *rest = tried
    better = max(rest, key=lambda way: (way.correct or 0.0, -(way.divergence or 0.0)))
    if now.correct is not None and better.correct is not None:
        wrong = better.correct >= now.correct + CLEARLY
    else:
        assert now.divergence is not None  # without labels there is a norm
        assert better.divergence is not None
        wrong = now.divergence >= FAR and better.divergence <= BETTER * now.divergence
    return Doubt(layer="" if norm is None else str(norm["layer"]), now=now, better=better) if wrong else None


def _tensor(network: Network, layer: str) -> str:
    """The output of the layer before its activation, or nothing."""
    found = next((one for one in network.layers() if one.name == layer), None)
    return "" if found is None else str(found.main.outputs[0].name)


def divergence(y: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """How far the channels (axis 1) of ``y`` are from a mean and a deviation ``[channels]``; 0 is no difference.

    For each channel ``|ln(deviation of y / deviation)| + ln(1 + |mean of y - mean| / smaller deviation)``, and of those
    the median, because a few channels of a small sample are always far off.  Dead channels are left out.
    """
    channels = y.reshape(y.shape[0], y.shape[1], -1).transpose(1, 0, 2).reshape(y.shape[1], -1)
    now, spread = channels.mean(1), channels.std(1)
    alive = deviation > 1e-3 * float(np.max(deviation, initial=1e-30))
    if not alive.any():
        return 0.0
    floor = 1e-6 * float(deviation.max())
    mean, deviation, now, spread = mean[alive], deviation[alive], now[alive], np.maximum(spread[alive], floor)
    ratio = np.abs(np.log(spread / deviation))
    moved = np.log1p(np.abs(now - mean) / np.minimum(deviation, spread))
    return float(np.median(ratio + moved))
