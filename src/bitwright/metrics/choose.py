"""From what the user asks for to a metric."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from bitwright.data.contract import InputContract
from bitwright.errors import InputMismatch, NoData, printable
from bitwright.metrics.agreement import Agreement
from bitwright.metrics.auc import RocAuc
from bitwright.metrics.decision import Decider
from bitwright.metrics.map50 import Decode, MeanAveragePrecision50
from bitwright.metrics.metric import Metric
from bitwright.metrics.miou import MeanIou
from bitwright.metrics.mse import MeanSquaredError
from bitwright.metrics.own import load_attribute, own_metric
from bitwright.metrics.sqnr import OutputSqnr
from bitwright.metrics.topk import TopK

__all__ = ["METRICS", "decider_for", "default_metric", "metric_for"]

Make = Callable[[InputContract, int, Decode | None], Metric]

WITH_LABELS = {
    "classification": "top1",
    "language model": "top1",
    "segmentation": "miou",
    "detection": "map50",
    "reconstruction": "mse",
}


def decider_for(contract: InputContract) -> Decider:
    """How the outputs of this contract hold decisions."""
    return Decider(contract.task, contract.layout, contract.offset)


def _map50(contract: InputContract, output: int, decode: Decode | None) -> Metric:
    if decode is None:
        raise InputMismatch(
            "The metric map50 needs to know how the outputs hold boxes: give --metric map50:module:function (or decode= "
            "in Python), a function that gets a list with the output arrays of one sample and returns boxes [m, 6]: "
            "x1 y1 x2 y2 relative to the image, score, class. Or choose --metric agreement or sqnr, which compare with "
            "the float network."
        )
    return MeanAveragePrecision50(decode)


METRICS: dict[str, Make] = {
    "top1": lambda contract, output, _: TopK(1, decider=decider_for(contract), output=output),
    "top5": lambda contract, output, _: TopK(5, decider=decider_for(contract), output=output),
    "agreement": lambda contract, output, _: Agreement(decider=decider_for(contract), output=output),
    "sqnr": lambda contract, output, _: OutputSqnr(),
    "miou": lambda contract, output, _: MeanIou(layout=contract.layout, offset=contract.offset, output=output),
    "map50": _map50,
    "mse": lambda contract, output, _: MeanSquaredError(output=output),
    "auc": lambda contract, output, _: RocAuc(
        reconstruction=contract.task == "reconstruction", offset=contract.offset, output=output
    ),
}


def default_metric(contract: InputContract, *, labelled: bool) -> str:
    """The metric of a task: with labels its usual one, else agreement with the float network."""
    if contract.task == "reconstruction":
        return "mse"  # its input is its label
    return WITH_LABELS.get(contract.task, "agreement") if labelled else "agreement"


def metric_for(
    spec: Any,
    contract: InputContract,
    *,
    labelled: bool,
    outputs: Sequence[str] = (),
    decode: Decode | str | None = None,
) -> Metric:
    """A fresh metric.  Call it twice: the float and the quantized network each need their own.

    Args:
        spec: A name of ``METRICS``, ``map50:module:function`` with the decode function, ``module:function``, a Python
            function, class or object (see ``own_metric``), or None for the default of the contract's task.
        contract: Says what the outputs mean.
        labelled: Whether the data has labels.
        outputs: Names of the network's outputs in order, so that the contract can choose one by name.
        decode: The decode function of a detector, or where to find it.

    Raises:
        NoData: if the metric needs labels and there are none.
        InputMismatch: if the name is unknown (naming the nearest), a function cannot be loaded, or map50 lacks its
            decode function.
    """
    spec = default_metric(contract, labelled=labelled) if spec is None else spec
    if not isinstance(spec, str):
        return own_metric(spec, str(getattr(spec, "__name__", type(spec).__name__)))
    family, _, rest = spec.partition(":")
    if family == "map50" and rest:
        spec, decode = "map50", rest
    decoder: Decode | None = load_attribute(decode, what="The decode function") if isinstance(decode, str) else decode
    if ":" in spec:
        return own_metric(load_attribute(spec, what="The metric"), spec)
    if spec not in METRICS:
        near = difflib.get_close_matches(spec, METRICS, 1)
        raise InputMismatch(
            f"There is no metric {printable(repr(spec))}{f'; did you mean {near[0]}?' if near else '.'} Known are "
            f"{', '.join(METRICS)}, and module:function for one of your own."
        )
    metric = METRICS[spec](contract, _output_index(contract, outputs), decoder)
    if "labels" in metric.needs and not labelled:
        raise NoData(
            f"The metric {spec} compares outputs with labels, and the data has none: give labels (class-named folders, a "
            "CSV 'file,label', an .npz with 'y'), or choose --metric agreement or sqnr, which compare with the float "
            "network and need none."
        )
    return metric


def _output_index(contract: InputContract, outputs: Sequence[str]) -> int:
    if contract.output is None or not outputs:
        return 0
    if contract.output not in outputs:
        known = ", ".join(printable(name, 40) for name in outputs)
        raise InputMismatch(
            f"The input contract names the output {printable(repr(contract.output))}, and the network has {known}: correct "
            "name under [output]."
        )
    return list(outputs).index(contract.output)
