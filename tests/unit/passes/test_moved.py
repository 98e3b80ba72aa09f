"""What passes write down of the outputs that they move."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from bitwright.network.load import load
from bitwright.passes.moved import KEY, Moved, between, read, record
from bitwright.passes.prepare import prepare


def test_moves_follow_one_another() -> None:
    y = np.array([1.0, -2.0, 3.0])
    first = Moved(np.array([2.0, 0.5, 0.0]), np.array([1.0, 0.0, 7.0]))
    both = first.then(np.array([3.0, 3.0, 3.0]), np.array([0.0, 1.0, 1.0]))
    once = first.scale * y + first.shift
    twice = 3.0 * once + np.array([0.0, 1.0, 1.0])
    assert np.allclose(both.scale * y + both.shift, twice)
    later = both.since(first)
    assert np.allclose((later.scale * once + later.shift)[:2], twice[:2])
    assert later.scale[2] == 0.0
    assert later.shift[2] == both.shift[2]  # lost in the first move: what it is now is all that is known


def test_written_on_nodes() -> None:
    g = zoo.Graph("moved")
    net = prepare(load(g.build(g.relu(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 4))), name="moved"))[0]
    old = net.clone()
    (node,), (start,) = ([n for n in one.nodes() if n.op_type == "Conv"] for one in (net, old))
    none = between(start, node, 4)
    assert none is not None
    assert (none.scale == 1).all()
    assert (none.shift == 0).all()
    record(node, np.array([2.0, 1.0, 0.5, 0.1]), np.zeros(4))
    record(node, np.ones(4), np.full(4, -0.3))
    copied = next(n for n in net.clone().nodes() if n.op_type == "Conv")
    for one in (node, copied):
        found = between(start, one, 4)
        assert found is not None
        assert list(found.scale) == [2.0, 1.0, 0.5, 0.1]
        assert list(found.shift) == [-0.3] * 4
    assert read(node, 5) is None  # channels were added since


@pytest.mark.parametrize("text", ["", "[[1], [2", "[1, 2]", "[[1, 2]]", '[["a"], ["b"]]', "[[NaN], [0]]", "[" * 100000])
def test_nonsense_is_no_knowledge(text: str) -> None:
    g = zoo.Graph("moved")
    net = prepare(load(g.build(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 1)), name="moved"))[0]
    node = next(n for n in net.nodes() if n.op_type == "Conv")
    node.metadata_props[KEY] = text
    assert read(node, 1) is None
    record(node, np.ones(1), np.ones(1))
    assert node.metadata_props[KEY] == text
