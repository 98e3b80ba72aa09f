"""Target files and input contracts as text, for remedies that change them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from bitwright.program.file import plain

if TYPE_CHECKING:
    from bitwright.data.contract import InputContract
    from bitwright.targets.target import Target


def toml(table: Mapping[str, Any]) -> str:
    """Plain values as a TOML document; values that are None are left out."""
    lines = _table(plain(table), ())
    return "\n".join(lines).strip() + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    simple = {k: v for k, v in table.items() if v is not None and not _is_table(v)}
    nested = {k: v for k, v in table.items() if v is not None and _is_table(v)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in simple.items()]
    for key, value in nested.items():
        here = (*path, key)
        title = ".".join(_key(part) for part in here)
        if isinstance(value, Mapping):
            lines += ["", f"[{title}]", *_table(value, here)]
        else:
            for item in value:
                lines += ["", f"[[{title}]]", *[f"{_key(k)} = {_value(v)}" for k, v in item.items() if v is not None]]
    return lines


def _is_table(value: object) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)


def target_text(target: Target, changes: Mapping[str, Any]) -> str:
    """A target file that says what ``changes`` say and is otherwise ``target``."""
    from bitwright.targets.target import list_targets

    name = str(changes.get("name", f"{target.name}-modified"))
    if target.name in list_targets():
        head: dict[str, Any] = {"name": name, "title": f"{target.title}, changed", "extends": target.name}
        return toml(head | {k: v for k, v in changes.items() if k != "name"})
    whole = target.with_overrides({**changes, "name": name})
    table = whole.to_dict()
    # A file inherits from the base target, so what equals a default has to be said as well.
    for part in ("arithmetic", "input", "activation", "weight", "bias", "schemes"):
        table[part] = _every(getattr(whole, part))
    table["op"] = {op: _every(rule) for op, rule in whole.ops.items()}
    return toml({k: v for k, v in table.items() if k != "extends" and v != ""})


def _every(part: Any) -> dict[str, Any]:
    """All fields of a dataclass by name; those that are None are left out by :func:`toml`."""
    return {field.name: _field(getattr(part, field.name)) for field in fields(part)}


def _field(value: Any) -> Any:
    return _every(value) if is_dataclass(value) and not isinstance(value, type) else value


def contract_text(contract: InputContract) -> str:
    """An input contract as its file has it."""
    table = contract.to_dict()
    return toml(
        {"input": {k: v for k, v in table["input"].items() if k not in ("shape", "dtype")}, "output": table["output"]}
    )
