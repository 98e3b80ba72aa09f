"""A program of one layer, built without a network: formats and constants are said, not calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.arithmetic import Arithmetic
from bitwright.number.format import Format, Rounding
from bitwright.ops.operator import Input, Result, Site
from bitwright.ops.registry import operators
from bitwright.program.builder import Builder
from bitwright.program.program import Program
from bitwright.simulate.reference import run
from oracle import profile

HALF_UP = profile("pow2-halfup")


@dataclass(frozen=True)
class Rule:
    """What a target says about the operator."""

    method: str | None = None
    rounding: Rounding | None = None


@dataclass(frozen=True)
class Given:
    """An input that the network computes."""

    shape: tuple[int, ...]
    format: Format


def int8(scale: float, zero_point: int = 0) -> Format:
    return Format(8, True, np.asarray(scale), np.asarray(zero_point))


def layer(
    op: str,
    inputs: Sequence[Given | NDArray[Any] | None],
    *results: Given,
    arithmetic: Arithmetic = HALF_UP,
    method: str | None = None,
    rounding: Rounding | None = None,
    clamp: tuple[float, float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    **site: Any,
) -> Program:
    """The program of one layer; raises what lowering raises."""
    build = Builder("one", "none")
    build.enter("layer", op, ("layer",))
    given: list[Input] = [
        build.buffer(x.shape, x.format, tensor=f"in{i}") if isinstance(x, Given) else x for i, x in enumerate(inputs)
    ]
    names = [x.name for x in build.buffers.values()]
    outputs = operators()[op].lower(
        Site(
            layer="layer",
            op=op,
            attributes=attributes or {},
            inputs=tuple(given),
            outputs=tuple(Result(tensor=f"out{i}", shape=r.shape, format=r.format) for i, r in enumerate(results)),
            clamp=clamp,
            rule=Rule(method, rounding),
            arithmetic=arithmetic,
            **site,
        ),
        build,
    )
    return build.build(names, [b.name for b in outputs], batchable=True, input_rounding=Rounding.HALF_AWAY)


def codes(program: Program, seed: int, samples: int = 2) -> dict[str, NDArray[Any]]:
    """Random integers for every input, the ends of the format among them."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in program.inputs:
        buffer = program.buffers[name]
        values = rng.integers(buffer.format.lo, buffer.format.hi + 1, (samples, *buffer.shape[1:]))
        values.flat[0] = buffer.format.lo
        values.flat[-1] = buffer.format.hi
        made[name] = values.astype(buffer.format.dtype)
    return made


def outcome(program: Program, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The first output as int64, every buffer checked against its proven range."""
    values = run(program, inputs, keep=True)
    for name, value in values.items():
        buffer = program.buffers[name]
        assert buffer.lo <= value.min(), name
        assert value.max() <= buffer.hi, name
    result = values[program.outputs[0]]
    assert result.shape[1:] == program.buffers[program.outputs[0]].shape[1:]
    return result.astype(np.int64)
