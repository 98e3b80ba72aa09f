from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.mcu.wire import MAGIC, MOST_BYTES, Decoder, Frame

frames = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40) | st.just(MAGIC * 20) | st.just(b"\xb1")
)
# What may stand between frames: anything in which no frame begins.
noise = st.binary(max_size=30).map(lambda b: b.replace(b"\xb1", b"\0"))


@given(st.lists(st.tuples(noise, frames), max_size=5), st.integers(0, 1 << 30))
@settings(max_examples=50, deadline=None)
def test_frames_come_out_whole_however_they_arrive(sent: list[tuple[bytes, Frame]], seed: int) -> None:
    data = b"".join(before + frame.encoded() for before, frame in sent)
    decoder, pick, got = Decoder(), random.Random(seed), []
    while data:
        count = pick.randint(1, 20)
        got += decoder.feed(data[:count])
        data = data[count:]
    assert got == [frame for _, frame in sent]
    assert decoder.damaged == 0


@given(frames, frames, st.data())
@settings(max_examples=50, deadline=None)
def test_a_damaged_frame_is_dropped_and_the_next_is_found(first: Frame, second: Frame, data: st.DataObject) -> None:
    bad = bytearray(first.encoded())
    at = data.draw(st.integers(0, len(bad) - 1))
    bad[at] ^= data.draw(st.integers(1, 255))
    # As the host does it: a length that was damaged finds bytes to take for its own.
    got = Decoder().feed(bytes(bad) + bytes(MOST_BYTES + 16) + second.encoded())
    assert got[-1:] == [second]
    assert first not in got or first == second


def test_limits() -> None:
    with pytest.raises(ValueError, match="512 bytes"):
        Frame(1, 0, bytes(MOST_BYTES + 1)).encoded()
    decoder = Decoder()
    assert decoder.feed(MAGIC + b"\1\1\xff\xff") == []
    assert decoder.damaged == 1
    assert decoder.feed(Frame(1, 2, b"x").encoded()[:-1]) == []
    decoder.forget()
    assert decoder.feed(Frame(1, 3).encoded()) == [Frame(1, 3)]
