"""What people call: the only place where the layers meet.

Heavy modules are imported inside the functions, so that importing bitwright is quick.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import CalibrationError, ModelError, StaleCalibration, printable
from bitwright.model import Model, PathLike, load, open_samples
from bitwright.progress import with_notebook_bar
from bitwright.shown import Shown
from bitwright.validating import validate

if TYPE_CHECKING:
    from bitwright.calibrate.assign import Formats
    from bitwright.calibrate.placing import Placed
    from bitwright.calibrate.spec import NetworkSpec
    from bitwright.calibrate.statistics import Statistics
    from bitwright.choosing import Trial
    from bitwright.export.verify import Exported
    from bitwright.mend.search import Mended
    from bitwright.number.format import Format
    from bitwright.program.program import Program
    from bitwright.quantized import Quantized
    from bitwright.targets.target import Target

__all__ = [
    "Calibration",
    "Model",
    "calibrate",
    "export",
    "learned",
    "load",
    "packed",
    "quantize",
    "role_schemes",
    "target_of",
    "validate",
]

Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class Calibration(Shown):
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

        return [r.to_json() for r in calibration_table(self.model.network, self.statistics, self.model.contract)]

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


@with_notebook_bar("Calibrating")
def calibrate(
    model: Any,
    data: Any = None,
    *,
    numbers: PathLike | None = None,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    watch: Callable[[Statistics], None] | None = None,
) -> Calibration:
    """Run the float network over data and collect the range and bit histogram of every tensor, in one pass.

    Args:
        model: What :func:`load` takes or gives.
        data: Samples; labels are not needed.  May be left out with ``numbers`` that tell all tensors.
        numbers: A file of another tool with formats or ranges (:mod:`bitwright.calibrate.foreign` lists the kinds), which
            come before what the samples show.
        samples: Use so many, spread evenly over the source.
        seed: Draw them at random instead, the same ones for the same seed.
        skip_bad: Leave out samples that cannot be read instead of stopping at the first.
        progress: Called with (samples done, samples in all or None, what is going on).
        checkpoint: A file that keeps what was collected; a run that was killed goes on from it.
        watch: Called now and then with the statistics so far, for a screen that fills in.

    Raises:
        DataError: if samples cannot be used.
        NonFinite: if NaN or infinity turns up.
    """
    from bitwright.calibrate.observe import observe

    loaded = load(model)
    placed = None if numbers is None else placed_numbers(loaded, numbers)
    if data is None:
        if placed is None:
            raise CalibrationError("Calibrating needs data, or a file of another tool's numbers.")
        return told(loaded, placed)
    source = open_samples(loaded.network, loaded.contract, data, samples=samples, seed=seed, skip_bad=skip_bad)

    def report(done: int, total: int | None) -> None:
        if progress is not None:
            progress(done, total, "calibrating")

    statistics = observe(
        loaded.network,
        source,
        progress=report if progress is not None else None,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        watch=watch,
    )
    notes = (*loaded.notes, *source.notes)
    if statistics.partial:
        notes = (*notes, f"Interrupted: only the first {statistics.samples} samples were used.")
    if placed is not None:
        statistics, notes = replace(statistics, placed=placed), (*notes, *placed.notes)
    return Calibration(loaded, statistics, notes)


def placed_numbers(model: Model, path: PathLike) -> Placed:
    """The numbers of another tool's file on the tensors of a network."""
    from bitwright.calibrate.foreign import read_numbers
    from bitwright.calibrate.placing import place

    return place(read_numbers(Path(path)), model.network)


def told(model: Model, placed: Placed) -> Calibration:
    """A calibration of nothing but another tool's numbers."""
    from bitwright.calibrate.constants import constant_statistics
    from bitwright.calibrate.placing import spread_ranges
    from bitwright.calibrate.statistics import Statistics
    from bitwright.calibrate.tensor_stats import TensorStats

    net = model.network
    ranges = spread_ranges(net, placed)
    constants = constant_statistics(net)
    statistics = Statistics(
        net.fingerprint,
        activations={tensor: TensorStats.of([low, high]) for tensor, (low, high) in ranges.items()},
        weights=constants["weights"],
        biases=constants["biases"],
        placed=placed,
    )
    return Calibration(model, statistics, (*model.notes, *placed.notes))


def target_of(target: str | PathLike | Target) -> Target:
    """A target by name or file, or itself."""
    from bitwright.targets.target import Target, load_target

    return target if isinstance(target, Target) else load_target(target)


