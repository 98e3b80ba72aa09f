"""Which kernels computers get, and how blocks are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.mcu.arm.dsp import Layer
from bitwright.mcu.cpu.cores import cores, family_of
from bitwright.mcu.cpu.kernels import choose, tiling
from bitwright.mcu.cpu.vectors import FAMILIES


def layer(outputs: int = 20, inputs: int = 5, groups: int = 1, weight: int = 3, kind: str = "shift") -> Layer:
    return Layer(
        weights=np.full((outputs, inputs // groups, 3, 3), weight), bias=np.zeros(outputs, np.int64), groups=groups,
        source="u8", result="s8", kind=kind, multiplier=np.zeros(0, np.int64), shift=np.asarray([4]), zero=0, lo=-128,
        hi=127, in_size=(8, 8), out_size=(8, 8), in_c=inputs, strides=(1, 1), dilations=(1, 1), before=(1, 1),
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_accumulators_weights_and_inputs_fit_the_registers(family: str) -> None:
    item = FAMILIES[family]  # type: ignore[index]
    most = 32 if family.startswith(("neon", "avx512")) else 16
    for vectors, pixels in item.tiles.items():
        sums = vectors * pixels * (4 if family == "neon" else 1)
        held = 4 + 1 if family == "neon" else pixels + 1 if family == "neon-dot" else vectors + 1
        assert sums + held <= most


def test_blocks_waste_few_channels() -> None:
    assert tiling("vnni", 24, 100)[0] == 3  # 24 = 3 vectors of 8
    assert tiling("vnni", 16, 100) == (2, 6)
    assert tiling("avx2", 8, 100) == (1, 8)
    assert tiling("vnni", 16, 4) == (2, 4)  # there are no more pixels than that
    assert tiling("avx512-vnni", 64, 1) == (4, 1)
    assert tiling("neon", 64, 1) == (1, 1)


@pytest.mark.parametrize("core", cores())
def test_what_has_no_kernel(core: str) -> None:
    depthwise = layer(20, 20, 20)
    assert choose(core, layer()) is not None
    assert choose(core, depthwise) is not None
    assert choose(core, layer(20, 20, 4)) is None  # some groups
    assert choose(core, layer(4, 4, 4)) is None  # fewer channels than a vector
    assert choose("cortex-m4", layer()) is None
    assert choose(None, layer()) is None


def test_sums_of_two_products_are_wide_where_a_weight_is_the_lowest() -> None:
    plain, lowest = (choose("cortex-a53", layer(weight=w)) for w in (-127, -128))
    assert plain is not None and lowest is not None  # noqa: PT018
    assert (plain.careful, lowest.careful) == (False, True)
    assert family_of("cortex-a53") == "neon"
    assert family_of("cortex-m4") is None


def test_the_stream_holds_every_weight_once() -> None:
    numbers = np.random.default_rng(0).integers(-127, 128, (20, 5, 3, 3))
    item = layer()
    made = choose("x86-64-vnni", Layer(**{**vars(item), "weights": numbers}))
    assert made is not None
    block = 8 * made.vectors
    blocks = -(-20 // block)
    raw = made.stream.astype("<u4").view(np.int8).reshape(blocks, -1)[:, 12 * block :]
    found = raw.reshape(blocks, -1, block, 4).transpose(0, 2, 1, 3).reshape(blocks * block, -1)
    np.testing.assert_array_equal(found[:20, :45], numbers.transpose(0, 2, 3, 1).reshape(20, 45))
    assert not found[20:].any()
    assert not found[:, 45:].any()
