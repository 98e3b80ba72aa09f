"""Options as text."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from bitwright.commands.options import beside, check_output, parse_shapes


def test_shapes() -> None:
    assert parse_shapes(()) is None
    assert parse_shapes(("data=1,3,224,224", "height=96")) == {"data": [1, 3, 224, 224], "height": 96}
    assert parse_shapes(("a=b=1x3",)) == {"a=b": [1, 3]}


@pytest.mark.parametrize("text", ["data", "=3", "data=", "data=a,b", "data=1,-1", "data=0", "data=1,,2"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError, match="NAME=SHAPE"):
        parse_shapes((text,))


def test_outputs(tmp_path: Path) -> None:
    assert beside(Path("models/net.onnx"), ".bw") == Path("net.bw")
    check_output(tmp_path / "x.bw")
    with pytest.raises(click.UsageError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(click.UsageError, match="no folder"):
        check_output(tmp_path / "none" / "x.bw")