@with_notebook_bar("Quantizing")
def quantize(
    model: Any,
    calibration: Any = None,
    target: str | PathLike | Target | None = None,
    *,
    scheme: str | None = None,
    formats: Mapping[str, str | Format] | None = None,
    mend: str | None = None,
    mend_seconds: float = 300.0,
    max_drop: float | None = None,
    checkpoint: PathLike | None = None,
    data: Any = None,
    samples: int | None = None,
    seed: int | None = None,
    strict: bool = False,
    prune: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Quantized:
    """Choose every tensor's format under the target's rules and write the integer program.

    Args:
        model: What :func:`load` takes or gives.
        calibration: A :class:`Calibration`, the path of a ``.bwcal`` file, or data to calibrate with.  A network that came
            quantized needs none: it keeps the formats and integers of its file.
        target: A target, its name or its file; by default ``generic``, or the one that a quantized network is made for.
        scheme: How ranges become formats, for weights and activations alike; None takes the target's own schemes, and
            ``"auto"`` tries the usual ones on some of the samples and takes the one whose integer outputs are best.
        formats: Formats set by hand: tensor, ``LAYER.Weights`` or ``LAYER.Bias`` → a format or its text, such as
            ``"int8·2^-5"``.  They must keep the target's rules; the other formats are chosen to go with them.
        mend: Repairs to apply and keep where they help: ``"auto"``, or names with options
            (``"equalize,learn-ranges{rounds=1}"``); None applies none.
        mend_seconds: Time for repairs.
        max_drop: End repairs once no more than so many answers in a hundred differ from the float network's.
        checkpoint: A file that keeps what repairs found; a run that was broken off goes on from it.
        data: Samples for ``scheme="auto"`` and for repairs where ``calibration`` is no data itself.
        samples: How many samples to use, where data is given.
        seed: See :func:`calibrate`.
        strict: Refuse layers that would stay in float.
        prune: Take out channels that are proven constant; every output integer stays the same.
        skip_bad: See :func:`calibrate`.
        progress: See :func:`calibrate`.

    Raises:
        UnsupportedOp: with ``strict``, if a layer has no integer form on the target.
        StaleCalibration: if the statistics belong to another network.
        CalibrationError: if a format set by hand is against a rule of the target.
    """
    from bitwright.calibrate.assign import assign, settle
    from bitwright.calibrate.given import format_text, read_given
    from bitwright.lower import lower
    from bitwright.program.prune import prune as prune_program

    loaded = load(model)
    if calibration is None and loaded.network.stated is not None:
        from bitwright.quantized import Quantized
        from bitwright.taken import take

        return Quantized(take(loaded, target, strict=strict))
    chosen = target_of("generic" if target is None else target)
    collected = _calibration_for(loaded, calibration, samples=samples, seed=seed, skip_bad=skip_bad, progress=progress)
    spec = loaded.spec(chosen)
    given = read_given(spec, chosen, formats) if formats else None
    trials: tuple[Trial, ...] = ()
    if scheme == "auto":
        source = data if data is not None else None if collected is calibration else calibration
        trials = _tried(loaded, spec, collected, chosen, source, seed=seed, skip_bad=skip_bad, progress=progress)
        schemes = made_schemes(trials[0].names)
    else:
        schemes = role_schemes(chosen, scheme)
    repairs: list[dict[str, Any]] = []
    found: Mended | None = None
    if mend is None:
        assigned = assign(spec, collected.statistics, chosen, schemes.made, given=given)
        if collected.statistics.placed is not None:
            from bitwright.calibrate.placing import given_formats

            known = given_formats(spec, chosen, collected.statistics.placed)
            assigned = settle(spec, known.on(assigned), chosen, schemes.made, given)
        program = lower(loaded.network, spec, assigned, chosen, strict=strict)
    else:
        source = data if data is not None else None if collected is calibration else calibration
        found = _mended(
            loaded, collected, chosen, schemes, source, repairs=mend, seconds=mend_seconds, max_drop=max_drop,
            samples=samples, seed=seed, skip_bad=skip_bad, checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
        spec, assigned, constants = found.spec, found.formats, found.constants
        if given is not None:  # what a person says comes last; weights in another format are rounded to it anew
            assigned = settle(spec, assigned, chosen, schemes.made, given)
            kept = {
                layer: w
                for layer, w in constants.weights.items()
                if assigned.weights[layer] == found.formats.weights[layer]
            }
            constants = replace(constants, weights=kept)
        program = lower(found.network, spec, assigned, chosen, constants=constants, strict=strict)
        repairs = [{**one.to_json(), "sentence": one.sentence} for one in found.history]
    if prune:
        program, _ = prune_program(program)  # what it did is in the program's notes
    return packed(
        loaded, collected, chosen, schemes.names, spec, program, assigned, seed=seed, repairs=repairs, trials=trials,
        given={t: f if isinstance(f, str) else format_text(f) for t, f in (formats or {}).items()}, mended=found,
    )  # fmt: skip


def _mended(
    model: Model,
    calibration: Calibration,
    target: Target,
    schemes: NamedSchemes,
    data: Any,
    *,
    repairs: str,
    seconds: float,
    max_drop: float | None,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    checkpoint: PathLike | None,
    progress: Progress | None,
) -> Mended:
    from bitwright.mend.entry import mend_model

    if data is None or (isinstance(data, (str, os.PathLike)) and str(data).endswith(".bwcal")):
        raise CalibrationError(
            "Repairs run the network on samples, and a calibration holds none. Give the data too, or leave out mend."
        )

    def report(text: str, share: float) -> None:
        if progress is not None:
            progress(round(100 * share), 100, f"mending: {text}")

    return mend_model(
        model,
        data,
        target,
        schemes.made,
        repairs=repairs,
        statistics=calibration.statistics,
        samples=samples,
        seed=seed,
        skip_bad=skip_bad,
        time_budget_s=seconds,
        max_drop=max_drop,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=report,
    )


def _tried(
    model: Model,
    spec: NetworkSpec,
    calibration: Calibration,
    target: Target,
    data: Any,
    *,
    seed: int | None,
    skip_bad: bool,
    progress: Progress | None,
) -> tuple[Trial, ...]:
    from bitwright.choosing import TRIAL_SAMPLES, try_schemes

    if data is None or (isinstance(data, (str, os.PathLike)) and str(data).endswith(".bwcal")):
        raise CalibrationError(
            'Scheme "auto" runs candidates on samples, and a calibration holds none. Give the data too, or name a scheme.'
        )
    net = model.network
    source = open_samples(net, model.contract, data, samples=TRIAL_SAMPLES, seed=seed, skip_bad=skip_bad)
    feeds = [b.x if isinstance(b.x, dict) else {net.inputs[0]: b.x} for b in source.batches(16)]

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, "trying schemes")

    return try_schemes(model, spec, calibration.statistics, target, feeds, report)


@dataclass(frozen=True)
class NamedSchemes:
    """The scheme of each role, and what it was called."""

    made: Any
    names: Mapping[str, str]


def role_schemes(target: Target, scheme: str | None = None) -> NamedSchemes:
    """The schemes of the target, or ``scheme`` for weights, biases and activations.

    Inputs keep the target's scheme: their range is known, and clipping an image helps nobody.
    """
    from bitwright.calibrate.scheme import load as load_scheme

    own = target.schemes
    names = {"input": own.input, "activation": own.activation, "weight": own.weight, "bias": own.bias}
    if scheme is not None and scheme != "auto":
        load_scheme(scheme)
        names = {role: own.input if role == "input" else scheme for role in names}
    return made_schemes(names)


def made_schemes(names: Mapping[str, str]) -> NamedSchemes:
    """The schemes of the roles by name."""
    from bitwright.calibrate.assign import RoleSchemes
    from bitwright.calibrate.scheme import load as load_scheme

    return NamedSchemes(RoleSchemes(**{role: load_scheme(text) for role, text in names.items()}), names)


def _calibration_for(
    model: Model,
    calibration: Any,
    *,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    progress: Progress | None,
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
    collected = calibrate(model, calibration, samples=samples, seed=seed, skip_bad=skip_bad, progress=progress)
    if collected.statistics.partial:  # Ctrl-C: what was asked for is a network calibrated with all samples
        raise KeyboardInterrupt
    return collected


def packed(
    model: Model,
    calibration: Calibration,
    target: Target,
    schemes: Mapping[str, str],
    spec: NetworkSpec,
    program: Program,
    formats: Formats,
    *,
    seed: int | None = None,
    repairs: Sequence[Mapping[str, Any]] = (),
    trials: Sequence[Trial] = (),
    given: Mapping[str, str] | None = None,
    mended: Mended | None = None,
) -> Quantized:
    """Everything in one value: the program, the float network, the contract, the statistics and where they came from.

    A network that repairs rewrote is kept beside the one that was given, with its statistics: ``explain`` compares the
    integers with what they were written from.
    """
    from bitwright import __version__
    from bitwright.calibrate.file import statistics_bytes
    from bitwright.layer_rows import layer_rows
    from bitwright.program.file import Artefact
    from bitwright.quantized import Quantized

    net = model.network
    weights, biases = calibration.statistics.weights, calibration.statistics.biases
    network: bytes | None = None
    network_file = None
    try:
        network = net.serialize()
    except ModelError:
        network_file = {"path": str(model.path), "fingerprint": net.fingerprint}
    rewritten = recalibration = None
    used = dict(schemes)
    if mended is not None:
        from bitwright.mend.checkpoint import scheme_text

        used = {role: scheme_text(getattr(mended.solution.schemes, role)) for role in schemes}
        if mended.network is not net and mended.network.fingerprint != net.fingerprint:
            with contextlib.suppress(ModelError):  # too large to be carried: explained as far as the given one goes
                rewritten = mended.network.serialize()
                recalibration = statistics_bytes(mended.solution.statistics)
    provenance = {
        "bitwright": __version__,
        "fingerprint": net.fingerprint,
        "network_file": network_file,
        "data": list(calibration.statistics.data),
        "calibration_samples": calibration.statistics.samples,
        "target": target.to_dict(),
        # Of the network before anything was pruned: what the integers are compared with.
        "learnable_float_bytes": 4 * sum(c.count for part in (weights, biases) for c in part.values()),
        "schemes": dict(schemes),
        "schemes_used": used,
        "scheme_trials": [trial.to_json() for trial in trials],
        "seed": seed,
        "repairs": list(repairs),
        "formats": {
            "activations": {t: str(f) for t, f in formats.activations.items()},
            "weights": {t: str(f) for t, f in formats.weights.items()},
            "biases": {t: str(f) for t, f in formats.biases.items()},
            "groups": dict(formats.group),
            "notes": list(formats.notes),
            "given": dict(given or {}),
        },
        "layers": [row.to_json() for row in layer_rows(spec, program)],
        "folds": [fold.to_json() for fold in model.folds],
        "norms": [norm.to_json() for norm in model.norms],
        "notes": [*calibration.notes, *formats.notes, *program.notes],
    }
    return Quantized(
        Artefact(
            program=program,
            provenance=provenance,
            contract=model.contract.to_dict(),
            network=network,
            calibration=statistics_bytes(calibration.statistics),
            rewritten=rewritten,
            recalibration=recalibration,
        )
    )


def export(
    quantized: Quantized | PathLike,
    to: str,
    path: PathLike,
    *,
    verify: bool = False,
    data: Any = None,
    samples: int | None = None,
    **options: Any,
) -> Exported:
    """Write a quantized network in the form that another runtime or tool reads.

    Args:
        quantized: The network, or its ``.bw`` file.
        to: Name of the format, as ``bitwright export --to`` has it.
        path: File or folder to write.
        verify: Read the files back with an independent reader, compare every output, and write a certificate.
        data: Samples for that; by default numbers drawn at random over the range of the input, always the same.
        samples: How many; by default 8.
        options: Of the format; see the reference of exports.

    Returns:
        What was written, and with ``verify`` what reading it back found.

    Raises:
        ExportError: if there is no such format, or the network cannot be written in it.
        ToolMissing: if a package is missing that writing or reading back needs.
        Mismatch: if a file that promises the program's integers computes others: a bug of ours.
    """
    from bitwright.export.verify import export as run
    from bitwright.quantized import open_quantized

    return run(open_quantized(quantized), to, path, verify=verify, data=data, samples=samples, options=options)


def learned(quantized: Quantized | PathLike, weights: PathLike) -> Quantized:
    """The network with weights that were learned in PyTorch, in the module that ``export("torch", ...)`` wrote.

    Args:
        quantized: The network that was exported, or its ``.bw`` file.
        weights: The ``.safetensors`` file that the module saved.

    Returns:
        A network of the same formats that computes the module's integers.

    Raises:
        BadModelFile: if the file is none, or belongs to another network.
        NonFinite: if training diverged.
        ModelError: if the network was pruned, or repaired in its structure.
    """
    from bitwright.export.torch_qat.learned import learned as run
    from bitwright.quantized import open_quantized

    return run(open_quantized(quantized), weights)
