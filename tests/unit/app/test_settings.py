"""Settings as values, undo and redo, and addresses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.app.ask import Ask, mark_of, sorted_rows
from bitwright.app.settings import MOST_UNDO, NEEDS, History, Settings, Step
from bitwright.errors import BadModelFile
from bitwright.view.seen import TensorSeen, TypeSeen

TYPE = TypeSeen(text="int8·2^-5", bits=8, signed=True, top=1, bottom=-5, step=2.0**-5, low=-4.0, high=3.97)


def test_a_step_is_stale_only_where_its_settings_changed() -> None:
    a = Settings(model="m.onnx", data="d.npz")
    changes = {
        "target": {Step.TARGET, Step.QUANTIZE, Step.VALIDATE, Step.EXPORT},
        "scheme": {Step.QUANTIZE, Step.VALIDATE, Step.EXPORT},
        "data": {Step.CALIBRATE, Step.QUANTIZE, Step.VALIDATE, Step.EXPORT},
        "judge": {Step.VALIDATE},
        "model": set(Step),
    }
    for name, stale in changes.items():
        b = replace(a, **{name: "other"})
        assert {step for step in Step if a.key(step) != b.key(step)} == stale, name
    assert set().union(*NEEDS.values()) == set(Settings.__dataclass_fields__)


def test_a_calibration_serves_every_target() -> None:
    assert Settings(model="m").key(Step.CALIBRATE) == Settings(model="m", target="fpga").key(Step.CALIBRATE)


def test_undo_and_redo() -> None:
    one = History(Settings(model="m"))
    two = one.edited("target", replace(one.now, target="fpga"))
    three = two.edited("scheme", replace(two.now, scheme="mse"))
    assert three.edited("nothing", three.now) is three
    assert three.undo().now == two.now
    assert three.undo().undo().now == one.now
    assert three.undo().undo().redo().redo() == three
    assert one.undo() is one
    assert three.redo() is three
    other = three.undo().edited("scheme", replace(two.now, scheme="kl"))
    assert other.redo() is other, "an edit after an undo ends what was undone"
    assert History.from_json(three.undo().to_json()) == three.undo()
    many = one
    for k in range(MOST_UNDO + 20):
        many = many.edited("n", replace(many.now, samples=k + 1))
    assert len(many.past) == MOST_UNDO


@pytest.mark.parametrize(
    "table",
    [
        None, [], "x", {"model": 3}, {"formats": [["a"]]}, {"formats": "ab"}, {"samples": -1}, {"samples": "3"}, {"prune": 1},
        {"seconds": 0}, {"target": "x" * 5000}, {"shapes": [1]}, {"samples": True},
    ],
)  # fmt: skip
def test_damaged_session_files_are_refused(table: object) -> None:
    with pytest.raises(BadModelFile, match="damaged"):
        Settings.from_json(table)
    with pytest.raises(BadModelFile):
        History.from_json({"now": table})


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Settings,
        model=st.text(max_size=20),
        formats=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=3).map(tuple),
        samples=st.none() | st.integers(1, 9),
        prune=st.booleans(),
        mend=st.text(max_size=5),
    )
)
def test_settings_come_back_equal(s: Settings) -> None:
    assert Settings.from_json(s.to_json()) == s


def test_formats_by_hand_replace_and_go() -> None:
    s = Settings().with_formats({"a": "int8·2^-5", "b": "int8·2^-6"}).with_formats({"a": "int8·2^-4"})
    assert s.formats == (("b", "int8·2^-6"), ("a", "int8·2^-4"))
    assert s.with_formats({"b": None, "zzz": None}).given == {"a": "int8·2^-4"}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["tab", "pick", "first", "text", "sort", "block", "step", "x"]), st.text()),
        max_size=8,
    )
)
def test_any_address_is_read(query: list[tuple[str, str]]) -> None:
    ask = Ask.of(query)
    from urllib.parse import parse_qsl

    again = Ask.of(parse_qsl(ask.query[1:], keep_blank_values=True))
    assert again == ask or any(0xD800 <= ord(c) < 0xE000 for _, text in query for c in text)
    assert all(len(mark) == 10 for mark in ask.pick)
    assert ask.first >= 0


def test_marks_stand_for_any_name() -> None:
    names = ["", "a", "<img>", "x" * 10_000, "\ud800", "שלום"]
    assert len({mark_of(n) for n in names}) == len(names)
    assert all(len(mark_of(n)) == 10 for n in names)


def test_rows_are_filtered_and_sorted_with_unknown_figures_last() -> None:
    rows = [
        TensorSeen(name="b", layer="", kind="Weights", type=TYPE, sqnr_db=30.0, min=-1.0),
        TensorSeen(name="a", layer="", kind="Activations", type=TYPE, lossless=True),
        TensorSeen(name="C", layer="", kind="Bias", type=TYPE),
        TensorSeen(name="d", layer="", kind="Weights", type=TYPE, sqnr_db=10.0, min=-3.0),
    ]

    def names(**ask: object) -> str:
        return "".join(t.name for t in sorted_rows(rows, Ask().but(**ask)))

    assert names() == "baCd"
    assert names(sort="sqnr") == "dbaC"
    assert names(sort="sqnr", order="down") == "abdC"
    assert names(sort="tensor") == "abCd"
    assert names(sort="min") == "dbaC"
    assert names(kind="Weights") == "bd"
    assert names(text="WEIGHTS") == "bd"
    assert names(text="c") == "aC"
