"""Which integers flip when rounding changes: two programs of one network side by side, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadTargetFile, CalibrationError, TargetError, UnsupportedOp, printable
from bitwright.lower import Constants, lower
from bitwright.number.format import Format
from bitwright.program.program import Program
from bitwright.quantized import Quantized, open_quantized
from bitwright.simulate.engine import Engine
from bitwright.simulate.reference import run_step
from bitwright.targets.target import Target

Values = NDArray[np.integer[Any]]
SAMPLES = 8
MOST_EXCEPTIONS = 16
CLOSE = 1e-6  # scales that differ by less are one


@dataclass(frozen=True, kw_only=True)
class LayerFlips:
    """One tensor in both programs.

    Attributes:
        tensor: Its name in the network.
        layer: The layer that computes it.
        op: The layer's operator.
        integers: How many were compared.
        own: How many the layer itself flips: both given the inputs of the first program.
        carried: How many differ when both run from the network's input, what came before included.
        largest: Largest difference, in steps, of the latter.
    """

    tensor: str
    layer: str
    op: str
    integers: int
    own: int
    carried: int
    largest: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Flips:
    """What changes between two programs of one network.

    Attributes:
        a: The first: its target, and its profile.
        b: The second.
        samples: How many were run.
        layers: In the order of the network; tensors of one format in both only.
        outputs: Integers of the outputs.
        changed: How many of them differ.
        decisions: Samples whose largest output is another one; None where outputs are no classes.
        notes: What limits the comparison, in sentences.
    """

    a: str
    b: str
    samples: int
    layers: tuple[LayerFlips, ...]
    outputs: int
    changed: int
    decisions: int | None
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The result in words."""
        share = 100 * self.changed / max(self.outputs, 1)
        said = f"{self.changed:,} of {self.outputs:,} output integers differ ({share:.1f} %)"
        if self.decisions is None:
            return f"{said}, over {self.samples} samples."
        return f"{said}; {self.decisions} of {self.samples} samples are decided differently."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "a": self.a,
            "b": self.b,
            "samples": self.samples,
            "outputs": self.outputs,
            "changed": self.changed,
            "decisions_changed": self.decisions,
            "layers": [layer.to_json() for layer in self.layers],
            "notes": list(self.notes),
        }


def flips(
    a: Quantized | str | os.PathLike[str],
    b: Quantized | str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    data: Any = None,
    samples: int = SAMPLES,
) -> Flips:
    """How many integers, and how many outputs, differ between two programs of one network.

    Args:
        a: A quantized network or its ``.bw`` file.
        b: Another one of the same float network; or None, with ``profile``.
        profile: Compare ``a`` with itself under other rounding rules (``bitwright.targets.profiles``), formats and stored
            weights being the same.
        data: Samples to run; random numbers over the range of the input by default, always the same.
        samples: How many.

    Raises:
        UnknownTarget: there is no such profile.
        TargetError: the formats cannot be computed by the profile; or neither or both of ``b`` and ``profile`` are given.
        CalibrationError: ``a`` carries no calibration, which the profile needs; or the networks are different ones.
    """
    from bitwright.deploying import random_inputs, read_inputs

    first = open_quantized(a)
    if (b is None) == (profile is None):
        raise TargetError("Compare with another .bw file, or under a profile: give one of the two.")
    notes: tuple[str, ...] = ()
    if profile is not None:
        one, other, target, notes = under_profile(first, profile)
        name = f"{target.name} ({target.profile})"
    else:
        assert b is not None
        second = open_quantized(b)
        if first.provenance.get("fingerprint") != second.provenance.get("fingerprint"):
            raise CalibrationError(
                f"'{printable(first.name)}' and '{printable(second.name)}' are different float networks; integers of two "
                "networks cannot be compared."
            )
        one, other, name = first.program, second.program, label(second)
    inputs = random_inputs(one, samples) if data is None else read_inputs(first, data, samples)
    return compared(one, other, inputs, (label(first), name), notes)


def label(q: Quantized) -> str:
    """Target and profile of a quantized network."""
    target = q.target
    return f"{target.name} ({target.profile or target.arithmetic.semantics})"


