"""Shape arithmetic, pads by rule, Reshape targets, and the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from bitwright.network.constants import free_target
from bitwright.network.load import load
from bitwright.network.padding import same_pads, transposed_pads
from bitwright.network.shapes import infer_shapes, reshape_target


@pytest.mark.parametrize(
    ("shape", "target", "allowzero", "want"),
    [
        ((2, 3, 4), [0, -1], 0, (2, 12)),
        ((2, 3, 4), [6, 0, 2], 0, None),
        ((2, 3, 4), [4, 0, 2], 0, (4, 3, 2)),
        ((2, 3, 4), [24], 0, (24,)),
        ((2, 3, 4), [-1, -1], 0, None),
        ((2, 3, 4), [5, -1], 0, None),
        ((2, 3), [0, 0, 0], 0, None),
        ((0, 3), [0, 5], 1, (0, 5)),
        ((1,), [], 0, ()),
        ((2,), [-2], 0, None),
    ],
)
def test_reshape_target(
    shape: tuple[int, ...], target: list[int], allowzero: int, want: tuple[int, ...] | None
) -> None:
    assert reshape_target(shape, np.asarray(target, np.int64), allowzero) == want


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_free_target_does_for_both_batches_what_was_asked(rest: list[int], random: object) -> None:
    count = int(np.prod(rest))
    inputs = ((1, *rest), (2, *rest))
    for outputs in (
        ((1, count), (2, count)),
        ((count,), (2 * count,)),
        ((rest[0], 1, count // rest[0]), (rest[0], 2, count // rest[0])),
    ):
        target = free_target(inputs, outputs)
        assert target is not None
        assert [reshape_target(x, target) for x in inputs] == list(outputs)
        assert reshape_target((5, *rest), target) is not None


def test_two_free_axes_cannot_be_told_apart() -> None:
    assert free_target(((2, 3), (4, 3)), ((1, 2, 1, 3), (2, 1, 2, 3))) is None


def test_same_pads() -> None:
    assert same_pads((7, 10), (3, 4), (2, 3), (1, 1), upper=True) == (1, 1, 1, 2)
    assert same_pads((7, 10), (3, 4), (2, 3), (1, 1), upper=False) == (1, 2, 1, 1)
    assert same_pads((4,), (1,), (2,), (1,), upper=True) == (0, 0)
    assert transposed_pads((1, 4), upper=True) == (0, 2, 1, 2)
    assert transposed_pads((1, 4), upper=False) == (1, 2, 0, 2)


def test_values_that_follow_from_shapes() -> None:
    net = load(zoo.shape_chain())
    found = infer_shapes(net.model, {"x": (7, 3, 4, 4)})
    chain = next(n for n in net.nodes() if n.op_type == "Concat")
    np.testing.assert_array_equal(found.values[chain.outputs[0].name], [7, -1, 4])
    reshape = next(n for n in net.nodes() if n.op_type == "Reshape")
    assert found.shapes[reshape.outputs[0].name] == (7, 16, 4)
    assert found.shapes[net.outputs[0]] == (7, 16, 5)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_shapes_are_those_of_onnx_runtime(name: str) -> None:
    model = zoo.ZOO[name]()
    net = load(model)
    tensors = [v.name for n in net.nodes() for v in n.outputs]
    session = net.session(tensors, optimize=False)
    for tensor, value in zip(tensors, session.run(tensors, zoo.feeds(model)), strict=True):
        assert net.shape(tensor) == value.shape
        assert net.dtype(tensor) == value.dtype
