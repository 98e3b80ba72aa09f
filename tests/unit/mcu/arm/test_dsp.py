from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitwright.mcu.arm import dsp, mve
from bitwright.mcu.arm.dsp import Layer, choose


def layer(outputs: int = 3, inputs: int = 2, taps: tuple[int, int] = (1, 3), *, groups: int = 1) -> Layer:
    rng = np.random.default_rng(0)
    return Layer(
        weights=rng.integers(-128, 128, (outputs, inputs, *taps)).astype(np.int8),
        bias=np.arange(outputs) * 100,
        groups=groups,
        source="s8",
        result="s8",
        kind="double",
        multiplier=np.full(outputs, 3 << 29),
        shift=np.arange(outputs) % 5 + 1,
        zero=-128,
        lo=-128,
        hi=127,
        in_size=(6, 6),
        out_size=(6, 4),
        in_c=inputs * groups,
        strides=(1, 1),
        dilations=(1, 1),
        before=(0, 0),
    )


def test_a_stream_holds_every_weight_where_the_kernel_reads_it() -> None:
    given = layer()
    found = choose("cortex-m4", given)
    assert found is not None
    row = given.weights.transpose(0, 2, 3, 1).reshape(3, 6)  # taps times channels
    units, words = 2, 2 + 4 + 3
    stream = found.stream.reshape(2, words)
    assert found.step == words
    for channel in range(3):
        pair, side = divmod(channel, 2)
        assert stream[pair, side] == given.bias[channel]
        assert np.int32(stream[pair, 2 + 4 + side].astype(np.int32)) == 2 * int(given.multiplier[channel]) - (1 << 32)
        assert stream[pair, -1] >> 8 * side & 255 == given.shift[channel] - 1
        for k in range(4 * units):
            word = int(stream[pair, 2 + k // 4 * 2 + k % 2])
            byte = word >> (8 * side + 16 * (k % 4 // 2)) & 255
            assert np.uint8(byte).astype(np.int8) == (row[channel, k] if k < 6 else 0)
    # The channel that only fills the pair adds nothing.
    assert stream[1, 1] == 0
    assert not (stream[1, 2:6] & 0xFF00FF00).any()


def test_half_away_is_left_out_only_where_the_clamp_hides_it() -> None:
    assert choose("cortex-m4", layer()).finish.kind == "double"  # type: ignore[union-attr]
    assert choose("cortex-m4", replace(layer(), zero=-4)).finish.kind == "away"  # type: ignore[union-attr]
    assert mve.choose("cortex-m55", replace(layer(), zero=-4)).finish.kind == "away"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "change",
    [
        {"source": "s16"},
        {"result": "s32"},
        {"kind": "float32_even"},
        {"shift": np.zeros(3, np.int64)},
        {"shift": np.full(3, -1)},
        {"multiplier": np.zeros(3, np.int64)},
        {"kind": "single", "shift": np.full(3, 32)},
        {
            "kind": "shift",
            "multiplier": np.zeros(0, np.int64),
            "bias": np.full(3, (1 << 31) - 1),
            "shift": np.full(3, 4),
        },
        {"groups": 2},
    ],
)
def test_what_the_short_arithmetic_cannot_do_is_left_to_portable_kernels(change: dict[str, object]) -> None:
    assert choose("cortex-m4", layer()) is not None
    assert choose("cortex-m4", replace(layer(), **change)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("core", [None, "cortex-m0", "cortex-m3", "rv32imc"])
def test_other_cores_have_no_such_kernels(core: str | None) -> None:
    assert choose(core, layer()) is None
    assert mve.choose(core, layer()) is None


def driver(core: str, wanted: Layer) -> str | None:
    found = mve.choose(core, wanted) or dsp.choose(core, wanted)
    return None if found is None else found.driver


def test_depthwise_layers_of_all_shapes_have_a_kernel() -> None:
    good = replace(layer(5, 1, (3, 3), groups=5), out_size=(4, 4))
    assert driver("cortex-m4", good) == "bw_dsp_depthwise"
    for other in (
        replace(good, strides=(1, 2)),
        replace(good, dilations=(2, 2)),
        replace(good, before=(-1, 0)),
        layer(5, 1, (1, 10), groups=5),
    ):
        assert driver("cortex-m4", other) == "bw_dsp_taps"
    assert (
        driver("cortex-m4", replace(layer(3, 1, (3, 3), groups=3), out_size=(4, 4))) is None
    )  # fewer than four channels
    assert driver("cortex-m4", layer(5, 1, (9, 9), groups=5)) is None  # more taps than its table holds


@pytest.mark.parametrize(
    ("channels", "window", "function"),
    [
        (3, (1, 10), None),
        (3, (1, 9), "bw_nine_double"),
        (12, (3, 3), "bw_nine_double"),  # channels would be left over
        (16, (3, 3), "bw_eights_double"),
        (12, (1, 10), "bw_taps_double"),
        (16, (2, 2), "bw_taps_double"),
    ],
)
def test_depthwise_kernels_of_vectors(channels: int, window: tuple[int, int], function: str | None) -> None:
    found = mve.choose("cortex-m55", layer(channels, 1, window, groups=channels))
    assert (None if found is None else found.pointers[0]) == function


def test_cores_with_vectors_have_the_dsp_extension_too() -> None:
    assert set(mve.CORES) <= set(dsp.CORES)
