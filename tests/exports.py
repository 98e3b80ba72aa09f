"""Quantized networks for tests of exports: the zoo, calibrated once and quantized when asked for."""

from __future__ import annotations

from functools import cache

import numpy as np

import zoo
from bitwright.api import Calibration, calibrate, quantize
from bitwright.quantized import Quantized


@cache
def calibrated(name: str) -> Calibration:
    """A network of the zoo with statistics of eight samples."""
    model = zoo.ZOO[name]()
    feeds = zoo.feeds(model, 8)
    return calibrate(model, [{key: x[i] for key, x in feeds.items()} for i in range(8)])


@cache
def quantized(name: str, target: str) -> Quantized:
    """A network of the zoo on a target."""
    collected = calibrated(name)
    return quantize(collected.model, collected, target)


def samples(name: str, count: int = 3) -> list[np.ndarray]:
    """Inputs of a network of the zoo that were not calibrated with."""
    return list(zoo.feeds(zoo.ZOO[name](), count, seed=1).values())
