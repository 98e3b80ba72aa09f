"""Which calibration scheme serves this network best, measured in the integers of the target.

No scheme is best everywhere (entropy beats min-max on one network and loses on the next), and statistics alone do not
tell.  So each candidate is lowered and run on some calibration samples, and the outputs decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.assign import RoleSchemes, assign
from bitwright.calibrate.scheme import load as load_scheme
from bitwright.errors import CalibrationError
from bitwright.lower import lower
from bitwright.quantized import Quantized

if TYPE_CHECKING:
    from bitwright.calibrate.spec import NetworkSpec
    from bitwright.calibrate.statistics import Statistics
    from bitwright.model import Model
    from bitwright.program.program import Program
    from bitwright.targets.target import Target

ACTIVATIONS = ("mse", "minmax", "percentile{p=99.99}", "percentile{p=99.999}", "kl")
WEIGHTS = ("mse", "minmax")
TRIAL_SAMPLES = 100
Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate.

    Attributes:
        names: The scheme of each role.
        output_sqnr_db: Signal to noise of the integer outputs on the trial samples.
        divergence: Mean Kullback-Leibler divergence (nats) of the softmax of the integer outputs from that of the float
            ones, for classifiers; None for other networks.
    """

    names: Mapping[str, str]
    output_sqnr_db: float
    divergence: float | None = None

    @property
    def score_db(self) -> float:
        """What trials are ranked by: signal to noise, and for classifiers the divergence counted as much as the noise.

        Noise on logits that never win costs a classifier nothing, and the divergence does not see it; alone, over some
        dozens of samples, it is too noisy to tell close candidates apart.
        """
        if self.divergence is None:
            return self.output_sqnr_db
        return self.output_sqnr_db - 10 * math.log10(max(self.divergence, 1e-9))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        finite = math.isfinite(self.output_sqnr_db)
        return {
            "schemes": dict(self.names),
            "output_sqnr_db": self.output_sqnr_db if finite else None,
            "divergence": self.divergence,
        }


def candidates(target: Target) -> tuple[Mapping[str, str], ...]:
    """The schemes to try: the target's own first, then each pair for activations and weights."""
    own = target.schemes
    first = {"input": own.input, "activation": own.activation, "weight": own.weight, "bias": own.bias}
    pairs = [first | {"activation": a, "weight": w} for a in ACTIVATIONS for w in WEIGHTS]
    return tuple(dict(pair) for pair in dict.fromkeys(tuple(p.items()) for p in (first, *pairs)))


def try_schemes(
    model: Model,
    spec: NetworkSpec,
    statistics: Statistics,
    target: Target,
    batches: Sequence[Feeds],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Every candidate, the best first; equal ones in the order of :func:`candidates`.

    Args:
        model: The network.
        spec: Its layers for ``target``.
        statistics: Of its activations.
        target: The target.
        batches: Inputs by name, a few dozen samples in all.
        progress: Called with (candidates done, candidates in all).

    Raises:
        CalibrationError: if there are no samples.
    """
    if not batches:
        raise CalibrationError("Choosing a scheme by trial needs samples, and there are none.")
    session = model.network.session()
    outputs = list(model.network.outputs)
    floats = [session.run(outputs, dict(feeds)) for feeds in batches]
    classifies = model.contract.task == "classification" and len(outputs) == 1
    tried: list[Trial] = []
    known: dict[tuple[str, ...], tuple[float, float | None]] = {}
    names = candidates(target)
    for i, roles in enumerate(names):
        schemes = RoleSchemes(**{role: load_scheme(text) for role, text in roles.items()})
        formats = assign(spec, statistics, target, schemes)
        key = tuple(str(f) for f in (*formats.activations.values(), *formats.weights.values()))
        if key not in known:  # schemes often agree on every format
            program = lower(model.network, spec, formats, target)
            known[key] = measured(program, batches, floats, classifies=classifies)
        sqnr_db, divergence = known[key]
        tried.append(Trial(names=roles, output_sqnr_db=sqnr_db, divergence=divergence))
        if progress is not None:
            progress(i + 1, len(names))
    return tuple(sorted(tried, key=lambda t: -t.score_db))


def measured(
    program: Program, batches: Sequence[Feeds], floats: Sequence[Sequence[NDArray[Any]]], *, classifies: bool
) -> tuple[float, float | None]:
    """Signal to noise in dB over all outputs, and for a classifier the divergence of its one output's softmax."""
    from bitwright.program.file import Artefact

    quantized = Quantized(Artefact(program=program, provenance={}))
    signal = noise = divergence = 0.0
    count = 0
    for feeds, wanted in zip(batches, floats, strict=True):
        got = quantized.reals(quantized.engine.run(quantized.integers(feeds)))
        for g, w in zip(got, wanted, strict=True):
            real = np.asarray(w, np.float64)
            signal += float((real * real).sum())
            noise += float(((g - real) ** 2).sum())
            count += len(real)
            divergence += float(softmax_divergence(real.reshape(len(real), -1), g.reshape(len(g), -1)).sum())
    sqnr_db = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal > 0 else -math.inf
    return sqnr_db, divergence / max(1, count) if classifies else None


def softmax_divergence(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """``KL(softmax(wanted) || softmax(got))`` in nats, per row of logits ``[n, classes]``."""
    p, q = (x - x.max(1, keepdims=True) for x in (wanted, got))
    p, q = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (p, q))
    return np.asarray((np.exp(p) * (p - q)).sum(1))
