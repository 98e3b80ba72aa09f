from __future__ import annotations

import numpy as np
import pytest

from bitwright.export.c.layout import Layout, channels_last, choose_layouts, plain_order
from bitwright.program.forms import Reshape, Transpose
from unit.export.c.programs import Net


def test_stored_and_restored_are_inverse() -> None:
    layout = Layout((1, 3, 4, 5), (0, 2, 3, 1))
    values = np.arange(60).reshape(1, 3, 4, 5)
    flat = layout.stored(values)
    assert flat[:3].tolist() == [0, 20, 40]
    np.testing.assert_array_equal(layout.restored(flat), values)
    assert layout.strides == (60, 1, 15, 3)


def test_a_scrambled_layout_has_no_strides() -> None:
    layout = Layout((1, 3), None, np.array([2, 0, 1]))
    with pytest.raises(ValueError, match="no strides"):
        _ = layout.strides
    assert layout.stored(np.array([[5, 6, 7]])).tolist() == [7, 5, 6]


def test_convolutions_and_what_is_around_them_lie_channels_last() -> None:
    net = Net()
    x = net.input(1, 3, 4, 4)
    y = net.add(net.conv(x, 4, 3, pad=1), net.table(net.conv(x, 4)))
    chosen = choose_layouts(net.program(y))
    assert {layout.order for layout in chosen.values()} == {channels_last(4)}


def test_a_transposition_from_pixels_to_planes_moves_nothing() -> None:
    net = Net()
    pixels = net.input(1, 4, 5, 3)
    planes = net.move(pixels, Transpose((0, 3, 1, 2)))
    chosen = choose_layouts(net.program(net.conv(planes, 2)))
    assert chosen[pixels.name].order == plain_order(4)
    assert chosen[planes.name].order == channels_last(4)


def test_the_input_of_a_dense_layer_takes_the_order_of_the_pixels() -> None:
    net = Net()
    y = net.conv(net.input(1, 3, 4, 5), 6)
    flat = net.move(y, Reshape((1, 120)))
    squashed = net.table(flat)
    chosen = choose_layouts(net.program(net.conv(squashed, 7, axes=0)))
    for name in (flat.name, squashed.name):
        assert chosen[name].order is None
        np.testing.assert_array_equal(chosen[name].positions, chosen[y.name].positions)


def test_a_flat_output_keeps_the_order_of_the_network() -> None:
    net = Net()
    flat = net.move(net.conv(net.input(1, 3, 4, 5), 6), Reshape((1, 120)))
    assert choose_layouts(net.program(flat))[flat.name].order == plain_order(2)


def test_tokens_keep_their_order_around_a_dense_layer_along_the_last_axis() -> None:
    net = Net()
    tokens = net.input(1, 6, 8)
    turned = net.move(tokens, Transpose((0, 2, 1)))
    back = net.move(net.conv(turned, 5, axes=1), Transpose((0, 2, 1)))
    chosen = choose_layouts(net.program(back))
    assert chosen[tokens.name].order == chosen[back.name].order == plain_order(3)
