"""Checks and JSON of configs: a value out of range, a wrong type or an unknown key is named, with the way out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from headlift.errors import InvalidInputError

C = TypeVar("C")


def check(holds: bool, name: str, value: object, wanted: str) -> None:
    """Raise InvalidInputError about field ``name`` unless ``holds``."""
    if not holds:
        raise InvalidInputError(f"{name} is {value}; it must be {wanted}.", field=name)


def check_positive(config: object, *names: str) -> None:
    """Raise InvalidInputError unless these fields are > 0."""
    for name in names:
        check(getattr(config, name) > 0, name, getattr(config, name), "> 0")


def check_choices(config: object, **choices: object) -> None:
    """Raise InvalidInputError unless each field is one of its Literal's values."""
    for name, literal in choices.items():
        allowed = get_args(literal)
        check(getattr(config, name) in allowed, name, repr(getattr(config, name)), f"one of {', '.join(allowed)}")


def config_to_json(config: Any) -> str:
    """Text that ``config_from_json`` reads back to an equal config."""
    return json.dumps(asdict(config), indent=1, sort_keys=True)


def config_from_json(kind: type[C], text: str) -> C:
    """A config dataclass from JSON; fields that are absent take their defaults.

    Raises:
        InvalidInputError: Not JSON, an unknown key, or a value out of range.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"The model config is not JSON: {error}.") from error
    return build_config(kind, values, "config")


def build_config(kind: type[C], values: object, where: str) -> C:
    """Make ``kind`` from JSON values, nested dataclasses from objects, tuples from lists.

    Raises:
        InvalidInputError: An unknown key, a value of the wrong type or out of range; the message says where.
    """
    if not isinstance(values, dict):
        raise InvalidInputError(f"The model config's {where} must be an object.", field=where)
    hints = get_type_hints(kind)
    allowed = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # callers pass dataclasses
    if unknown := sorted(set(values) - allowed):
        raise InvalidInputError(f"The model config's {where} has unknown keys: {', '.join(unknown)}.", field=where)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        parts = [part for part in (hints[name], *get_args(hints[name])) if is_dataclass(part)]
        if parts and value is not None:
            inner = name if where == "config" else f"{where}.{name}"
            arguments[name] = build_config(parts[0], value, inner)  # type: ignore[arg-type]  # of the union's members
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InvalidInputError(f"The model config's {where} has a value of the wrong type.", field=where) from error


def config_differences(mine: Any, theirs: Any) -> list[str]:
    """Each field whose value differs, as ``decoder.depth: 10 here, 4 there``; the label ``name`` does not count."""
    here, there = dict(_flat(asdict(mine))), dict(_flat(asdict(theirs)))
    keys = [key for key in sorted(here.keys() | there.keys()) if key != "name"]
    return [f"{k}: {here.get(k)} here, {there.get(k)} there" for k in keys if here.get(k) != there.get(k)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Leaves of nested dicts under dotted names; a missing part (None) is one leaf."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
