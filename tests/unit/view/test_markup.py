"""One way to make an element, and nothing gets through it."""

from __future__ import annotations

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.view.markup import SHOWN, TOLD, Markup, breakable, cut, label, sentence, spaced, tag, text
from hostile import NAMES

NASTY = st.text(max_size=60) | st.sampled_from(NAMES)


def parsed(markup: str) -> list[str]:
    """The names of the elements that a browser would see."""
    tree = html5lib.parseFragment(markup, namespaceHTMLElements=False)
    return [node.tag for node in tree.iter() if isinstance(node.tag, str)][1:]


def content(markup: str) -> str:
    return "".join(html5lib.parseFragment(markup, namespaceHTMLElements=False).itertext())


@settings(max_examples=50, deadline=None)
@given(NASTY)
def test_text_stays_text(name: str) -> None:
    shown = tag("p", name)
    assert parsed(shown) == ["p"]
    assert "".join(c for c in content(shown) if c.isprintable()) == "".join(
        c if c.isprintable() else repr(c)[1:-1] for c in name if c not in "\n\t"
    )


@settings(max_examples=50, deadline=None)
@given(NASTY)
def test_attributes_stay_attributes(name: str) -> None:
    tree = html5lib.parseFragment(tag("p", title=name, data_x=name), namespaceHTMLElements=False)
    assert set(tree[0].attrib) == {"title", "data-x"}
    assert tree[0].attrib["title"] == tree[0].attrib["data-x"]


@settings(max_examples=50, deadline=None)
@given(NASTY)
def test_a_label_shows_everything_and_little_of_it(name: str) -> None:
    for shown in (label(name), breakable(name), sentence(name)):
        assert set(parsed(shown)) <= {"bdi", "wbr"}
        assert content(shown).isprintable()
    assert len(content(label(name))) <= SHOWN
    assert len(label(name)) <= 8 * (TOLD + SHOWN) + 100


def test_long_names_are_whole_in_their_tip_and_cut_in_the_middle() -> None:
    name = "a" * 60 + "b" * 60
    shown = label(name, 20)
    assert f'title="{name}"' in shown
    assert content(shown) == "aaaaaaaaaa…bbbbbbbbb"
    assert cut("short", 20) == "short"


def test_what_turns_the_reading_direction_is_isolated_or_visible() -> None:
    assert label("שלום") == "<bdi>שלום</bdi>"
    assert "\u202e" not in label("a\u202eb")
    assert "\\u202e" in label("a\u202eb")


def test_names_break_where_they_may() -> None:
    assert breakable("a/b.c_d") == "a/<wbr>b.<wbr>c_<wbr>d"
    assert content(breakable("<i>.x")) == "<i>.x"


def test_markup_is_kept_and_nothing_is_nothing() -> None:
    assert text([Markup("<b>x</b>"), "<", 3, None, ("&",)]) == "<b>x</b>&lt;3&amp;"
    assert tag("p", "a", hidden=True, id=None, class_=False) == "<p hidden>a</p>"
    assert tag("br") == "<br>"
    assert tag("path", d="M0 0") == '<path d="M0 0"/>'
    assert text(spaced("a", None, "b")) == "a b"
    assert Markup("<i>").__html__() == "<i>"


@pytest.mark.parametrize("name", ["onclick", "ONERROR", "style", "on_load", "a b", "x=y"])
def test_scripts_and_styles_are_no_attributes(name: str) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        tag("p", **{name: "x"})


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "https://elsewhere", "//elsewhere", "data:text/html,x", " javascript:x", "\x01javascript:x"]
)  # fmt: skip
def test_addresses_lead_nowhere_else(address: str) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        tag("a", "x", href=address)


@pytest.mark.parametrize("address", ["#t1", "?row=1", "./report.js", "report.css", "data:image/png;base64,AA=="])
def test_addresses_in_the_page_are_fine(address: str) -> None:
    assert address.split("=", maxsplit=1)[0] in tag("a", "x", href=address)


def test_names_of_elements_are_ours() -> None:
    with pytest.raises(ValueError, match="name"):
        tag("p><script", "x")
