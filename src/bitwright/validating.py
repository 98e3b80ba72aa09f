"""Validation: the float network and the integer program over the same samples, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bitwright.errors import Mismatch, printable
from bitwright.model import open_samples
from bitwright.progress import with_notebook_bar

if TYPE_CHECKING:
    from bitwright.boards.board import Session
    from bitwright.metrics.validation import Validation
    from bitwright.quantized import Quantized

Progress = Callable[[int, int | None, str], None]
CHECKED_SAMPLES = 2
VALIDATION_BATCH = 16
SHOWN_ISLANDS = 3


@with_notebook_bar("Validating")
def validate(
    quantized: Any,
    data: Any,
    metric: Any = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    decode: Any = None,
    board: str | None = None,
    core: str | None = None,
    config: str | None = None,
    port: str | None = None,
    strict_timing: bool = False,
    patches: str | None = None,
    compiler: str | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Run the float network and the integer program over the same samples and compare them.

    The first samples are also run through the reference simulator, and every integer of every buffer is compared.  Who
    interrupts it gets what was measured so far, marked ``partial``.

    Args:
        quantized: A quantized network or its ``.bw`` file.
        data: Samples, with labels where the metric needs them.
        metric: A name, ``module:function``, or None for the task's own.
        samples: Use so many.
        seed: See :func:`calibrate`.
        skip_bad: Leave out samples that cannot be read.
        decode: The decode function of a detector.
        board: Compute the integers on this board instead of in the simulator; every output of every sample is compared
            with the simulator's.
        core: See :func:`deploy`.
        config: See :func:`deploy`.
        port: See :func:`deploy`.
        strict_timing: See :func:`deploy`.
        patches: See :func:`deploy`.
        compiler: See :func:`deploy`.
        progress: Called with (samples done, samples in all or None, what is going on).

    Raises:
        NoData: if there are no samples, or no labels where the metric needs them.
        Mismatch: if the fast engine and the reference differ, or the board and the engine: a bug of ours.
        UnknownTarget: if there is no such board.
        ToolMissing: if the board needs a compiler or an emulator that is not installed.
        DoesNotFit: if the board has too little memory.
    """
    options = {"core": core, "config": config, "port": port, "strict_timing": strict_timing, "patches": patches,
               "compiler": compiler}  # fmt: skip
    with _machine(quantized, board, options, progress) as machine:
        return _validated(
            machine, data, metric, samples=samples, seed=seed, skip_bad=skip_bad, decode=decode, progress=progress
        )


@dataclass
class _Machine:
    """What computes the integers: the simulator, or a board that is compared with it."""

    q: Quantized
    session: Session | None = None
    board: str = ""
    checked: int = 0

    @property
    def name(self) -> str:
        """For the report."""
        return f"{self.board} ({self.session.toolchain})" if self.session else self.q.engine.name

    def run(self, inputs: Mapping[str, Any], timer: _Timer) -> dict[str, Any]:
        """The integers of the outputs.

        Raises:
            Mismatch: if the board computes others than the simulator.
        """
        import numpy as np

        if self.session is None:
            with timer.of("quantized"):
                return dict(self.q.engine.run(inputs))
        with timer.of("quantized"):
            got = self.session.run(inputs)
        want = self.q.engine.run(inputs)
        for name in self.q.program.outputs:
            wrong = np.argwhere(want[name] != got[name])
            if len(wrong):
                place = tuple(int(v) for v in wrong[0])
                raise Mismatch(
                    f"{self.board} and the simulator differ in {len(wrong)} integers of output '{printable(name)}', first "
                    f"at {list(place)}: {int(got[name][place])} instead of {int(want[name][place])}. `bitwright deploy` "
                    "says in which step. Please report it.",
                    tensor=name,
                    index=place,
                    expected=int(want[name][place]),
                    got=int(got[name][place]),
                )
            self.checked += want[name].size
        return got


@contextmanager
def _machine(
    quantized: Any, board: str | None, options: Mapping[str, Any], progress: Progress | None
) -> Iterator[_Machine]:
    from bitwright.quantized import open_quantized

    q = open_quantized(quantized)
    if board is None:
        yield _Machine(q)
        return
    from bitwright.boards.registry import find_board
    from bitwright.deploying import job_of

    found = find_board(board)
    with found.session(job_of(q, **options, progress=progress)) as session:
        yield _Machine(q, session, found.name)


