"""settings: the table of environment variables, made from the Settings class itself."""

from __future__ import annotations

import argparse

from headlift.commands.session import Subparsers, add_command, emit, settings_of
from headlift.settings import table


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    add_command(subparsers, "settings", "list every setting: its variable, value, default and range", show)


def show(args: argparse.Namespace) -> int:
    """``headlift settings``."""
    rows = table(settings_of(args))
    lines = [
        f"{r['variable']:30} {r['value'] or '(empty)'}\n{'':30} {r['about']}"
        + (f" Range: {r['range']}." if r["range"] else "")
        + (f" Default: {r['default'] or 'empty'}." if r["value"] != r["default"] else "")
        for r in rows
    ]
    emit(args, {"settings": rows}, "\n".join(lines))
    return 0
