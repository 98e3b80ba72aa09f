"""Tests for two networks measured on the same samples: is the difference more than chance?"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_p", "mcnemar", "sign_flip"]

EXACT_SIGNS = 14
FLIPS = 10_000
SEED = 20_260_101
SMALL = 1000


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p of ``lost`` samples right before and wrong now, and ``gained`` the other way round.

    Without a difference each sample whose outcome changed is as likely lost as gained: twice the binomial tail
    ``P(X <= min)`` for ``X ~ B(lost + gained, 1/2)``, at most 1 (Q. McNemar, Psychometrika 12, 1947, in its exact form).
    """
    n, few = lost + gained, min(lost, gained)
    if n <= SMALL:
        return min(1.0, 2 * sum(math.comb(n, i) for i in range(few + 1)) / (1 << n))
    # Beyond that the integers get long, and rounding is far below what anybody prints.
    i = np.arange(few + 1, dtype=np.float64)
    log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])
    logs = math.lgamma(n + 1) - log_gamma(i + 1) - log_gamma(n - i + 1) - n * math.log(2)
    return min(1.0, 2 * float(np.exp(logs).sum()))


def sign_flip(differences: NDArray[np.float64], *, flips: int = FLIPS, seed: int = SEED) -> float:
    """The two-sided p of per-sample differences, by changing their signs (R. A. Fisher, The Design of Experiments, 1935).

    Without a difference between the networks every sign is as likely as its opposite.  All sign patterns are tried when
    at most ``EXACT_SIGNS`` differences are not 0; else ``flips`` random ones, and the observed one counts as one of them
    (so p is never 0; Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010).

    Args:
        differences: ``[samples]``; differences that are not finite are left out.
        flips: How many patterns to draw.
        seed: The same seed draws the same patterns.
    """
    d = differences[np.isfinite(differences) & (differences != 0)]
    if not len(d):
        return 1.0
    # A pattern that gives the same sum up to rounding is as extreme as the observed one.
    least = abs(float(d.sum())) * (1 - 1e-12) - 1e-300
    if len(d) <= EXACT_SIGNS:
        patterns = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d))))
        return float((np.abs(patterns @ d) >= least).mean())
    rng = np.random.default_rng(seed)
    extreme, chunk = 0, max(1, 1_000_000 // len(d))
    for start in range(0, flips, chunk):
        signs = rng.integers(0, 2, (min(chunk, flips - start), len(d)), np.int8) * 2.0 - 1
        extreme += int((np.abs(signs @ d) >= least).sum())
    return (1 + extreme) / (1 + flips)


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """The two-sided p of a difference of figures, from its bootstrap draws.

    Twice the share of draws on the rarer side of 0, the observed data counted as one more draw on it (the test whose
    interval is the percentile interval; Davison and Hinkley, Bootstrap Methods and their Application, 1997, chapter 4).

    Args:
        differences: Of each draw, ``[draws]``.
    """
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(differences)))
