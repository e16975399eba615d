"""A generated head's attribute record as a few words to break metrics down by."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_NOTHING = ("", "none", "no", "false", "0", "None", "False")


def traits_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Trait to word, for those traits that the record tells; sources record different things."""
    found = {name: read(attributes) for name, read in _READERS.items()}
    return {name: word for name, word in found.items() if word is not None}


def _sex(a: Mapping[str, Any]) -> str | None:
    if isinstance(a.get("sex"), str):
        return str(a["sex"])
    share = a.get("maleness")
    if not isinstance(share, (int, float)):
        return None
    return "female" if share < 1 / 3 else "male" if share > 2 / 3 else "between"


def _age(a: Mapping[str, Any]) -> str | None:
    years = a.get("age_years", a.get("age"))
    if isinstance(years, str):
        return years
    if not isinstance(years, (int, float)):
        return None
    # A share is MakeHuman's: its scale runs from a baby over 25 years at a half to 90.
    years = years if "age_years" in a or years > 1 else (50 * years if years < 0.5 else 25 + 130 * (years - 0.5))
    return "under 25" if years < 25 else "25 to 50" if years < 50 else "over 50"


def _skin(a: Mapping[str, Any]) -> str | None:
    melanin = a.get("melanin")
    if not isinstance(melanin, (int, float)):
        return None
    return "light" if melanin < 0.15 else "medium" if melanin < 0.4 else "dark"


def _hair(a: Mapping[str, Any]) -> str | None:
    style = a.get("hair_style", a.get("hair"))
    if isinstance(style, Mapping):
        style = style.get("style", style.get("length"))
    if style is None:
        return None
    if str(style) in _NOTHING or str(style) == "bald":
        return "none"
    return re.sub(r"[\W\d_]+$", "", str(style)).lower() or "other"


def _worn(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Whether a thing is worn: the record has a name, a truth value or a record of it."""

    def read(a: Mapping[str, Any]) -> str | None:
        if name not in a:
            return None
        value = a[name]
        return "without" if value is None or value in ({}, []) or str(value) in _NOTHING else "with"

    return read


_READERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "sex": _sex,
    "age": _age,
    "skin": _skin,
    "hair": _hair,
    "beard": _worn("beard"),
    "glasses": _worn("glasses"),
    "hat": _worn("hat"),
    "earrings": _worn("earrings"),
}
