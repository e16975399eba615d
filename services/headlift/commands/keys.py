"""keys: API keys of the server, in the file that it reads."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from headlift.commands.session import Subparsers, add_command, emit, settings_of
from headlift.errors import InvalidInputError

if TYPE_CHECKING:
    from headlift.serving.edge.keys import ApiKey, KeyFile

_DAY_S = 86_400.0


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    about = "make, list and revoke API keys"
    kinds = subparsers.add_parser("keys", help=about, description=about).add_subparsers(metavar="WHAT", required=True)
    create_parser = add_command(kinds, "create", "make a key; it is shown only once", create)
    create_parser.add_argument("--tenant", required=True, help="the one tenant that the key acts for")
    create_parser.add_argument(
        "--scopes", default="read,write", help="of read, write, stages, reflection, admin (default: read,write)"
    )
    create_parser.add_argument("--days", type=float, default=0.0, help="days until it expires (default: never)")
    create_parser.add_argument("--note", default="", help="what it is for, for people")
    create_parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a limit of its own in place of the server's: requests_per_s, creates_per_min, bytes_per_min, "
        "concurrent_calls, heads; 0 is none; may be repeated",
    )
    revoke_parser = add_command(kinds, "revoke", "end a key; running servers notice within a second", revoke)
    revoke_parser.add_argument("id", help="as `headlift keys list` shows it")
    list_parser = add_command(kinds, "list", "list keys by their ids", list_keys)
    for parser in (create_parser, revoke_parser, list_parser):
        parser.add_argument("--keys-file", metavar="FILE", help="the file (default: .keys.json in the data directory)")
        parser.add_argument("--data-dir", metavar="DIR", help="data directory of the server")


def create(args: argparse.Namespace) -> int:
    """``headlift keys create``."""
    if not 0 <= args.days <= 36_500:
        raise InvalidInputError(f"--days is {args.days:g}; it must lie in 0 (never) to 36500.", field="days")
    scopes = [s.strip() for s in args.scopes.split(",") if s.strip()]
    key, entry = _file(args).create(
        args.tenant, scopes, expires_in_s=args.days * _DAY_S, note=args.note, limits=_limits(args.limit)
    )
    emit(args, {"key": key, **_public_fields(entry)}, f"{key}\n\n{_line(entry)}\nKeep it now: only its hash is stored.")
    return 0


def list_keys(args: argparse.Namespace) -> int:
    """``headlift keys list``."""
    entries = _file(args).entries()
    emit(args, {"keys": [_public_fields(e) for e in entries]}, "\n".join(map(_line, entries)) or "no keys")
    return 0


def revoke(args: argparse.Namespace) -> int:
    """``headlift keys revoke``."""
    entry = _file(args).revoke(args.id)
    emit(args, _public_fields(entry), _line(entry))
    return 0


def _file(args: argparse.Namespace) -> KeyFile:
    from headlift.serving.edge.compose import keys_path
    from headlift.serving.edge.keys import KeyFile

    return KeyFile(keys_path(settings_of(args)))


def _limits(given: list[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            values[name] = float(number) if "." in number else int(number)
        except ValueError:
            raise InvalidInputError(f"--limit is {text[:80]!r}; write NAME=NUMBER.", field="limit") from None
    return values


def _public_fields(entry: ApiKey) -> dict[str, Any]:
    """An entry without its hash."""
    return {
        "id": entry.id,
        "tenant": entry.tenant,
        "scopes": list(entry.scopes),
        "state": _state(entry),
        "created": _day(entry.created_s),
        "expires": _day(entry.expires_s),
        "note": entry.note,
    }


def _line(entry: ApiKey) -> str:
    ends = f", expires {_day(entry.expires_s)}" if entry.expires_s else ""
    note = f"  {entry.note}" if entry.note else ""
    return f"{entry.id}  {entry.tenant:16} {','.join(entry.scopes):24} {_state(entry)}{ends}{note}"


def _state(entry: ApiKey) -> str:
    if entry.revoked_s:
        return "revoked"
    return "expired" if entry.expires_s and time.time() >= entry.expires_s else "valid"


def _day(seconds: float) -> str:
    """UTC, to the minute; empty for never."""
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(seconds)) if seconds else ""
