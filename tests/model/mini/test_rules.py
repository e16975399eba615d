"""The ledger of rules names constants and functions that exist."""

from __future__ import annotations

import re
from pathlib import Path

import headlift.model.mini

FOLDER = Path(headlift.model.mini.__file__).parent
PACKAGE = FOLDER.parent.parent


def test_every_rule_names_what_its_file_has() -> None:
    rows = [row.split("|") for row in (FOLDER / "RULES.md").read_text().splitlines() if row.startswith("| ")][1:]
    assert rows
    for row in rows:
        text = ""
        for name in re.findall(r"`([^`]+)`", row[2]):
            if name.endswith(".py"):
                file = PACKAGE / name if "/" in name else FOLDER / name
                assert file.is_file(), f"{row[1].strip()}: no file {name}"
                text = file.read_text()
                continue
            word = re.escape(name).replace(r"\*", r"\w+")
            assert re.search(rf"\b{word}\b", text), f"{row[1].strip()}: {name} is not in its file"