def _validated(
    machine: _Machine,
    data: Any,
    metric: Any,
    *,
    samples: int | None,
    seed: int | None,
    skip_bad: bool,
    decode: Any,
    progress: Progress | None,
) -> Validation:
    import numpy as np

    from bitwright.metrics.choose import metric_for
    from bitwright.metrics.comparison import Comparison
    from bitwright.metrics.validation import Pair, Seconds

    q = machine.q
    program, net, contract = q.program, q.network, q.contract
    source = open_samples(net, contract, data, samples=samples, seed=seed, skip_bad=skip_bad)
    timer = _Timer()
    batches = iter(source.batches(VALIDATION_BATCH))
    # A stream shows only in its first batch whether it has labels; nothing is computed before the metric is known.
    with timer.of("data"):
        batch = next(batches, None)
    labelled = source.source.labelled
    if labelled is None:
        labelled = batch is not None and batch.y is not None
    last = program.buffers[program.outputs[0]].format
    comparison = Comparison(
        lambda: metric_for(metric, contract, labelled=labelled, outputs=net.outputs, decode=decode),
        contract,
        highest=float(np.max(last.real_range[1])),
    )
    session = net.session()
    checked = mismatches = done = 0
    partial = False
    while batch is not None:
        arrays = batch.x if isinstance(batch.x, dict) else {net.inputs[0]: batch.x}
        try:
            with timer.of("float"):
                floats = session.run(list(net.outputs), arrays)
            if done == 0:
                if progress is not None:
                    progress(0, source.length, "comparing with the reference")
                # This also warms the engine up, so that building it is not counted as running it.
                few = {name: x[:CHECKED_SAMPLES] for name, x in arrays.items()}
                agreement = q.check(few)
                agreement.require(f"The engine ({q.engine.name})")
                checked, mismatches = agreement.values_checked, agreement.mismatches
                q.engine.run(q.integers({name: x[:1] for name, x in arrays.items()}))
            with timer.of("quantized"):
                integers = q.integers(arrays)
            outputs = q.reals(machine.run(integers, timer))
        except KeyboardInterrupt:
            if done == 0:
                raise  # there is nothing to keep
            partial = True
            break
        comparison.update(
            [np.asarray(f) for f in floats],
            [o.astype(np.float32) for o in outputs],
            batch.y if labelled else None,
            inputs=arrays[net.inputs[0]],
        )
        done += len(batch)
        try:
            if progress is not None:
                progress(done, source.length, f"on {machine.board}" if machine.board else "validating")
            with timer.of("data"):
                batch = next(batches, None)
        except KeyboardInterrupt:
            partial = True
            break
    in_all = f" of {source.length:,}" if source.length is not None else ""
    cut = (f"Interrupted: these are the first {done:,}{in_all} samples.",) if partial else ()
    found = comparison.validation(
        learnable_bytes=Pair(q.learnable_float_bytes, program.learnable_bytes),
        integer_mac_share=program.integer_mac_share,
        engine=machine.name,
        values_checked=checked + machine.checked,
        mismatches=mismatches,
        seconds=Seconds(**timer.spent),
        target=program.target,
        remedy=remedy(q),
        notes=(*cut, *source.notes, *island_notes(q)),
    )
    return replace(found, partial=partial)


class _Timer:
    """Adds up wall time under a few names."""

    def __init__(self) -> None:
        self.spent = {"float": 0.0, "quantized": 0.0, "data": 0.0}

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Count the time of the block as ``what``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] += time.perf_counter() - start


def remedy(quantized: Quantized) -> str:
    """What a network that collapses on its target needs."""
    if any(learnable.format.axis is not None for learnable in quantized.program.learnables):
        return "formats that clip less or more (another --scheme), or more bits"
    return "per-channel weights (--target generic or cpu has them) or equalization"


def island_notes(quantized: Quantized) -> tuple[str, ...]:
    """A sentence about the layers that run in float, for every report; empty if there are none."""
    from bitwright.program.forms import Island

    layers = [step.layer for step in quantized.program.steps if isinstance(step.form, Island)]
    if not layers:
        return ()
    share = 1.0 - quantized.program.integer_mac_share
    shown = ", ".join(f"'{printable(name, 40)}'" for name in layers[:SHOWN_ISLANDS])
    more = f" and {len(layers) - SHOWN_ISLANDS} more" if len(layers) > SHOWN_ISLANDS else ""
    noun = "One piece of the network runs" if len(layers) == 1 else f"{len(layers)} pieces of the network run"
    macs = f"{100 * share:.1f} % of the multiply-accumulates"
    return (f"{noun} in float ({macs}), from {shown}{more}: `bitwright details` has the reasons.",)