def under_profile(q: Quantized, profile: str) -> tuple[Program, Program, Target, tuple[str, ...]]:
    """A network as it is and under other rounding rules: programs with the same formats, weights and biases.

    Returns:
        The program, that under the profile, the target with the profile, and what was left as it was, in sentences.

    Raises:
        UnknownTarget: there is no such profile.
        TargetError: the formats cannot be computed by the profile.
        CalibrationError: the file carries no calibration.
    """
    from bitwright.calibrate.spec import read_layers
    from bitwright.explain.subject import subject_of

    own = q.target
    if own.bias_source == "own":
        # Without shifts a bias cannot have a format of its own; its integers in accumulator steps are the same.
        own = own.with_overrides({"name": own.name, "bias_source": "accumulator", "bias": {"bits": 32}})
    try:
        target = own.with_profile(profile)
    except BadTargetFile as error:
        raise TargetError(
            f"The formats of '{printable(q.name)}' for {own.name} cannot be computed under profile {printable(profile)}: "
            f"{printable(error.hint or error)} Quantize it for a target of that profile and compare the two files."
        ) from error
    subject = subject_of(q)
    constants = Constants(
        weights={
            item.layer: np.asarray(subject.program.tensors[item.tensor], np.int64)
            for item in subject.program.learnables
            if item.parameter == "Weights"
        },
        biases=subject.biases,
    )
    notes: list[str] = []
    strict = all(type(step.form).__name__ != "Island" for step in subject.program.steps)
    formats = replace(subject.formats, biases={})
    for _ in range(MOST_EXCEPTIONS):
        spec = read_layers(subject.network, target)
        try:
            made = lower(subject.network, spec, formats, target, constants=constants, strict=strict)
            return subject.program, made, target, tuple(notes)
        except UnsupportedOp as error:
            op = str(error.op)
            if target.op(op).method == own.op(op).method:
                raise TargetError(
                    f"'{printable(q.name)}' cannot be computed under profile {printable(profile)}: {error}"
                ) from error
            rule = own.to_dict()["op"].get(op, {})
            target = target.with_overrides({"name": target.name, "op": {op: {"method": "none", **rule}}})
            notes.append(f"{op} stays as {own.name} computes it: its formats do not fit the profile's way.")
        except ValueError as error:
            raise TargetError(
                f"'{printable(q.name)}' for {own.name} cannot be computed under profile {printable(profile)}: "
                f"{printable(error)}. Quantize it for a target of that profile and compare the two files."
            ) from error
    raise TargetError(f"'{printable(q.name)}' cannot be computed under profile {printable(profile)}.")


def alike(a: Format, b: Format) -> bool:
    """Whether integers of both mean the same, but for the last digits of a scale: tools write them as float32 or float64."""
    same = (a.bits, a.signed, a.axis) == (b.bits, b.signed, b.axis) and a.scale.shape == b.scale.shape
    return same and np.array_equal(a.zero_point, b.zero_point) and np.allclose(a.scale, b.scale, rtol=CLOSE, atol=0)


def compared(
    a: Program, b: Program, inputs: Mapping[str, Values], names: tuple[str, str], notes: tuple[str, ...] = ()
) -> Flips:
    """Run both programs and count what differs.

    Args:
        a: A program.
        b: Another one of the same network.
        inputs: Input buffer of ``a`` → integers ``[n, ...]``.
        names: Of both, for reports.
        notes: Passed on.
    """
    given = dict(zip(b.inputs, (inputs[name] for name in a.inputs), strict=True))
    first, second = Engine(a, keep=True).run(inputs), Engine(b, keep=True).run(given)
    of_a = {
        buffer.tensor: buffer for buffer in a.buffers.values() if buffer.tensor is not None and buffer.name in first
    }
    alone: dict[str, Values] = dict(given)
    rows: list[LayerFlips] = []
    for step in b.steps:
        made = run_step(b, step, [alone[name] for name in step.inputs])
        for name, values in zip(step.outputs, made, strict=True):
            buffer = b.buffers[name]
            same = of_a.get(buffer.tensor or "")
            alone[name] = values
            if same is None or not alike(same.format, buffer.format) or same.shape != buffer.shape:
                continue
            want = np.asarray(first[same.name])
            alone[name] = want  # what follows is judged on its own
            apart = np.abs(second[name].astype(np.int64) - want.astype(np.int64))
            rows.append(
                LayerFlips(
                    tensor=str(buffer.tensor),
                    layer=step.layer,
                    op=step.op,
                    integers=want.size,
                    own=int((values != want).sum()),
                    carried=int((apart > 0).sum()),
                    largest=int(apart.max(initial=0)),
                )
            )
    pairs = [(first[x], second[y]) for x, y in zip(a.outputs, b.outputs, strict=True)]
    comparable = [(x, y) for x, y in pairs if x.shape == y.shape]
    decisions = None
    if len(comparable) == 1 and comparable[0][0].ndim == 2 and comparable[0][0].shape[1] > 1:
        x, y = comparable[0]
        decisions = int((x.argmax(1) != y.argmax(1)).sum())
    missing = len(of_a) - len(rows)
    if missing > len(a.inputs):
        notes = (*notes, f"{missing - len(a.inputs)} tensors have other formats, or are in one of the two only.")
    return Flips(
        a=names[0],
        b=names[1],
        samples=len(next(iter(inputs.values()))),
        layers=tuple(rows),
        outputs=sum(x.size for x, _ in comparable),
        changed=sum(int((x != y).sum()) for x, y in comparable),
        decisions=decisions,
        notes=notes,
    )
