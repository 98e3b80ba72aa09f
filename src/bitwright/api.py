"""What people call: the only place where the layers meet.

Heavy modules are imported inside the functions, so that importing bitwright is quick.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import CalibrationError, ModelError, StaleCalibration, printable

if TYPE_CHECKING:
    import numpy as np

    from bitwright.calibrate.spec import NetworkSpec
    from bitwright.calibrate.statistics import Statistics
    from bitwright.data.contract import InputContract
    from bitwright.data.source import Source
    from bitwright.metrics.validation import Validation
    from bitwright.network.network import Network
    from bitwright.passes._pass import Change
    from bitwright.passes.fold import Fold
    from bitwright.quantized import Quantized
    from bitwright.targets.target import Target

Progress = Callable[[int, int | None, str], None]
PathLike = str | os.PathLike[str]
CHECKED_SAMPLES = 2
VALIDATION_BATCH = 16


@dataclass(frozen=True)
class Model:
    """A network that was loaded and prepared.

    Attributes:
        network: Folded and grouped into layers; every node knows the source nodes it came from.
        changes: What the folding passes did, in order.
        contract: How samples become inputs.
        notes: What the user should know, in sentences.
        path: The file, if it came from one.
    """

    network: Network
    changes: tuple[Change, ...]
    contract: InputContract
    notes: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    @property
    def folds(self) -> tuple[Fold, ...]:
        """What folding did to the range of each weight and bias."""
        return tuple(fold for change in self.changes for fold in change.folds)

    def spec(self, target: Target) -> NetworkSpec:
        """Its layers as ``target`` sees them."""
        from bitwright.calibrate.spec import read_layers

        return read_layers(self.network, target)


def load(
    model: Any,
    *,
    input_spec: PathLike | Mapping[str, Any] | InputContract | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    name: str | None = None,
) -> Model:
    """Load a float network and prepare it: fold, fuse, group, with every source name kept.

    Args:
        model: Path of an ONNX file, ONNX bytes, a ``ModelProto`` or an ``onnx_ir.Model``.
        input_spec: The input contract, or its TOML file; by default ``MODEL.toml`` beside the model.
        shapes: Sizes for free dimensions other than the batch.
        name: A name for reports.

    Raises:
        ModelError: if the network cannot be used; the subclass and message say why.
        DataError: if the input contract cannot be used.
    """
    from bitwright.data.contract import InputContract, default_contract
    from bitwright.network.load import load as read
    from bitwright.passes.prepare import prepare

    if isinstance(model, Model):
        return model
    source = read(model, name=name, shapes=shapes)
    network, changes = prepare(source)
    if not network.inputs or not network.outputs:
        raise ModelError(f"{printable(network.name)} has no inputs or no outputs, so there is nothing to quantize.")
    path = Path(model) if isinstance(model, (str, os.PathLike)) else None
    contract: InputContract | None
    if input_spec is None:
        contract = InputContract.find(path) if path is not None else None
    elif isinstance(input_spec, InputContract):
        contract = input_spec
    elif isinstance(input_spec, Mapping):
        contract = InputContract.from_dict(input_spec)
    else:
        contract = InputContract.from_toml(input_spec)
    first = contract.name if contract is not None and contract.name in network.inputs else network.inputs[0]
    shape: list[int | None] = list(network.shape(first))
    if network.batchable and shape:
        shape[0] = None
    notes: tuple[str, ...] = network.notes
    if contract is None:
        bound, more = default_contract(shape, network.dtype(first), name=first)
        notes = (*notes, *more)
    else:
        bound = contract.bind(shape, network.dtype(first), name=first)
    return Model(network=network, changes=changes, contract=bound, notes=notes, path=path)


@dataclass(frozen=True)
class Calibration:
    """Statistics of a network's tensors, with the network that they belong to.

    Attributes:
        model: The network.
        statistics: Of all its activations, weights and biases.
        notes: What the first batch and the source had to say.
    """

    model: Model
    statistics: Statistics
    notes: tuple[str, ...] = ()

    def __add__(self, other: Calibration) -> Calibration:
        """The calibration over the samples of both."""
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        return replace(self, statistics=self.statistics + other.statistics, notes=notes)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The calibration table: a row for each weight, bias and activation."""
        from bitwright.calibrate.table import calibration_table

        return [row.to_json() for row in calibration_table(self.model.network, self.statistics, self.model.contract)]

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame.

        Raises:
            ToolMissing: if pandas is not installed.
        """
        from bitwright.errors import ToolMissing

        try:
            import pandas
        except ImportError as error:
            raise ToolMissing("pandas is not installed: pip install pandas", tool="pandas", install="pip install pandas") from error
        return pandas.DataFrame(self.rows)

    def save(self, path: PathLike) -> Path:
        """Write a ``.bwcal`` file, whole or not at all."""
        from bitwright.calibrate.file import save_statistics

        save_statistics(self.statistics, Path(path))
        return Path(path)

    @classmethod
    def load(cls, model: Any, path: PathLike) -> Calibration:
        """Read a ``.bwcal`` file of ``model``.

        Raises:
            StaleCalibration: if it was collected on another network.
        """
        from bitwright.calibrate.file import load_statistics

        loaded = load(model)
        statistics = load_statistics(Path(path))
        statistics.check(network=loaded.network.fingerprint)
        return cls(loaded, statistics)

    def _repr_html_(self) -> str:
        from html import escape

        columns = ("optimized_layer", "network_layers", "kind", "min", "max")
        head = "".join(f"<th>{c}</th>" for c in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(printable(row[c]))}</td>" for c in columns) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def samples_of(
    model: Model, data: Any, *, samples: int | None = None, seed: int | None = None, skip_bad: bool = False
) -> Source:
    """Open ``data`` for a network; see ``data/source.py`` for what it may be."""
    from bitwright.data.source import open_source

    return open_source(
        data,
        model.contract,
        samples=samples,
        seed=seed,
        on_bad="skip" if skip_bad else "error",
        inputs=model.network.inputs,
    )


def checked_first_batch(model: Model, source: Source) -> tuple[str, ...]:
    """What the first batch has to say: shape, layout, range, "looks normalized twice".

    Raises:
        DataError: if it cannot be right.
    """
    from bitwright.data.first_batch import check_first_batch
    from bitwright.errors import NoData

    net = model.network
    batch = next(iter(source.batches(min(4, VALIDATION_BATCH) if net.batchable else 1, 0)), None)
    if batch is None:
        raise NoData(f"{source.title} gives no sample.")
    free = [None] if net.batchable else []
    shapes = {name: [*free, *net.shape(name)[len(free) :]] for name in net.inputs}
    types = {name: net.dtype(name) for name in net.inputs}
    if len(net.inputs) == 1:
        only = net.inputs[0]
        return check_first_batch(batch, model.contract, shapes[only], types[only])
    return check_first_batch(batch, model.contract, shapes, types)


def calibrate(
    model: Any,
    data: Any,
    *,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
) -> Calibration:
    """Run the float network over data and collect the range and bit histogram of every tensor, in one pass.

    Args:
        model: What :func:`load` takes or gives.
        data: Samples; labels are not needed.
        samples: Use so many, spread evenly over the source.
        seed: Draw them at random instead, the same ones for the same seed.
        skip_bad: Leave out samples that cannot be read instead of stopping at the first.
        progress: Called with (samples done, samples in all or None, what is going on).
        checkpoint: A file that keeps what was collected; a run that was killed goes on from it.

    Raises:
        DataError: if samples cannot be used.
        NonFinite: if NaN or infinity turns up.
    """
    from bitwright.calibrate.observe import observe

    loaded = load(model)
    source = samples_of(loaded, data, samples=samples, seed=seed, skip_bad=skip_bad)
    notes = checked_first_batch(loaded, source)

    def report(done: int, total: int | None) -> None:
        if progress is not None:
            progress(done, total, "calibrating")

    statistics = observe(
        loaded.network,
        source,
        progress=report if progress is not None else None,
        checkpoint=None if checkpoint is None else Path(checkpoint),
    )
    notes = (*loaded.notes, *notes, *source.notes)
    if statistics.partial:
        notes = (*notes, f"Interrupted: only the first {statistics.samples} samples were used.")
    return Calibration(loaded, statistics, notes)


def target_of(target: str | PathLike | Target) -> Target:
    """A target by name or file, or itself."""
    from bitwright.targets.target import Target, load_target

    return target if isinstance(target, Target) else load_target(target)


def quantize(
    model: Any,
    calibration: Any,
    target: str | PathLike | Target = "generic",
    *,
    scheme: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Quantized:
    """Choose every tensor's format under the target's rules and write the integer program.

    Args:
        model: What :func:`load` takes or gives.
        calibration: A :class:`Calibration`, the path of a ``.bwcal`` file, or data to calibrate with.
        target: A target, its name or its file.
        scheme: How ranges become formats, for weights and activations alike; None takes the target's own schemes.
        samples: How many samples to use, where data is given.
        seed: See :func:`calibrate`.
        strict: Refuse layers that would stay in float.
        progress: See :func:`calibrate`.

    Raises:
        UnsupportedOp: with ``strict``, if a layer has no integer form on the target.
        StaleCalibration: if the statistics belong to another network.
    """
    from bitwright.calibrate.assign import assign
    from bitwright.lower import lower

    loaded = load(model)
    chosen = target_of(target)
    collected = _calibration_for(loaded, calibration, samples, seed, progress)
    schemes = role_schemes(chosen, scheme)
    spec = loaded.spec(chosen)
    formats = assign(spec, collected.statistics, chosen, schemes.made)
    program = lower(loaded.network, spec, formats, chosen, strict=strict)
    return packed(loaded, collected, chosen, schemes.names, program, formats, seed=seed)


@dataclass(frozen=True)
class NamedSchemes:
    """The scheme of each role, and what it was called."""

    made: Any
    names: Mapping[str, str]


def role_schemes(target: Target, scheme: str | None = None) -> NamedSchemes:
    """The schemes of the target, or ``scheme`` for weights, biases and activations.

    Inputs keep the target's scheme: their range is known, and clipping an image helps nobody.
    """
    from bitwright.calibrate.assign import RoleSchemes
    from bitwright.calibrate.scheme import load as load_scheme

    own = target.schemes
    names = {"input": own.input, "activation": own.activation, "weight": own.weight, "bias": own.bias}
    if scheme is not None:
        load_scheme(scheme)
        names = {role: own.input if role == "input" else scheme for role in names}
    return NamedSchemes(RoleSchemes(**{role: load_scheme(text) for role, text in names.items()}), names)


def _calibration_for(
    model: Model, calibration: Any, samples: int | None, seed: int | None, progress: Progress | None
) -> Calibration:
    if isinstance(calibration, Calibration):
        expected, found = model.network.fingerprint, calibration.statistics.network
        if expected != found:
            raise StaleCalibration(
                f"The calibration belongs to another network than '{printable(model.name)}'. Calibrate again.",
                expected=expected,
                found=found,
            )
        return calibration
    if isinstance(calibration, (str, os.PathLike)) and str(calibration).endswith(".bwcal"):
        return Calibration.load(model, calibration)
    if calibration is None:
        raise CalibrationError("Quantizing needs a calibration, a .bwcal file, or data to calibrate with.")
    return calibrate(model, calibration, samples=samples, seed=seed, progress=progress)


def packed(
    model: Model,
    calibration: Calibration,
    target: Target,
    schemes: Mapping[str, str],
    program: Any,
    formats: Any,
    *,
    seed: int | None = None,
    repairs: Sequence[Mapping[str, Any]] = (),
) -> Quantized:
    """Everything in one value: the program, the float network, the contract, the statistics and where they came from."""
    from bitwright import __version__
    from bitwright.calibrate.file import statistics_bytes
    from bitwright.program.file import Artefact
    from bitwright.quantized import Quantized

    net = model.network
    network: bytes | None = None
    network_file = None
    try:
        network = net.serialize()
    except ModelError:
        network_file = {"path": str(model.path), "fingerprint": net.fingerprint}
    provenance = {
        "bitwright": __version__,
        "fingerprint": net.fingerprint,
        "network_file": network_file,
        "data": list(calibration.statistics.data),
        "calibration_samples": calibration.statistics.samples,
        "target": target.to_dict(),
        "schemes": dict(schemes),
        "seed": seed,
        "repairs": list(repairs),
        "formats": {
            "activations": {t: str(f) for t, f in formats.activations.items()},
            "weights": {t: str(f) for t, f in formats.weights.items()},
            "biases": {t: str(f) for t, f in formats.biases.items()},
            "groups": dict(formats.group),
            "notes": list(formats.notes),
        },
        "folds": [fold.to_json() for fold in model.folds],
        "notes": [*calibration.notes, *formats.notes, *program.notes],
    }
    return Quantized(
        Artefact(
            program=program,
            provenance=provenance,
            contract=model.contract.to_dict(),
            network=network,
            calibration=statistics_bytes(calibration.statistics),
        )
    )


def validate(
    quantized: Any,
    data: Any,
    metric: Any = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    decode: Any = None,
    progress: Progress | None = None,
) -> Validation:
    """Run the float network and the integer program over the same samples and compare them.

    The first samples are also run through the reference simulator, and every integer of every buffer is compared.

    Args:
        quantized: A quantized network or its ``.bw`` file.
        data: Samples, with labels where the metric needs them.
        metric: A name, ``module:function``, or None for the task's own.
        samples: Use so many.
        seed: See :func:`calibrate`.
        skip_bad: Leave out samples that cannot be read.
        decode: The decode function of a detector.
        progress: Called with (samples done, samples in all or None, what is going on).

    Raises:
        NoData: if there are no samples, or no labels where the metric needs them.
        Mismatch: if the fast engine and the reference differ, which would be a bug of ours.
    """
    import numpy as np

    from bitwright.data.source import open_source
    from bitwright.metrics.choose import metric_for
    from bitwright.metrics.comparison import Comparison
    from bitwright.metrics.validation import Pair, Seconds
    from bitwright.quantized import open_quantized

    q = open_quantized(quantized)
    program, net, contract = q.program, q.network, q.contract
    source = open_source(
        data, contract, samples=samples, seed=seed, on_bad="skip" if skip_bad else "error", inputs=net.inputs
    )
    labelled = bool(source.labelled)
    output = 0
    last = program.buffers[program.outputs[output]].format
    comparison = Comparison(
        lambda: metric_for(metric, contract, labelled=labelled, outputs=net.outputs, decode=decode),
        contract,
        output=output,
        highest=float(np.max(last.real_range[1])),
    )
    session = net.session()
    spent = {"float": 0.0, "quantized": 0.0, "data": 0.0}
    checked = mismatches = done = 0
    size = VALIDATION_BATCH if net.batchable else 1
    batches = iter(source.batches(size))
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        spent["data"] += time.perf_counter() - start
        if batch is None:
            break
        arrays = batch.x if isinstance(batch.x, dict) else {net.inputs[0]: batch.x}
        start = time.perf_counter()
        floats = session.run(list(net.outputs), arrays)
        spent["float"] += time.perf_counter() - start
        if done == 0:  # also warms the engine up, so that building it is not counted as running it
            few = {name: x[:CHECKED_SAMPLES] for name, x in arrays.items()}
            agreement = q.check(few)
            agreement.require(f"The engine ({q.engine.name})")
            checked, mismatches = agreement.values_checked, agreement.mismatches
            q.engine.run(q.integers({name: x[:1] for name, x in arrays.items()}))
        start = time.perf_counter()
        integers = q.engine.run(q.integers(arrays))
        outputs = q.reals(integers)
        spent["quantized"] += time.perf_counter() - start
        comparison.update(
            [np.asarray(f) for f in floats],
            [o.astype(np.float32) for o in outputs],
            batch.y if labelled else None,
            inputs=arrays[net.inputs[0]],
        )
        done += len(batch)
        if progress is not None:
            progress(done, source.length, "validating")
    return comparison.validation(
        learnable_bytes=Pair(program.learnable_float_bytes, program.learnable_bytes),
        integer_mac_share=program.integer_mac_share,
        engine=q.engine.name,
        values_checked=checked,
        mismatches=mismatches,
        seconds=Seconds(**spent),
        target=program.target,
        notes=(*source.notes, *saturation_notes(q)),
    )


def saturation_notes(quantized: Quantized) -> tuple[str, ...]:
    """Sentences about float islands, for every report."""
    from bitwright.program.forms import Island

    islands = [step for step in quantized.program.steps if isinstance(step.form, Island)]
    share = 1.0 - quantized.program.integer_mac_share
    return tuple(
        f"Layer '{printable(step.layer)}' runs in float: {step.form.reason}" for step in islands if isinstance(step.form, Island)
    ) + ((f"{share:.1%} of the multiply-accumulates run in float.",) if share > 0 else ())
