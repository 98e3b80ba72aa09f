"""The fast engine: a program as ONNX Runtime sessions, exact by construction and checked against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import Mismatch
from bitwright.program.forms import Contract, Island, Map
from bitwright.program.program import Program, Step
from bitwright.simulate import reference
from bitwright.simulate.compiled import run_elementwise, run_epilogue
from bitwright.simulate.emit import CannotEmit, NeedsKernel
from bitwright.simulate.fast import FastEmitter
from bitwright.simulate.floors import floored_session
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.probe import int8_convolution_is_exact

if TYPE_CHECKING:
    import onnxruntime

Values = NDArray[np.integer[Any]]


class Place(Enum):
    """Where a step runs."""

    GRAPH = "in a session with its neighbors"
    KERNEL = "in a compiled kernel, at the end of a session if it accumulates"
    APART = "by itself: the reference, or a float island"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive steps that go the same way.

    Attributes:
        steps: The steps.
        ways: Step name → way.
        feeds: Buffers it needs from before.
        fetches: Buffers that are needed after it.
        session: The ONNX Runtime session, or None for a step that runs in the reference.
        runtime_inputs: Tensor names of the session's inputs, in the order of ``feeds``.
        runtime_outputs: Tensor names of its outputs, in the order of ``fetches``.
        kernel: The last step, where a compiled kernel finishes what the session accumulated, or None.
    """

    steps: tuple[Step, ...]
    ways: Mapping[str, str]
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    session: onnxruntime.InferenceSession | None
    runtime_inputs: tuple[str, ...] = ()
    runtime_outputs: tuple[str, ...] = ()
    kernel: Step | None = None


