"""What ``vai_q_tensorflow quantize`` does, in our files: calibrate with ``input_fn``, write the eval and deploy models.

Names and defaults of the options: Xilinx/Vitis-AI b2b2279, ``vai_q_tensorflow1.x/python/decent_q.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import CalibrationError, InputMismatch, NoData, printable

if TYPE_CHECKING:
    from bitwright.model import Model
    from bitwright.quantized import Quantized

TARGET = "dpu"
METHODS = {0: "minmax", 1: "mse", 2: "mse"}
"""0 never overflows, 1 has the smallest squared error; 2, which differs from 1 for depthwise weights, is taken as 1."""

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class VitisResult:
    """What was written.

    Attributes:
        quantized: The network in the DPU's integers.
        eval_model: QDQ ONNX with powers of two, for the Vitis AI execution provider.
        deploy_model: The integers themselves in standard ONNX operators.
        bw: The ``.bw`` file, from which everything else of bitwright starts.
        samples: How many samples calibrated.
        notes: What the user should know, in sentences.
    """

    quantized: Quantized
    eval_model: Path
    deploy_model: Path
    bw: Path
    samples: int
    notes: tuple[str, ...]


def nodes(model: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the input and the output nodes of a network: what ``--input_nodes`` and ``--output_nodes`` would be."""
    return tuple(model.network.inputs), tuple(model.network.outputs)


def check_nodes(given: Sequence[str], known: Sequence[str], which: str) -> None:
    """That the nodes which a user names are those of the network.

    Raises:
        InputMismatch: naming the candidates, the nearest first.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.4)
            hint = f" Did you mean '{printable(near[0])}'?" if near else ""
            raise InputMismatch(
                f"'{printable(name)}' is no {which} node of the network.{hint} The {which} nodes are "
                f"{', '.join(printable(n) for n in known)}; leave out --{which}_nodes to use them."
            )
    missing = [n for n in known if n not in given] if given else []
    if missing:
        raise InputMismatch(
            f"--{which}_nodes leaves out {', '.join(printable(n) for n in missing)}. The whole network is quantized: name all "
            f"its {which} nodes or none, or cut the network before (onnx.utils.extract_model)."
        )


def find_input_fn(text: str) -> Callable[[int], Mapping[str, Any]]:
    """The function that ``module.fn`` names; ``module:fn`` works too.

    Raises:
        NoData: if it is not there, or is no function.
    """
    from bitwright.data.python import find_function

    if ":" not in text:
        module, dot, name = text.rpartition(".")
        if not dot:
            raise NoData(
                f"--input_fn is module.function, such as my_input_fn.calib_input, not '{printable(text, 80)}'."
            )
        text = f"{module}:{name}"
    found = find_function(text)
    if not callable(found):
        raise NoData(f"'{printable(text, 80)}' is no function.")
    return found  # type: ignore[no-any-return]


def is_feed(value: object) -> bool:
    """Whether a function of the user's gave what it should: a dictionary that is not empty."""
    return isinstance(value, Mapping) and bool(value)


class CalibrationRuns:
    """The samples of ``input_fn(0)`` … ``input_fn(calib_iter - 1)``, and how many they are."""

    def __init__(self, input_fn: Callable[[int], Mapping[str, Any]], iterations: int, tick: Tick | None = None) -> None:
        self.input_fn, self.iterations, self.tick = input_fn, iterations, tick
        self.samples = 0

    def __iter__(self) -> Iterator[Any]:
        import numpy as np

        self.samples = 0
        for i in range(self.iterations):
            try:
                batch = self.input_fn(i)
            except StopIteration:
                return
            except (
                Exception
            ) as error:  # the function is the user's: whatever it raises, its call must be in the message
                raise NoData(f"input_fn({i}) failed with {type(error).__name__}: {printable(error, 300)}.") from error
            if not is_feed(batch):
                raise NoData(
                    f"input_fn({i}) gives {type(batch).__name__}; a dictionary from input nodes to arrays is wanted."
                )
            arrays = {name: np.asarray(value) for name, value in batch.items()}
            sizes = {len(value) if value.ndim else 0 for value in arrays.values()}
            if len(sizes) != 1 or 0 in sizes:
                raise NoData(
                    f"input_fn({i}) gives arrays of {sorted(sizes)} samples; each must have the same, one or more."
                )
            (size,) = sizes
            self.samples += size
            for j in range(size):
                yield {name: value[j] for name, value in arrays.items()}
            if self.tick is not None:
                self.tick(i + 1, self.iterations)


