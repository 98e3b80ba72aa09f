"""The geometry of the marks: one axis, equal widths, nothing lost, nothing on top of another."""

from __future__ import annotations

import io
import re
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bitwright.number.format import Format
from bitwright.view import charts, panels
from bitwright.view.axis import Axis, cells, lane, level, quality, shared_axis
from bitwright.view.bars import bars
from bitwright.view.blocks import blocks, collapsed, inside
from bitwright.view.graph import draw_graph, graph_section, lost_level
from bitwright.view.heat import channels_seen, heat, png
from bitwright.view.layout import layout
from bitwright.view.palette import color_rules, light, tokens
from bitwright.view.seen import (
    BitsSeen,
    BoxSeen,
    CyclesSeen,
    FoldSeen,
    GraphSeen,
    LaneSeen,
    MemorySeen,
    PointSeen,
    RegionSeen,
    TensorSeen,
)
from bitwright.view.strip import CELL, GAP, axis_marks, strip, strip_width
from bitwright.view.table import tensor_table, type_text
from bitwright.view.tensors import bits_of_stats, bits_of_values, format_powers, type_seen

COUNTS = st.lists(st.integers(0, 1000), max_size=12).map(tuple)


@st.composite
def tensors(draw: Any) -> TensorSeen:
    exponent = draw(st.integers(-12, 6))
    kind = type_seen(Format.power_of_two(draw(st.sampled_from((4, 8, 16))), exponent, signed=draw(st.booleans())))
    bits = BitsSeen(
        top=draw(st.integers(-30, 12)),
        inside=draw(COUNTS),
        over=draw(COUNTS),
        under=draw(COUNTS),
        zeros=draw(st.integers(0, 9)),
    )
    kind_of = draw(st.sampled_from(("Weights", "Bias", "Activations")))
    return TensorSeen(name="t", layer="l", kind=kind_of, type=kind, bits=draw(st.sampled_from((bits, None))))


def boxes(drawing: str) -> list[tuple[str, float, float, float, float]]:
    """(class, x, y, width, height) of every piece of every path."""
    found = []
    for path, kind in re.findall(r'<path d="([^"]+)" fill="[^"]+" class="([^"]+)"/>', drawing):
        for x, y, w, h in re.findall(r"M(-?[\d.]+) (-?[\d.]+)h([\d.]+)v([\d.]+)", path):
            found.append((kind, float(x), float(y), float(w), float(h)))
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(tensors(), min_size=1, max_size=5))
def test_all_strips_are_on_one_axis(several: list[TensorSeen]) -> None:
    axis = shared_axis(several)
    for tensor in several:
        drawing = strip(tensor, axis)
        assert f'width="{strip_width(axis)}"' in drawing
        columns = axis.columns * CELL
        for kind, x, y, w, h in boxes(drawing):
            assert x >= 0
            assert y >= 0
            assert y + h <= 14
            at_zeros = x >= columns
            assert x + w <= columns + GAP + CELL
            assert not at_zeros or x == columns + GAP, "nothing stands between the columns and the zeros"
            if not at_zeros and kind not in {"f-none", "f-lane"}:
                assert x % CELL == 0, "a cell begins where its column begins"


@settings(max_examples=50, deadline=None)
@given(tensors(), st.integers(-20, 10), st.integers(1, 20))
def test_no_value_is_lost_on_a_short_axis(tensor: TensorSeen, top: int, columns: int) -> None:
    if tensor.bits is not None:
        found = cells(tensor.bits, Axis(top, top - columns + 1))
        assert sum(cell.total for cell in found) + tensor.bits.zeros == tensor.bits.count
        assert all(0 <= cell.column < columns for cell in found)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_levels_never_fall_and_what_occurs_is_seen(a: int, b: int) -> None:
    most = max(a, b)
    assert level(min(a, b), most) <= level(most, most) <= 5
    assert (level(a, most) == 0) == (a == 0)


def test_quality_is_better_for_more_decibel() -> None:
    assert [quality(v) for v in (None, -5, 14.9, 15, 22, 28, 34, 99)] == [0, 1, 1, 2, 3, 4, 5, 5]
    assert [lost_level(v) for v in (None, -2, 0, 1, 2, 3, 4, 9)] == [0, 5, 5, 4, 3, 2, 1, 1]


def test_empty_columns_at_the_ends_are_left_out() -> None:
    kind = type_seen(Format.power_of_two(8, -5))
    one = TensorSeen(name="t", layer="", kind="Weights", type=kind, bits=BitsSeen(top=9, inside=(0, 0, 3, 0, 1, 0)))
    assert shared_axis([one]) == Axis(7, 5)
    assert shared_axis([]) == Axis(3, -4)


