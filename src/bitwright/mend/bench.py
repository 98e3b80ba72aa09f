"""Where a repair is measured: calibration samples held in memory, the float outputs, and the integer engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.observe import observe
from bitwright.calibrate.statistics import Statistics
from bitwright.data.batch import Batch
from bitwright.mend.solution import Solution
from bitwright.program.program import Program
from bitwright.simulate.engine import Engine
from bitwright.simulate.inputs import quantize_input

if TYPE_CHECKING:
    from bitwright.network.network import Network
    from bitwright.targets.target import Target

Arrays = Mapping[str, NDArray[Any]]

BATCH = 16
TRIAL = 32
"""Samples that a search looks at again and again."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How close integer outputs are to the float ones.

    Attributes:
        sqnr: Energy of the float outputs over that of the difference, in dB, over all outputs and samples.
        agreement: Share of samples with the same largest output, or NaN where the output has no classes.
        correct: Share of samples whose largest output is the label, or NaN without labels.
        divergence: For classifiers, the mean Kullback-Leibler divergence (nats) of the integer answer from the float
            one, else NaN.
    """

    sqnr: float
    agreement: float = float("nan")
    correct: float = float("nan")
    divergence: float = float("nan")

    @property
    def height(self) -> float:
        """What is made large, in dB: the signal to noise, for classifiers in the mean with that of the divergence.

        Noise on logits that never win costs a classifier nothing, and steps so wide that the best two are a tie cost
        it dear; the divergence sees both, but alone it says little about a few dozen samples.
        """
        if np.isnan(self.divergence):
            return self.sqnr
        return (self.sqnr - 10 * float(np.log10(max(self.divergence, 1e-9)))) / 2

    def beats(self, other: Score, margin: float = 0.02) -> bool:
        """Whether this one is better: more dB, and no more answers lost than chance explains."""
        if not self.height > other.height + margin:
            return False
        worse = np.nan_to_num(other.agreement) - np.nan_to_num(self.agreement)
        return bool(worse <= 0.05 or self.height > other.height + 1.0)

    def __str__(self) -> str:
        text = f"{self.sqnr:.2f} dB"
        if not np.isnan(self.divergence):
            text += f" (divergence {self.divergence:.2g})"
        if not np.isnan(self.agreement):
            text += f", {100 * self.agreement:.1f} % same answers"
        return text


def sqnr(expected: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> float:
    """Signal to quantization noise in dB; 200 where nothing differs."""
    signal = sum(float(np.sum(np.square(e, dtype=np.float64))) for e in expected)
    noise = sum(float(np.sum(np.square(g - e.astype(np.float64)))) for e, g in zip(expected, got, strict=True))
    if noise <= 0 or signal <= 0:
        return 200.0 if noise <= 0 else -200.0
    return float(10 * np.log10(signal / noise))


def divergence(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Mean Kullback-Leibler divergence in nats of classes ``[n, classes]``, given as logits or as probabilities."""
    return max(0.0, float(divergences(expected, got).mean()))


def divergences(expected: NDArray[Any], got: NDArray[Any]) -> NDArray[np.float64]:
    """The same of each sample, ``[n]``."""

    def log_probabilities(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = x - x.max(axis=1, keepdims=True)
        return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))

    e, g = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    if e.min() >= 0 and np.allclose(e.sum(axis=1), 1, atol=1e-3):
        p, q = (np.log(np.maximum(x, 2.0**-10)) for x in (e, g))
    else:
        p, q = log_probabilities(e), log_probabilities(g)
    return np.asarray((np.exp(p) * (p - log_probabilities(q))).sum(axis=1))


def sample_heights(
    wanted: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]], *, classes: bool
) -> NDArray[np.float64]:
    """:attr:`Score.height` of each sample, ``[n]`` in dB, limited to what can be told apart (-40 to 80)."""
    count = len(wanted[0])
    rows = [(w.reshape(count, -1).astype(np.float64), g.reshape(count, -1)) for w, g in zip(wanted, got, strict=True)]
    signal = sum(np.square(w).sum(axis=1) for w, _ in rows)
    noise = sum(np.square(g - w).sum(axis=1) for w, g in rows)
    own = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))
    if classes:
        clear = divergences(*rows[0])
        own = (own - 10 * np.log10(np.maximum(clear, 1e-9))) / 2
    return np.asarray(np.clip(own, -40.0, 80.0))


