"""Bit strips on the screen."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from bitwright.commands import bits, screen
from bitwright.view.seen import BitsSeen, TensorSeen, TypeSeen
from bitwright.view.term import Look, axis_title, plain, term_axis

TYPE = TypeSeen(text="int8·2^-5", bits=8, signed=True, top=1, bottom=-5, step=2**-5, low=-4.0, high=3.96875)


def tensor(**more: Any) -> TensorSeen:
    found = BitsSeen(top=3, inside=(0, 0, 8, 4, 0, 1), over=(2,), under=(*[0] * 9, 8), zeros=4)
    return TensorSeen(**{"name": "t", "layer": "l", "kind": "Weights", "type": TYPE, "bits": found, **more})


def test_with_colors_height_is_count_and_lanes_are_dotted() -> None:
    one = tensor()
    axis = term_axis([one])
    assert (axis.top, axis.bottom) == (3, -6)
    assert plain(one, axis, Look()) == "▂ █▄·▁···█ ▄"


def test_without_colors_brackets_say_where_the_format_ends() -> None:
    one = tensor()
    axis = term_axis([one])
    assert plain(one, axis, Look(color=False)) == "▂ [█▄ ▁   ]█ ▄"
    assert plain(one, axis, Look(color=True, ascii=True)) == ": [@= .   ]@ ="
    assert plain(one, axis, Look(color=False), typed=False) == "▂ █▄ ▁   █ ▄"


def test_all_strips_of_an_axis_are_equally_wide() -> None:
    far = TypeSeen(text="far", bits=8, signed=True, top=-40, bottom=-47, step=2**-47, low=-1.0, high=1.0)
    several = [tensor(), tensor(bits=None), tensor(type=far), tensor(bits=BitsSeen(top=0, inside=(1,)))]
    axis = term_axis(several)
    for look in (Look(), Look(color=False), Look(ascii=True)):
        assert len({len(plain(one, axis, look)) for one in several}) == 1


def test_a_narrow_screen_has_fewer_columns() -> None:
    deep = tensor(bits=BitsSeen(top=3, inside=(1,) * 60), kind="Bias")
    assert term_axis([deep]).columns == 24
    assert term_axis([deep], 80).columns == 16
    assert axis_title(term_axis([deep], 80), Look(ascii=True)).isascii()


@pytest.mark.parametrize(
    ("options", "environment", "wanted"),
    [
        ({"force_terminal": True, "color_system": "truecolor"}, {}, Look(color=True)),
        ({"force_terminal": True, "color_system": "truecolor"}, {"NO_COLOR": "1"}, Look(color=False)),
        ({"force_terminal": False}, {}, Look(color=False)),
    ],
)
def test_what_the_terminal_can_show(
    options: dict[str, Any], environment: dict[str, str], wanted: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), **options)
    monkeypatch.setattr(screen, "out", lambda: console)
    assert bits.look() == wanted


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setattr(screen, "out", lambda: console)
    assert bits.look().ascii
    assert str(bits.strip_text(tensor(), term_axis([tensor()]))).isascii()


@pytest.mark.parametrize(("width", "strips"), [(120, True), (80, True), (40, False)])
def test_strips_stay_longer_than_other_columns(width: int, strips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, soft_wrap=True)
    monkeypatch.setattr(screen, "out", lambda: console)
    bits.tensor_table([tensor(name="depthwise_conv.Weights", sqnr_db=12.0, overflow=0.1)], title="Lose most")
    shown = out.getvalue()
    assert ("▂ [█▄ ▁   ]█" in shown) == strips
    assert "12.0" in shown
    assert all(len(line) <= width for line in shown.splitlines())