def test_the_lane_is_what_the_format_holds() -> None:
    kind = type_seen(Format.power_of_two(8, -5))
    assert (kind.top, kind.bottom, kind.exponent) == (1, -5, -5)
    one = TensorSeen(name="t", layer="", kind="Weights", type=kind)
    assert lane(one, Axis(4, -8)) == (3, 9)
    assert lane(one, Axis(-6, -9)) is None
    drawing = bars(one, Axis(4, -8))
    assert 'data-top="1"' in drawing
    assert 'data-bottom="-5"' in drawing
    assert 'data-axis-top="4"' in drawing


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("scale", [0.013, 2.0**-5, 1.7])
def test_bits_of_values_are_counted_one_by_one(signed: bool, scale: float) -> None:
    values = np.random.default_rng(1).normal(size=500) * 40 * scale
    values[:9] = 0
    format = Format(8, signed, np.asarray(scale))
    found = bits_of_values(values, format)
    assert found is not None
    assert found.count == 500
    assert found.zeros == 9
    low, high = (float(x) for x in format.real_range)
    saturated = (values < low - scale / 2) | (values > high + scale / 2)
    assert sum(found.over) == int((saturated & (values != 0)).sum())
    small = (values != 0) & ~saturated & (np.frexp(np.abs(values))[1] - 1 < np.frexp(scale)[1] - 1)
    assert sum(found.under) == int(small.sum())


def test_each_channel_is_judged_by_its_own_step() -> None:
    values = np.array([[1.0, 0.01], [1.0, 0.01]])
    format = Format(8, True, np.array([1 / 64, 1 / 8192]), axis=0)
    found = bits_of_values(values, format)
    assert found is not None
    assert sum(found.over) == 1, "1.0 is beyond the range of the second channel"
    assert sum(found.under) == 1, "0.01 is below the step of the first"
    tops, bottoms = format_powers(format)
    assert (tops.tolist(), bottoms.tolist()) == ([0, -7], [-6, -13])


def test_statistics_give_the_same_columns_as_values() -> None:
    from bitwright.calibrate.tensor_stats import TensorStats

    values = np.random.default_rng(2).normal(size=4000).astype(np.float32)
    values[::7] = 0
    format = Format.power_of_two(8, -6)
    a, b = bits_of_stats(TensorStats.of(values), format), bits_of_values(values, format)
    assert a is not None
    assert b is not None
    assert (a.top, a.totals, a.zeros) == (b.top, b.totals, b.zeros)
    assert sum(a.over) == pytest.approx(sum(b.over), abs=0.01 * 4000)
    assert bits_of_stats(TensorStats(), format) is None