class Engine:
    """Runs a program fast, with the reference's integers.

    Args:
        program: The program.
        keep: Give every buffer, not only the outputs; slower.
        int8: Use int8 instructions; None asks the machine whether they are exact.
        threads: Threads of ONNX Runtime; None leaves it to it.
    """

    def __init__(
        self, program: Program, *, keep: bool = False, int8: bool | None = None, threads: int | None = None
    ) -> None:
        self.program, self.keep, self.threads = program, keep, threads
        self.int8 = int8_convolution_is_exact() if int8 is None else int8

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The program cut where a step must run apart, and after each step that ends in a compiled kernel."""
        cuts: list[tuple[Place, list[Step]]] = []
        for step in self.program.steps:
            place = self._place(step)
            open_graph = bool(cuts) and cuts[-1][0] is Place.GRAPH
            if open_graph and (place is Place.GRAPH or (place is Place.KERNEL and isinstance(step.form, Contract))):
                cuts[-1] = (place, [*cuts[-1][1], step])
            else:
                cuts.append((place, [step]))
        built: list[Segment] = []
        for i, (place, steps) in enumerate(cuts):
            later = {name for _, rest in cuts[i + 1 :] for step in rest for name in step.inputs}
            made = [name for step in steps for name in step.outputs]
            fetches = tuple(n for n in made if self.keep or n in later or n in self.program.outputs)
            feeds = tuple(dict.fromkeys(n for step in steps for n in step.inputs if n not in made))
            last = steps[-1] if place is Place.KERNEL else None
            apart = place is Place.APART or (last is not None and isinstance(last.form, Map))
            built.append(
                self._apart(steps, feeds, fetches, last) if apart else self._segment(steps, feeds, fetches, last)
            )
        return tuple(built)

    def _place(self, step: Step) -> Place:
        """Where a step runs, found by writing it into a graph that is thrown away."""
        if isinstance(step.form, Island):
            return Place.APART
        try:
            self._write(step, kernels=True)
        except NeedsKernel:
            if isinstance(step.form, Map):
                return Place.KERNEL
            try:
                self._write(step, kernels=False, accumulator_only=True)
            except CannotEmit:
                return Place.APART
            return Place.KERNEL
        except CannotEmit:
            return Place.APART
        return Place.GRAPH

    def _write(self, step: Step, *, kernels: bool, accumulator_only: bool = False) -> None:
        emitter = FastEmitter(self.program, GraphWriter(), int8=self.int8, kernels=kernels)
        for i, name in enumerate(step.inputs):
            emitter.feed(name, f"in{i}")
        if accumulator_only and isinstance(step.form, Contract):
            emitter.accumulator(step, step.form)
        else:
            emitter.step(step)

    @staticmethod
    def _apart(steps: Sequence[Step], feeds: tuple[str, ...], fetches: tuple[str, ...], kernel: Step | None) -> Segment:
        way = "reference" if kernel is None else "compiled"
        ways = {s.name: "island" if isinstance(s.form, Island) else way for s in steps}
        return Segment(steps=tuple(steps), ways=ways, feeds=feeds, fetches=fetches, session=None, kernel=kernel)

    def _segment(
        self, steps: Sequence[Step], feeds: tuple[str, ...], fetches: tuple[str, ...], kernel: Step | None
    ) -> Segment:
        # Without int8 instructions convolutions are float32, and their roundings slow them down; see floors.py.
        late = not self.int8
        made = self._built(steps, feeds, fetches, kernel, late_floors=late)
        if made is None:
            made = self._built(steps, feeds, fetches, kernel, late_floors=False)
        assert made is not None  # a graph that is whole always has a session
        return made

    def _built(
        self,
        steps: Sequence[Step],
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        kernel: Step | None,
        *,
        late_floors: bool,
    ) -> Segment | None:
        """The segment as a session; None if floors were to be put in late, and that did not work."""
        graph = GraphWriter()
        emitter = FastEmitter(self.program, graph, int8=self.int8, kernels=True, late_floors=late_floors)
        inputs = []
        for i, name in enumerate(feeds):
            dtype = np.dtype(np.uint8) if emitter.narrow(name) else np.dtype(np.int64)
            inputs.append((f"in{i}", dtype, self._shape(name)))
            emitter.feed(name, f"in{i}")
        ways = {step.name: emitter.step(step) for step in steps if step is not kernel}
        outputs = []
        if kernel is not None and isinstance(kernel.form, Contract):
            acc, kind = emitter.accumulator(kernel, kernel.form)
            graph.node("Identity", acc, outputs=["acc"])
            outputs.append(("acc", kind, self._shape(kernel.outputs[0])))
            ways[kernel.name] = "onnx-float32 + compiled"
            fetches = tuple(n for n in fetches if n not in kernel.outputs)
        for i, name in enumerate(fetches):
            tensor, dtype = emitter.fetch(name)
            graph.node("Identity", tensor, outputs=[f"out{i}"])
            outputs.append((f"out{i}", dtype, self._shape(name)))
        model = graph.model(inputs, outputs, contrib=True)
        session = self._session(model, emitter.floors)
        if session is None:
            return None
        return Segment(
            steps=tuple(steps),
            ways=ways,
            feeds=feeds,
            fetches=fetches,
            session=session,
            runtime_inputs=tuple(i[0] for i in inputs),
            runtime_outputs=tuple(o[0] for o in outputs if o[0] != "acc"),
            kernel=kernel,
        )

    def _session(self, model: bytes, floors: int) -> onnxruntime.InferenceSession | None:
        import onnxruntime

        if floors:
            return floored_session(model, floors, self.threads)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _shape(self, name: str) -> list[int | str]:
        shape: list[int | str] = list(self.program.buffers[name].shape)
        if self.program.batchable and shape:
            shape[0] = "N"
        return shape

    @property
    def ways(self) -> dict[str, str]:
        """Step name → the way it takes: onnx-int8, onnx-float32, …, reference or island."""
        return {name: way for segment in self.segments for name, way in segment.ways.items()}

    @property
    def name(self) -> str:
        """The way most multiply-accumulates go."""
        share: dict[str, int] = {}
        ways = self.ways
        for step in self.program.steps:
            share[ways[step.name]] = share.get(ways[step.name], 0) + self.program.macs.get(step.layer, 0) + 1
        return max(share, key=lambda way: share[way]) if share else "reference"

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        """Run the program on integers ``[n, ...]``; see :func:`bitwright.simulate.reference.run`."""
        count = len(next(iter(inputs.values()))) if inputs else 1
        if count == 0:
            wanted = [self.program.buffers[n] for n in (self.program.buffers if self.keep else self.program.outputs)]
            return {b.name: np.empty((0, *b.shape[1:]), b.format.dtype) for b in wanted}
        if self.program.batchable or not inputs:
            return self._run(inputs)
        parts = [self._run({name: x[i : i + 1] for name, x in inputs.items()}) for i in range(count)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        program = self.program
        values: dict[str, Values] = {name: np.asarray(inputs[name]) for name in program.inputs}
        wanted = set(self.program.buffers) if self.keep else set(self.program.outputs)
        for i, segment in enumerate(self.segments):
            if segment.session is None:
                for step in segment.steps:
                    inputs_of = [values[n] for n in step.inputs]
                    results = (
                        [self._map(step, inputs_of)] if segment.kernel else reference.run_step(program, step, inputs_of)
                    )
                    values |= dict(zip(step.outputs, results, strict=True))
            else:
                names = zip(segment.runtime_inputs, segment.feeds, strict=True)
                fed = {tensor: self._to_runtime(n, values[n]) for tensor, n in names}
                wanted_now = [*segment.runtime_outputs, *(["acc"] if segment.kernel else [])]
                results = segment.session.run(wanted_now, fed)
                if segment.kernel is not None:
                    values[segment.kernel.outputs[0]] = self._finish(segment.kernel, results.pop())
                values |= {n: self._from_runtime(n, r) for n, r in zip(segment.fetches, results, strict=True)}
            needed = {n for later in self.segments[i + 1 :] for n in later.feeds} | wanted
            values = {n: v for n, v in values.items() if n in needed}
        return values

    def _finish(self, step: Step, acc: NDArray[Any]) -> Values:
        """The compiled epilogue of accumulators."""
        assert isinstance(step.form, Contract)
        epilogue = step.form.epilogue
        params = {k: self.program.tensors[t].astype(np.int64) for k, t in epilogue.params.items()}
        return run_epilogue(epilogue.expr, params, acc, self.program.buffers[step.outputs[0]].format.dtype)

    def _map(self, step: Step, inputs: Sequence[Values]) -> Values:
        """A compiled elementwise step."""
        assert isinstance(step.form, Map)
        params = {k: self.program.tensors[t].astype(np.int64) for k, t in step.form.params.items()}
        return run_elementwise(step.form.expr, params, inputs, self.program.buffers[step.outputs[0]].format.dtype)

    def _to_runtime(self, name: str, value: Values) -> NDArray[Any]:
        format = self.program.buffers[name].format
        if format.bits > 8:
            return value.astype(np.int64)
        if format.lo == -128 and value.dtype == np.int8:
            return np.ascontiguousarray(value).view(np.uint8) ^ np.uint8(128)  # adds 128 without widening
        return (value.astype(np.int16) - format.lo).astype(np.uint8)

    def _from_runtime(self, name: str, value: NDArray[Any]) -> Values:
        format = self.program.buffers[name].format
        if format.bits > 8:
            return value.astype(format.dtype)
        if format.lo == -128:
            return (value ^ np.uint8(128)).view(np.int8)
        return (value.astype(np.int16) + format.lo).astype(format.dtype)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two runs of one program compare.

    Attributes:
        values_checked: Integers compared.
        mismatches: How many differ.
        first: The first difference as (buffer, index, expected, got), or None.
    """

    values_checked: int
    mismatches: int
    first: tuple[str, tuple[int, ...], int, int] | None = None

    def require(self, back_end: str) -> None:
        """Raise unless all integers are equal.

        Raises:
            Mismatch: naming the first integer that differs.
        """
        if self.first is not None:
            tensor, index, expected, got = self.first
            raise Mismatch(
                f"{back_end} and the reference differ in {self.mismatches} of {self.values_checked} integers, first in "
                f"'{tensor}' at {index}: {got} instead of {expected}. This is a bug in bitwright: please report it with "
                "the network.",
                tensor=tensor,
                index=index,
                expected=expected,
                got=got,
            )


def compare(program: Program, inputs: Mapping[str, Values], got: Mapping[str, Values]) -> Agreement:
    """Compare buffers ``got`` with what the reference computes from ``inputs``, in order of execution."""
    expected = reference.run(program, inputs, keep=True)
    checked = wrong = 0
    first = None
    for name in expected:
        if name not in got or name in program.inputs:
            continue
        differs = expected[name] != got[name]
        checked += differs.size
        count = int(np.count_nonzero(differs))
        if count and first is None:
            index = tuple(int(i) for i in np.argwhere(differs)[0])
            first = (name, index, int(expected[name][index]), int(got[name][index]))
        wrong += count
    return Agreement(values_checked=checked, mismatches=wrong, first=first)
