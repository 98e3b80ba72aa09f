"""Whatever stands in a target file, it is either a target or one clear error."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.errors import BadTargetFile
from bitwright.targets.target import Target, list_targets, load_target

TABLES = {name: load_target(name).to_dict() for name in list_targets()}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8)
keys = st.text(max_size=8) | st.sampled_from(["bits", "output", "match", "op", "scale", "exponent", "*", "Conv"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def places(table: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path of keys into nested tables and lists."""
    found = [path] if path else []
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    table = copy.deepcopy(TABLES[draw(st.sampled_from(sorted(TABLES)))])
    *parents, last = draw(st.sampled_from(places(table)))
    spot = table
    for key in parents:
        spot = spot[key]
    if draw(st.booleans()) or isinstance(spot, list):
        spot[last] = draw(values)
    else:
        spot[draw(keys)] = draw(values)
    return table


@settings(max_examples=100, deadline=None)
@given(damaged())
def test_a_damaged_table_is_a_target_or_one_clear_error(table: dict[str, Any]) -> None:
    error = None
    try:
        target = Target.from_dict(table, path="x.toml")
    except BadTargetFile as found:
        error = found
    if error is not None:
        assert str(error).startswith("Target file x.toml")
        assert str(error).isprintable()
        assert error.key
    else:
        assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target
        assert target.describe()
        hash(target)
