"""The same checks on every declared operator: adding one without a case, or without a name for targets, fails here."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

from bitwright.ops.operator import NoIntegerForm
from bitwright.ops.registry import FAMILIES, operators
from bitwright.targets.rules import METHODS, OPERATORS
from one_layer import Given, int8, layer
from operator_cases import CASES

PATTERNS = {"SiLU"}  # names of grouped nodes, not of ONNX


def test_every_operator_has_a_case_and_every_case_an_operator() -> None:
    assert set(CASES) == set(operators())


@pytest.mark.parametrize("op", operators())
def test_a_case_is_a_valid_network_with_that_operator(op: str) -> None:
    for seed in range(5):
        case = CASES[op](random.Random(seed))
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(case.model))
        assert op in {node.op_type for node in case.model.graph.node} or (op in PATTERNS and case.pattern)
        assert all(np.isfinite(x).all() and len(x) == 2 for x in case.feeds.values())


@pytest.mark.parametrize("op", operators())
def test_target_files_can_name_it(op: str) -> None:
    assert op in OPERATORS


@pytest.mark.parametrize("op", sorted(set(operators()) - PATTERNS))
def test_it_is_an_onnx_operator(op: str) -> None:
    assert onnx.defs.has(op)


@pytest.mark.parametrize("op", METHODS)
def test_methods_are_for_operators_that_exist(op: str) -> None:
    assert op in operators()


@pytest.mark.parametrize("operator", [o for f in FAMILIES for o in f.OPERATORS], ids=lambda o: o.types[0])
def test_the_declaration_is_complete(operator: object) -> None:
    assert operator.types  # type: ignore[attr-defined]
    assert operator.summary  # type: ignore[attr-defined]
    assert not operator.summary.endswith(".")  # type: ignore[attr-defined]
    assert operator.lower.__doc__  # type: ignore[attr-defined]


def numbers_of_inputs(op: str) -> list[int]:
    if op in PATTERNS:
        return [1]
    schema = onnx.defs.get_schema(op)
    return [n for n in (1, 2, 3) if schema.min_input <= n <= schema.max_input]


@pytest.mark.parametrize(("op", "constants"), [(op, n) for op in operators() for n in numbers_of_inputs(op)])
def test_inputs_that_the_network_does_not_compute_are_refused_in_words(op: str, constants: int) -> None:
    attributes = {"axis": 1, "kernel_shape": [1], "size": 1, "blocksize": 1}
    with pytest.raises(NoIntegerForm) as refused:
        layer(op, [np.ones((1, 2))] * constants, Given((1, 2), int8(1.0)), weight=int8(1.0), attributes=attributes)
    assert len(str(refused.value)) > 10