def vitis_quantize(
    input_model: Any,
    input_fn: Callable[[int], Mapping[str, Any]],
    output_dir: str | os.PathLike[str] = "quantize_results",
    *,
    calib_iter: int = 100,
    input_nodes: Sequence[str] = (),
    output_nodes: Sequence[str] = (),
    method: int = 1,
    weight_bit: int = 8,
    activation_bit: int = 8,
    do_cle: bool = False,
    include_fast_ft: bool = False,
    tick: Tick | None = None,
    say: Callable[[str], None] | None = None,
) -> VitisResult:
    """Quantize a network for the DPU and write it as Vitis AI's quantizer does.

    Args:
        input_model: What :func:`bitwright.load` takes or gives.
        input_fn: ``input_fn(iter) -> {input node: array of a batch}``, prepared as the network takes it.
        output_dir: Where the three files go.
        calib_iter: How often ``input_fn`` is called.
        input_nodes: Checked against the network's.
        output_nodes: Likewise.
        method: 0 without overflow, 1 smallest squared error.
        weight_bit: Width of weights.
        activation_bit: Width of activations.
        do_cle: Equalize layers where that helps.
        include_fast_ft: Round weights by their layers' outputs where that helps.
        tick: Called with (iterations done, iterations in all).
        say: Called with each line that the tool prints on its way.

    Raises:
        CalibrationError: if there is no such method.
        NoData: if ``input_fn`` gives no samples.
        InputMismatch: if a node is none of the network's.
    """
    from bitwright.api import calibrate, export, load, quantize
    from bitwright.targets.target import load_target

    tell = say or (lambda line: None)
    if method not in METHODS:
        raise CalibrationError(f"There is no method {method}; there are 0, 1 and 2.")
    model = load(input_model, input_spec={"input": {"layout": "raw"}})
    inputs, outputs = nodes(model)
    check_nodes(input_nodes, inputs, "input")
    check_nodes(output_nodes, outputs, "output")
    for which, given, known in (("input", input_nodes, inputs), ("output", output_nodes, outputs)):
        if not given:
            tell(f"INFO: Found {which} nodes: {', '.join(printable(n) for n in known)}")
    runs = CalibrationRuns(input_fn, calib_iter, tick)
    tell(f"INFO: Calibrating for {calib_iter} iterations...")
    found = calibrate(model, runs)
    samples = found.statistics.samples
    tell("INFO: Calibration Done.")
    target = load_target(TARGET)
    if (weight_bit, activation_bit) != (8, 8):
        target = target.with_overrides({"weight": {"bits": weight_bit}, "activation": {"bits": activation_bit}})
    repairs = ",".join(name for name, on in (("equalize", do_cle), ("reconstruct", include_fast_ft)) if on)
    tell("INFO: Generating Deploy Model...")
    q = quantize(
        model, found, target, scheme=METHODS[method], mend=repairs or None, data=list(runs) if repairs else None
    )
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    evaluated = export(q, "vitis", folder / "quantize_eval_model.onnx")
    deployed = export(q, "onnx-int", folder / "deploy_model.onnx")
    saved = q.save(folder / "deploy_model.bw")
    tell("INFO: Deploy Model Generated.")
    share = q.program.integer_mac_share
    notes = (
        [] if share == 1.0 else [f"{1 - share:.1%} of the multiplications stay in float; bitwright details says where."]
    )
    return VitisResult(
        quantized=q,
        eval_model=evaluated.report.files[0],
        deploy_model=deployed.report.files[0],
        bw=saved,
        samples=samples,
        notes=tuple(notes),
    )
