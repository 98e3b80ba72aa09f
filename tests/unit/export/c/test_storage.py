from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.export.c.layout import choose_layouts
from bitwright.export.c.moves import address
from bitwright.export.c.storage import Storage, View, share
from bitwright.program.forms import Reshape
from bitwright.program.program import Buffer, Program
from unit.export.c.programs import Net


def shared(program: Program, *, in_place: bool = True) -> Storage:
    return share(program, choose_layouts(program), in_place=in_place)


@given(
    st.integers(0, 5), st.integers(1, 6), st.integers(0, 4), st.integers(0, 30), st.integers(1, 6), st.integers(0, 40)
)
def test_a_view_of_a_view_is_where_both_say(
    offset: int, run: int, gap: int, start: int, inner: int, pitch: int
) -> None:
    outer = View("root", offset, run, run + gap)
    found = outer.within(start, inner, max(pitch, inner))
    places = np.arange(4 * inner)
    positions = start + address(View("", 0, inner, max(pitch, inner)), places)
    want = offset + address(outer, positions)
    if found is not None:
        np.testing.assert_array_equal(found.offset + address(found, places), want)


def test_branches_are_written_where_the_concatenation_wants_them() -> None:
    net = Net()
    x = net.input(1, 3, 4, 4)
    a, b = net.conv(x, 4, layer="a"), net.conv(x, 6, layer="b")
    whole = net.join(a, b)
    program = net.program(net.conv(whole, 2))
    storage = shared(program)
    assert storage.views[a.name] == View(whole.name, 0, 4, 10)
    assert storage.views[b.name] == View(whole.name, 4, 6, 10)
    assert program.steps[2].name in storage.elided
    assert storage.roots[whole.name].first == 0


def test_concatenations_in_concatenations() -> None:
    net = Net()
    x = net.input(1, 3, 2, 2)
    inner = net.join(net.conv(x, 4), net.conv(x, 2))
    outer = net.join(net.conv(x, 5), inner)
    storage = shared(net.program(net.conv(outer, 2)))
    assert storage.views[inner.name] == View(outer.name, 5, 6, 11)
    parts = [view for name, view in storage.views.items() if view.root == outer.name and view.run in {4, 2}]
    assert parts == [View(outer.name, 5, 4, 11), View(outer.name, 9, 2, 11)]
    assert len(storage.elided) == 2


def test_one_buffer_in_two_concatenations_is_placed_once() -> None:
    net = Net()
    x = net.input(1, 3, 2, 2)
    a, b = net.conv(x, 4), net.conv(x, 2)
    first, second = net.join(a, b), net.join(b, a)
    storage = shared(net.program(net.conv(first, 2), net.conv(second, 2)))
    assert storage.views[a.name].root == storage.views[b.name].root == second.name
    assert len(storage.elided) == 1


def test_the_network_input_is_never_written() -> None:
    net = Net()
    x = net.input(1, 3, 2, 2)
    y = net.table(x)
    joined = net.join(x, net.conv(x, 2))
    storage = shared(net.program(y, joined))
    assert storage.roots[storage.views[x.name].root].kind == "input"
    assert storage.views[y.name].root != storage.views[x.name].root
    assert storage.views[joined.name].root != storage.views[x.name].root


def test_elementwise_work_is_done_in_place_when_nobody_needs_the_input() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 2, 2), 4)
    y = net.table(x)
    program = net.program(net.conv(y, 2))
    assert shared(program).views[y.name] == shared(program).views[x.name]
    assert shared(program, in_place=False).views[y.name] != shared(program, in_place=False).views[x.name]


@pytest.mark.parametrize("reader", ["later", "alias", "output"])
def test_but_not_over_what_is_needed(reader: str) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 2, 2), 4)
    extra: list[Buffer] = []
    kept = net.move(x, Reshape((1, 2, 2, 2, 2))) if reader == "alias" else x
    y = net.table(x)
    if reader == "output":
        extra = [x]
    elif reader == "later":
        extra = [net.add(net.conv(y, 4), x)]
    else:
        extra = [kept]
    storage = shared(net.program(net.conv(y, 2), *extra))
    assert storage.views[y.name].root != storage.views[x.name].root


def test_a_slice_of_channels_is_a_view() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 2, 2), 6)
    low, odd = net.take(x, 1, range(2, 5)), net.take(x, 1, (1, 3, 5))
    storage = shared(net.program(net.conv(low, 2), net.conv(odd, 2)))
    assert storage.views[low.name] == View(x.name, 2, 3, 6)
    assert storage.views[odd.name].root == odd.name
