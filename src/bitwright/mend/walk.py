"""Running an integer program layer by layer, so that a layer can be changed before the next one is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from bitwright.program.program import Program, Step
from bitwright.simulate.engine import Engine

Values = dict[str, NDArray[Any]]


def piece(program: Program, steps: Sequence[Step], outputs: Sequence[str]) -> Program:
    """The program of some consecutive steps."""
    made = {name for step in steps for name in step.outputs}
    inputs = tuple(dict.fromkeys(n for step in steps for n in step.inputs if n not in made))
    return replace(program, steps=tuple(steps), inputs=inputs, outputs=tuple(outputs))


def layers(program: Program) -> list[tuple[str, list[Step]]]:
    """The steps of each layer, in order."""
    found: list[tuple[str, list[Step]]] = []
    for step in program.steps:
        if found and found[-1][0] == step.layer:
            found[-1][1].append(step)
        else:
            found.append((step.layer, [step]))
    return found


def advance(program: Program, steps: Sequence[Step], values: Mapping[str, NDArray[Any]]) -> Values:
    """Run the steps of one layer; gives what they make, for whoever reads it later."""
    made = [name for step in steps for name in step.outputs]
    part = piece(program, steps, made)
    return dict(Engine(part).run({name: values[name] for name in part.inputs}))


def still_needed(program: Program, done: int, values: Values) -> Values:
    """``values`` without buffers that no step from ``done`` on reads."""
    later = {name for step in program.steps[done:] for name in step.inputs} | set(program.outputs)
    return {name: value for name, value in values.items() if name in later}
