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
TRIAL_SAMPLES = 48
Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate.

    Attributes:
        names: The scheme of each role.
        output_sqnr_db: Signal to noise of the integer outputs on the trial samples.
    """

    names: Mapping[str, str]
    output_sqnr_db: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        finite = math.isfinite(self.output_sqnr_db)
        return {"schemes": dict(self.names), "output_sqnr_db": self.output_sqnr_db if finite else None}


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
    tried: list[Trial] = []
    known: dict[tuple[str, ...], float] = {}
    names = candidates(target)
    for i, roles in enumerate(names):
        schemes = RoleSchemes(**{role: load_scheme(text) for role, text in roles.items()})
        formats = assign(spec, statistics, target, schemes)
        key = tuple(str(f) for f in (*formats.activations.values(), *formats.weights.values()))
        if key not in known:  # schemes often agree on every format
            known[key] = output_sqnr_db(lower(model.network, spec, formats, target), batches, floats)
        tried.append(Trial(names=roles, output_sqnr_db=known[key]))
        if progress is not None:
            progress(i + 1, len(names))
    return tuple(sorted(tried, key=lambda t: -t.output_sqnr_db))


def output_sqnr_db(program: Program, batches: Sequence[Feeds], floats: Sequence[Sequence[NDArray[Any]]]) -> float:
    """Signal to noise of a program's outputs against the float network's, over all outputs."""
    from bitwright.program.file import Artefact

    quantized = Quantized(Artefact(program=program, provenance={}))
    signal = noise = 0.0
    for feeds, wanted in zip(batches, floats, strict=True):
        got = quantized.reals(quantized.engine.run(quantized.integers(feeds)))
        for g, w in zip(got, wanted, strict=True):
            real = np.asarray(w, np.float64)
            signal += float((real * real).sum())
            noise += float(((g - real) ** 2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