def surely_better(gain: NDArray[np.float64], margin: float, sure: float = 2.0) -> bool:
    """Whether paired gains ``[n]`` in dB are more than ``margin`` and more than ``sure`` standard errors from none."""
    mean = float(gain.mean())
    error = float(gain.std(ddof=1)) / np.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return mean > margin and mean > sure * error


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """The samples.

    Attributes:
        target: Whose integers are compared.
        network: The float network as it was: its outputs are what is wanted.
        fit: Samples that repairs learn from, arrays ``[n, ...]`` by input name.
        held: Samples that decide whether a repair is kept.
        labels: Class of each held sample, or None.
        offset: First class in the output.
        classes: Whether the first output says how likely each class is.
        at_outputs: Judge at the outputs even behind a Softmax of powers of two: who may change the Softmax wants to see it.
    """

    target: Target
    network: Network
    fit: Arrays
    held: Arrays
    labels: NDArray[np.int64] | None = None
    offset: int = 0
    classes: bool = False
    at_outputs: bool = False

    @property
    def fitted(self) -> int:
        """Number of samples to learn from."""
        return len(next(iter(self.fit.values())))

    @cached_property
    def wanted(self) -> tuple[NDArray[Any], ...]:
        """Float outputs of the held samples."""
        return self._float(self.network, self.held)

    @cached_property
    def _coarse(self) -> bool:
        """Whether the target's Softmax is of powers of two: most of what it gives wrong is the rule's and nobody's else.

        Then repairs are judged by what goes into it, for at the outputs they would gain next to nothing.
        """
        return not self.at_outputs and self.target.op("Softmax").method == "q7"

    def _float(self, network: Network, arrays: Arrays) -> tuple[NDArray[Any], ...]:
        names = list(network.outputs)
        for i, name in enumerate(names if self._coarse else ()):
            node = network.value(name).producer()
            if node is not None and node.op_type == "Softmax" and node.inputs[0] is not None:
                names[i] = str(node.inputs[0].name)
        return run_float(network, names, arrays)

    def _integer(self, program: Program, arrays: Arrays) -> list[NDArray[np.float64]]:
        ends = [before_softmax(program, name) if self._coarse else name for name in program.outputs]
        return run_program(replace(program, outputs=tuple(ends)), self.network.inputs, arrays)

    def score(self, solution: Solution) -> Score:
        """The integer result on the held samples."""
        return self.score_program(solution.program(self.target))

    @cached_property
    def _trial(self) -> tuple[Arrays, tuple[NDArray[Any], ...]]:
        """Some of the samples to learn from, and the float outputs for them."""
        some = {name: x[:TRIAL] for name, x in self.fit.items()}
        return some, self._float(self.network, some)

    def trial(self, solution: Solution) -> float:
        """DB of the integer result on some of the samples to learn from: what a search may look at often."""
        some, wanted = self._trial
        got = self._integer(solution.program(self.target), some)
        return Score(sqnr=sqnr(wanted, got), divergence=self._divergence(wanted, got)).height

    def heights(self, solution: Solution) -> NDArray[np.float64]:
        """:attr:`Score.height` of each of those samples, so that two solutions can be compared sample by sample."""
        some, wanted = self._trial
        got = self._integer(solution.program(self.target), some)
        return sample_heights(wanted, got, classes=self.classes)

    def _divergence(self, wanted: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> float:
        if not self.classes:
            return float("nan")
        return divergence(wanted[0].reshape(len(wanted[0]), -1), got[0].reshape(len(got[0]), -1))

    def score_program(self, program: Program) -> Score:
        """As :meth:`score`, of a program."""
        return self._score(self._integer(program, self.held))

    def score_float(self, network: Network) -> Score:
        """What a rewritten network's float outputs lose against the original's."""
        return self._score(self._float(network, self.held))

    def _score(self, outputs: Sequence[NDArray[Any]]) -> Score:
        agreement = correct = float("nan")
        first = self.wanted[0].reshape(len(self.wanted[0]), -1)
        if first.shape[1] > 1:
            answers = outputs[0].reshape(len(first), -1)[:, self.offset :].argmax(1)
            agreement = float((answers == first[:, self.offset :].argmax(1)).mean())
            if self.labels is not None:
                correct = float((answers == self.labels).mean())
        return Score(
            sqnr=sqnr(self.wanted, outputs),
            agreement=agreement,
            correct=correct,
            divergence=self._divergence(self.wanted, outputs),
        )

    def observe(self, network: Network) -> Statistics:
        """Statistics of a network over all samples, those held included: ranges are no fit."""
        return observe(network, _Held(network, [self.fit, self.held]))

    def batches(self) -> Iterator[Arrays]:
        """The samples to learn from."""
        return in_batches(self.network, self.fit)


@dataclass(frozen=True)
class _Held:
    """Arrays as a source of batches."""

    network: Network
    parts: Sequence[Arrays]

    @property
    def fingerprint(self) -> str:
        return ""

    @property
    def length(self) -> int:
        return sum(len(next(iter(part.values()))) for part in self.parts)

    def batches(self, size: int = 16) -> Iterator[Batch]:
        done = 0
        for part in self.parts:
            for feeds in in_batches(self.network, part, size):
                count = len(next(iter(feeds.values())))
                indices = tuple(range(done, done + count))
                yield Batch(dict(feeds), None, indices, tuple(map(str, indices)))
                done += count


def in_batches(network: Network, arrays: Arrays, size: int = BATCH) -> Iterator[Arrays]:
    """``arrays`` piece by piece."""
    count = len(next(iter(arrays.values())))
    size = size if network.batchable else 1
    for start in range(0, count, size):
        yield {name: x[start : start + size] for name, x in arrays.items()}


def run_float(network: Network, tensors: Sequence[str], arrays: Arrays) -> tuple[NDArray[Any], ...]:
    """Values of ``tensors`` for all samples."""
    session = network.session(tensors)
    parts = [session.run(list(tensors), dict(feeds)) for feeds in in_batches(network, arrays)]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def quantized_inputs(program: Program, names: Sequence[str], arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The integers of the inputs."""
    return {
        buffer: quantize_input(arrays[name], program.buffers[buffer].format, program.input_rounding, name)
        for buffer, name in zip(program.inputs, names, strict=True)
    }


def run_program(program: Program, names: Sequence[str], arrays: Arrays) -> list[NDArray[np.float64]]:
    """Real outputs of the integer program for all samples."""
    engine = Engine(program)
    found = engine.run(quantized_inputs(program, names, arrays))
    return [program.buffers[name].format.dequantize(found[name]) for name in program.outputs]


def before_softmax(program: Program, output: str) -> str:
    """The buffer that a Softmax makes ``output`` from, or ``output`` itself if none does."""
    made = next((step for step in program.steps if output in step.outputs), None)
    if made is None or made.op != "Softmax":
        return output
    steps = [step for step in program.steps if step.layer == made.layer]
    inside = {name for step in steps for name in step.outputs}
    return next((name for step in steps for name in step.inputs if name not in inside), output)
