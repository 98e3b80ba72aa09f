"""Two networks over the same samples: everything that validation measures, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract
from bitwright.errors import NoData
from bitwright.metrics.agreement import Agreement
from bitwright.metrics.choose import decider_for
from bitwright.metrics.health import Health, HealthWatch
from bitwright.metrics.interval import Interval, bootstrap_values, interval_of
from bitwright.metrics.metric import Array, Labels, Metric, Unit, sample_count
from bitwright.metrics.paired import bootstrap_p, mcnemar, sign_flip
from bitwright.metrics.sqnr import OutputSqnr
from bitwright.metrics.validation import Pair, Seconds, Validation
from bitwright.metrics.verdict import REMEDY, Finding, verdict

__all__ = ["Comparison"]

# Six changes all one way are the fewest that McNemar's test calls real (p = 0.031).
FEWEST_REAL = 6
COARSE = 0.02


class Comparison:
    """Feed it with the outputs of both networks; it gives the ``Validation``.

    Args:
        make: Makes a fresh metric: ``lambda: metric_for(...)``.
        contract: Says what the outputs mean.
        output: Index of the output that decisions are read from.
        highest: The highest real value that this output's integer format can hold, to notice saturation.
    """

    def __init__(
        self, make: Callable[[], Metric], contract: InputContract, *, output: int = 0, highest: float | None = None
    ) -> None:
        self.contract, self.output = contract, output
        self.float_metric, self.quantized_metric = make(), make()
        decider = decider_for(contract)
        self.agreement = Agreement(decider=decider, output=output)
        self.sqnr = OutputSqnr()
        self.before, self.after = HealthWatch(decider), HealthWatch(decider, highest)
        self.samples = 0

    def update(
        self,
        float_outputs: Sequence[Array],
        quantized_outputs: Sequence[Array],
        labels: Labels | None = None,
        *,
        inputs: Array | None = None,
    ) -> None:
        """Take one batch.

        Args:
            float_outputs: An array for each output, ``[n, ...]``.
            quantized_outputs: The same, in real units.
            labels: One for each sample, or None.
            inputs: What both networks were given, ``[n, ...]``.

        Raises:
            NoData: if something is missing that the metric needs.
            InputMismatch: if shapes or labels do not fit.
        """
        n = sample_count(float_outputs, labels)
        self.float_metric.update(float_outputs, labels, inputs=inputs, floats=float_outputs)
        self.quantized_metric.update(quantized_outputs, labels, inputs=inputs, floats=float_outputs)
        self.agreement.update(quantized_outputs, labels, floats=float_outputs)
        self.sqnr.update(quantized_outputs, labels, floats=float_outputs)
        self.before.update(float_outputs[self.output], n)
        self.after.update(quantized_outputs[self.output], n)
        self.samples += n

    def validation(
        self,
        *,
        learnable_bytes: Pair,
        integer_mac_share: float,
        engine: str,
        values_checked: int,
        mismatches: int,
        seconds: Seconds,
        target: str,
        remedy: str = REMEDY,
        notes: Sequence[str] = (),
    ) -> Validation:
        """Everything measured, with intervals, test and verdict.

        Args:
            learnable_bytes: Of both networks.
            integer_mac_share: 0 to 1.
            engine: What computed the quantized outputs.
            values_checked: How many integers were compared with the reference.
            mismatches: How many of them differed.
            seconds: Where time went.
            target: Name of the target.
            remedy: What a collapsed network would need on this target.
            notes: To be passed on.

        Raises:
            NoData: if no sample came.
        """
        if self.samples == 0:
            raise NoData("No sample came, so there is nothing to validate: give data with at least one sample.")
        before, after = self.float_metric, self.quantized_metric
        compares = "floats" in after.needs
        lost, gained = self._changed(compares=compares)
        draws = self._draws(compares=compares)
        p = self._p(lost, gained, draws, compares=compares)
        values = before.result(), after.result()
        sqnr_db, agreement = self.sqnr.result(), self.agreement.result()
        noun = "image" if self.contract.layout != "raw" else "sample"
        found = Finding(
            after.name, after.unit, after.better, *values, self.samples, noun, p, lost, gained,
            chance=after.chance, compares=compares, sqnr_db=sqnr_db, remedy=remedy,
            before=self._health(self.before), after=self._health(self.after),
        )  # fmt: skip
        return Validation(
            samples=self.samples,
            metric=after.name,
            unit=after.unit,
            float=None if compares and not math.isfinite(values[0]) else values[0],
            quantized=values[1],
            agreement=agreement,
            output_sqnr_db=sqnr_db,
            learnable_bytes=learnable_bytes,
            integer_mac_share=integer_mac_share,
            engine=engine,
            values_checked=values_checked,
            mismatches=mismatches,
            seconds=seconds,
            target=target,
            verdict=verdict(found),
            interval=self._intervals(draws, compares=compares),
            paired_p=p,
            lost=lost,
            gained=gained,
            decides=self._decides,
            notes=(*notes, *self._coarse(lost, noun)),
        )

    def _health(self, watch: HealthWatch) -> Health | None:
        return watch.result() if self._decides else None

    @property
    def _decides(self) -> bool:
        return self.contract.task in {"classification", "segmentation", "language model"}

    def _changed(self, *, compares: bool) -> tuple[int, int] | tuple[None, None]:
        before, after = self.float_metric.per_sample(), self.quantized_metric.per_sample()
        if compares or self.quantized_metric.unit is not Unit.PROPORTION or before is None or after is None:
            return None, None
        return int((before > after).sum()), int((before < after).sum())

    def _draws(self, *, compares: bool) -> NDArray[np.float64] | None:
        """Bootstrap draws ``[draws, networks]``; a proportion has better means."""
        if self.quantized_metric.unit is Unit.PROPORTION or self.samples < 2:
            return None
        metrics = [self.quantized_metric] if compares else [self.float_metric, self.quantized_metric]
        return bootstrap_values(*metrics, samples=self.samples)

    def _p(
        self, lost: int | None, gained: int | None, draws: NDArray[np.float64] | None, *, compares: bool
    ) -> float | None:
        if compares:
            return None
        if lost is not None and gained is not None:
            return mcnemar(lost, gained)
        before, after = self.float_metric.per_sample(), self.quantized_metric.per_sample()
        if before is not None and after is not None:
            return sign_flip(after - before)
        return None if draws is None else bootstrap_p(draws[:, 1] - draws[:, 0])

    def _intervals(self, draws: NDArray[np.float64] | None, *, compares: bool) -> dict[str, Interval]:
        named = [("quantized", self.quantized_metric)]
        if not compares:
            named.insert(0, ("float", self.float_metric))
        found = {
            name: interval_of(metric, self.samples, None if draws is None else draws[:, column])
            for column, (name, metric) in enumerate(named)
        }
        return {name: interval for name, interval in found.items() if interval is not None}

    def _coarse(self, lost: int | None, noun: str) -> list[str]:
        """A word about what so few samples cannot show."""
        if lost is None or COARSE * self.samples >= FEWEST_REAL:
            return []
        if self.samples < FEWEST_REAL:
            return [f"{self.samples} {noun}s are too few to tell any drop from noise: use a few hundred."]
        points = math.ceil(100 * FEWEST_REAL / self.samples)
        return [f"With {self.samples} {noun}s a drop of less than {points} points cannot be told from noise."]