@st.composite
def graphs(draw: Any) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 24))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda p: p[0] < p[1])
    edges = draw(st.lists(pairs, max_size=40, unique=True)) if count > 1 else []
    return count, sorted(edges)


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_boxes_do_not_overlap_and_edges_go_down(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    placed = layout(count, edges)
    for a, b in combinations(range(count), 2):
        if placed.row[a] == placed.row[b]:
            assert abs(placed.x[a] - placed.x[b]) >= 1 - 1e-6
    for (a, b), bends in zip(edges, placed.bends, strict=True):
        rows = [placed.row[a], *(row for _, row in bends), placed.row[b]]
        assert rows == list(range(placed.row[a], placed.row[b] + 1))
    assert all(0.5 - 1e-6 <= x <= placed.width - 0.5 + 1e-6 for x in placed.x)


def test_edges_that_go_up_are_refused() -> None:
    with pytest.raises(ValueError, match="later"):
        layout(2, [(1, 0)])


@settings(max_examples=50, deadline=None)
@given(graphs(), st.integers(2, 12))
def test_blocks_cover_the_graph_and_make_no_circle(graph: tuple[int, list[tuple[int, int]]], most: int) -> None:
    count, edges = graph
    whole = GraphSeen(boxes=tuple(BoxSeen(name=f"a/{k}", op="Conv") for k in range(count)), edges=tuple(edges))
    parts = blocks(whole, most)
    assert [k for p in parts for k in range(p.first, p.end)] == list(range(count))
    assert len(parts) <= max(2 * most, 1)
    small = collapsed(whole, parts)
    assert all(a < b for a, b in small.edges)
    inner = sum(len(inside(whole, p).edges) for p in parts)
    across = sum(1 for a, b in edges if not any(p.first <= a and b < p.end for p in parts))
    assert inner + across == len(edges)


def test_a_large_graph_is_shown_in_blocks_that_open() -> None:
    names = [f"stage{k // 20}/conv{k % 20}" for k in range(200)]
    whole = GraphSeen(
        boxes=tuple(BoxSeen(name=n, op="Conv", sqnr_db=30.0 - (n == names[77])) for n in names),
        edges=tuple((k, k + 1) for k in range(199)),
    )
    drawing = graph_section(whole, link=lambda k, _: f"#t{k}")
    assert drawing.count("<details") > 5
    assert all(f'href="#t{k}"' in drawing for k in range(200))
    assert "29 dB" in drawing


def test_float_layers_are_dashed_and_say_why() -> None:
    one = GraphSeen(boxes=(BoxSeen(name="top", op="Softmax", state="float", reason="no such unit"),))
    drawing = draw_graph(one)
    assert "stroke-dasharray" in drawing
    assert "no such unit" in drawing
    assert "s-float" in drawing


def test_the_heat_map_is_a_picture_of_its_channels() -> None:
    values = np.random.default_rng(0).normal(size=(12, 30))
    values[3] *= 100
    found = channels_seen("t", values, Format.power_of_two(8, -4))
    assert found is not None
    assert found.order[0] == 3, "the widest channel stands at the top"
    picture = Image.open(io.BytesIO(png(found.rows)))
    picture.load()
    assert picture.size == (found.axis.columns, 12)
    assert np.asarray(picture).tolist() == [list(row) for row in found.rows]
    assert any(v > 5 for v in found.rows[0]), "and overflows"
    assert "data:image/png;base64," in heat(found)


def fold(lost: tuple[int, ...]) -> FoldSeen:
    return FoldSeen(
        layer="conv", kind="weights", sources=("bn",), before=(-0.1, 0.1), after=(-2.0, 0.4), factor=20.0, bits_lost=4,
        worst_channel=1, worst_scale=20.0, channel_bits_lost=lost, text="weights ×20, 4 bits lost",
    )  # fmt: skip


def test_fold_cards_say_what_was_lost() -> None:
    card = panels.fold_card(fold((4, 0, 3, -1)))
    assert "4 bits lost" in card
    assert "2 of 4 channels lose bits, up to 4" in card
    assert panels.channel_loss((0, 0)) is None
    many = panels.folds([fold((k,)) for k in range(40)], most=5)
    assert many.count('class="card fold"') == 5
    assert "35 more" in many


def test_memory_maps_stay_in_their_frame() -> None:
    regions = tuple(RegionSeen(name=f"r{k}", offset=k * 100, size=100, first=k, last=k + 1) for k in range(5))
    for memory in (
        MemorySeen(name="RAM", size=500, regions=regions, steps=6),
        MemorySeen(name="flash", size=500, regions=tuple(RegionSeen(name="w", offset=0, size=400) for _ in range(1))),
    ):
        drawing = charts.memory_map(memory)
        width = float(re.findall(r'viewBox="0 0 ([\d.]+)', drawing)[0])
        for x, w in re.findall(r'<rect x="([\d.-]+)" y="[\d.-]+" width="([\d.]+)"', drawing):
            assert float(x) >= -0.01
            assert float(x) + float(w) <= width + 0.01
        assert "0x00000000" in drawing


def test_cycles_lanes_and_profile() -> None:
    table = charts.cycles([CyclesSeen(layer="a", cycles=100, share=0.9), CyclesSeen(layer="b", cycles=10, share=0.1)])
    assert table is not None
    widths = [float(w) for w in re.findall(r'<rect x="0" y="1" width="([\d.]+)"', table)]
    assert widths[0] == 10 * widths[1], "bars start at zero"
    assert charts.lanes([LaneSeen(unit="load", layer="a", start=0, end=5)]) is not None
    points = [PointSeen(layer=f"l{k}", sqnr_db=40.0 - 9 * (k > 2)) for k in range(6)]
    drawing = charts.profile(points, "what")
    assert drawing is not None
    assert "l3 −9.0 dB" in drawing
    assert charts.profile(points[:1], "what") is None
    assert charts.cycles([]) is None
    assert charts.lanes([]) is None


def test_formats_are_written_as_people_do() -> None:
    assert "int8·" in type_text(type_seen(Format.power_of_two(8, -5)))
    assert "<sup>−5</sup>" in type_text(type_seen(Format.power_of_two(8, -5)))
    shifted = type_text(type_seen(Format(8, True, np.asarray(0.0123456), np.asarray(-7))))
    assert "0.0123" in shifted
    assert "zero point −7" in shifted
    assert "per channel" in type_text(type_seen(Format(8, True, np.array([0.5, 0.25]), axis=0)))


def test_drawings_are_legible_without_a_stylesheet() -> None:
    kind = type_seen(Format.power_of_two(8, -5))
    one = TensorSeen(name="t", layer="", kind="Weights", type=kind, bits=BitsSeen(top=0, inside=(4, 2), zeros=1))
    drawing = strip(one, Axis(2, -8))
    assert all(" fill=" in piece for piece in re.findall(r"<(?:path|rect)[^>]*>", drawing))
    assert 'role="img"' in drawing
    assert "aria-label" in drawing
    assert "=0" in axis_marks(Axis(2, -8))
    assert "<caption>" in tensor_table([one], Axis(2, -8), caption="x")


def test_every_color_is_in_the_stylesheet_in_light_and_dark() -> None:
    rules = color_rules()
    for name, color in tokens().items():
        assert f"--bw-{name}:{color.light};" in rules
        assert f"--bw-{name}:{color.dark};" in rules
        assert light(name) == color.light


def contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["text", "muted", "accent", "bad", "good"])
@pytest.mark.parametrize("ground", ["ground", "panel", "card"])
def test_text_has_contrast_on_every_ground(name: str, ground: str) -> None:
    for a, b in zip(tokens()[name], tokens()[ground], strict=True):
        assert contrast(a, b) >= 4.5
