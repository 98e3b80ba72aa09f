"""``Quantizer``: the object of people who come from MATLAB's ``dlquantizer``, with its words, tables and result struct.

Names of methods, columns and fields: MathWorks' documentation of ``dlquantizer``, ``calibrate``, ``quantize``, ``validate``
and ``quantizationDetails``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bitwright.errors import CalibrationError, UnknownTarget, printable

if TYPE_CHECKING:
    import os

    from bitwright.api import Calibration
    from bitwright.model import Model
    from bitwright.quantized import Quantized
    from bitwright.targets.target import Target

TARGETS = {"FPGA": "fpga", "GPU": "gpu", "CPU": "cpu", "MATLAB": "generic"}
"""Execution environment → target.  MATLAB stands for no device in particular, as there."""

LIBRARIES = {"FPGA": "none", "GPU": "tensorrt", "CPU": "onnxruntime", "MATLAB": "none"}
SCHEMES = {"minmax": "minmax", "histogram": "histogram"}
COLUMNS = ("Optimized Layer Name", "Network Layer Name", "Learnables / Activations", "MinValue", "MaxValue")
PROCESSOR = "dlp512"
"""The processor whose frames per second ``validate`` states for FPGA."""

Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class MetricResults:
    """What ``validate`` measured, as a table of two rows.

    Attributes:
        Result: A row each for ``Floating-Point`` and ``Quantized``: ``NetworkImplementation``, ``MetricOutput`` and, but
            for FPGA, ``LearnableParameterMemory(bytes)``.
    """

    Result: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ValidationResult:
    """The result struct of ``validate``.

    Attributes:
        NumSamples: How many samples were compared.
        MetricResults: The table, in its field ``Result``.
        QuantizedNetworkFPS: For FPGA, frames per second of the quantized network on the processor ``dlp512``, estimated;
            otherwise None.
    """

    NumSamples: int
    MetricResults: MetricResults
    QuantizedNetworkFPS: float | None = None


@dataclass(frozen=True)
class QuantizationDetails:
    """The four fields of ``quantizationDetails``.

    Attributes:
        IsQuantized: True once ``quantize`` has run.
        TargetLibrary: What computes the integers; ``"none"`` for MATLAB and FPGA.
        QuantizedLayerNames: Layers that are computed in integers.
        QuantizedLearnables: A row each: ``Layer``, ``Parameter`` (``Weights`` or ``Bias``) and ``Value``, the integers.
    """

    IsQuantized: bool
    TargetLibrary: str
    QuantizedLayerNames: tuple[str, ...]
    QuantizedLearnables: tuple[Mapping[str, Any], ...]


class Quantizer:
    """Calibrate, quantize, validate: one object that keeps what the steps need of each other.

    Args:
        net: What :func:`bitwright.load` takes or gives.
        environment: ``"FPGA"``, ``"GPU"``, ``"CPU"`` or ``"MATLAB"``.
        target: Another target than the environment's.

    Raises:
        UnknownTarget: if there is no such environment.
        ModelError: if the network cannot be used.
    """

    def __init__(
        self, net: Any, environment: str = "GPU", *, target: str | os.PathLike[str] | Target | None = None
    ) -> None:
        from bitwright.api import load

        named = {name.lower(): name for name in TARGETS}
        if str(environment).lower() not in named:
            raise UnknownTarget(
                f"There is no execution environment '{printable(environment, 40)}'; there are {', '.join(TARGETS)}.",
                nearest=tuple(TARGETS),
            )
        self.environment = named[str(environment).lower()]
        self.target = TARGETS[self.environment] if target is None else target
        self.net: Model = load(net)
        self.calibration: Calibration | None = None
        self.quantized: Quantized | None = None

    def calibrate(
        self, data: Any, *, samples: int | None = None, progress: Progress | None = None
    ) -> tuple[Mapping[str, Any], ...]:
        """Collect ranges over ``data`` and give the calibration table; calling it again starts anew.

        Args:
            data: Samples; labels are not needed.
            samples: Use so many.
            progress: See :func:`bitwright.calibrate`.

        Returns:
            Rows with the columns ``COLUMNS``; ``pandas.DataFrame(rows)`` makes a table of them.

        Raises:
            DataError: if samples cannot be used.
        """
        from bitwright.api import calibrate

        self.calibration = calibrate(self.net, data, samples=samples, progress=progress)
        self.quantized = None
        self.__dict__.pop("CalibrationStatistics", None)
        return self.CalibrationStatistics

    @cached_property
    def CalibrationStatistics(self) -> tuple[Mapping[str, Any], ...]:
        """The calibration table.  For FPGA, layers are named without what is fused into them."""
        from bitwright.calibrate.table import calibration_table

        names: Any = "plain" if self.environment == "FPGA" else "joined"
        model = self.net
        rows = calibration_table(model.network, self._calibrated().statistics, model.contract, names=names)
        shown = 0 if self.environment == "FPGA" else -1
        return tuple(
            dict(zip(COLUMNS, (r.optimized_layer, r.network_layers[shown], r.kind, r.min, r.max), strict=True))
            for r in rows
        )

    def quantize(self, exponent_scheme: str = "MinMax") -> Quantized:
        """Choose formats from the calibration and write the integer program.

        Args:
            exponent_scheme: ``"MinMax"`` avoids overflows; ``"Histogram"`` fits the distribution of the numbers.

        Returns:
            The quantized network, which is also kept in ``quantized``.

        Raises:
            CalibrationError: if nothing was calibrated, or there is no such scheme.
        """
        from bitwright.api import quantize

        if str(exponent_scheme).lower() not in SCHEMES:
            raise CalibrationError(
                f"There is no exponent scheme '{printable(exponent_scheme, 40)}'; there are MinMax and Histogram. "
                "bitwright.quantize has more."
            )
        scheme = SCHEMES[str(exponent_scheme).lower()]
        self.quantized = quantize(self.net, self._calibrated(), self.target, scheme=scheme)
        return self.quantized

    def validate(
        self,
        data: Any,
        metric_fn: Any = None,
        *,
        samples: int | None = None,
        progress: Progress | None = None,
    ) -> ValidationResult:
        """Compare the float and the quantized network on ``data``; quantizes with MinMax if that was not done.

        Args:
            data: Samples, with labels where the metric needs them.
            metric_fn: ``fn(predictions, labels) -> float``, called once with the outputs ``[samples, ...]`` (a list of them
                where the network has several) and an array of labels; or the name of a metric; None for the task's own.
            samples: Use so many.
            progress: See :func:`bitwright.validate`.

        Raises:
            CalibrationError: if nothing was calibrated.
            NoData: if there are no samples, or no labels where the metric needs them.
        """
        from bitwright.validating import validate

        q = self.quantized if self.quantized is not None else self.quantize()
        metric = of_arrays(metric_fn) if callable(metric_fn) and not isinstance(metric_fn, type) else metric_fn
        found = validate(q, data, metric, samples=samples, progress=progress)
        rows = []
        for name, figure, size in (
            ("Floating-Point", found.float, found.learnable_bytes.float),
            ("Quantized", found.quantized, found.learnable_bytes.quantized),
        ):
            row: dict[str, Any] = {"NetworkImplementation": name, "MetricOutput": figure}
            if self.environment != "FPGA":
                row["LearnableParameterMemory(bytes)"] = size
            rows.append(row)
        fps = self._frames_per_second(q) if self.environment == "FPGA" else None
        return ValidationResult(
            NumSamples=found.samples, MetricResults=MetricResults(tuple(rows)), QuantizedNetworkFPS=fps
        )

    def details(self) -> QuantizationDetails:
        """What was quantized; before :meth:`quantize` nothing is."""
        from bitwright.detailing import details

        q = self.quantized
        if q is None:
            return QuantizationDetails(False, LIBRARIES[self.environment], (), ())
        rows = tuple(
            {"Layer": x.layer, "Parameter": x.parameter, "Value": q.program.tensors[x.tensor]}
            for x in q.program.learnables
        )
        return QuantizationDetails(True, LIBRARIES[self.environment], details(q).quantized_layers, rows)

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise CalibrationError("Nothing is calibrated yet: call calibrate(data) first.")
        return self.calibration

    @staticmethod
    def _frames_per_second(q: Quantized) -> float | None:
        """The estimate for the processor; None for networks that it does not run whole."""
        from bitwright.errors import BitwrightError
        from bitwright.estimating import estimate

        try:
            found = estimate(q, config=PROCESSOR)
        except BitwrightError:
            return None
        return found.frames_per_s


def of_arrays(function: Callable[[Any, Any], float]) -> Callable[[list[Any], list[Any] | None], float]:
    """A function of predictions and labels as arrays, for a metric that gets them as lists."""
    import numpy as np

    def called(outputs: list[Any], labels: list[Any] | None) -> float:
        predictions = outputs[0] if len(outputs) == 1 else outputs
        return function(predictions, None if labels is None else np.asarray(labels))

    called.__name__ = str(getattr(function, "__name__", type(function).__name__))
    return called
