"""``headlift``: every command, its exit codes, and errors in words.

Exit codes: 0 done; 1 a fault of ours; 2 wrong usage; 3 the input or the credential cannot be used; 4 the server or
the store cannot serve now; 5 weights, a backend or a Python package are missing; 130 interrupted. Further commands come
from installed packages through the entry-point group ``headlift.commands`` (functions that take argparse's subparsers).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from headlift import __version__
from headlift.commands.extras import missing_extra
from headlift.errors import (
    BackendUnavailableError,
    ConflictError,
    HeadliftError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    WeightsError,
)
from headlift.settings import calm_threads

GROUP = "headlift.commands"
_MODULES = (
    "demo",
    "heads",
    "edits",
    "batch",
    "live",
    "serve",
    "top",
    "keys",
    "info",
    "models",
    "bench",
    "plan",
    "settings",
)
_EXIT_CODES: tuple[tuple[type[HeadliftError], int], ...] = (
    (InvalidInputError, 3),
    (NotFoundError, 3),
    (ConflictError, 3),
    (UnauthenticatedError, 3),
    (PermissionDeniedError, 3),
    (WeightsError, 5),
    (BackendUnavailableError, 5),
    (HeadliftError, 4),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    calm_threads()
    args = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        code: int = args.run(args)
    except HeadliftError as error:
        return _failed(args, error)
    except ModuleNotFoundError as error:
        missing = missing_extra(error, training=args.run.__module__.startswith("headlift_trainer"))
        if missing is None:
            raise
        return _failed(args, missing)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `headlift list | head`
        sys.stderr.close()
        return 0
    return code


def parser() -> argparse.ArgumentParser:
    """The parser of all commands, those of other packages included."""
    top = argparse.ArgumentParser(prog="headlift", description="One portrait in, one 3D head out.")
    top.add_argument("--version", action="version", version=f"headlift {__version__}")
    subparsers: Any = top.add_subparsers(metavar="COMMAND", required=True)
    for name in _MODULES:
        importlib.import_module(f"headlift.commands.{name}").register(subparsers)
    for entry in importlib.metadata.entry_points(group=GROUP):
        entry.load()(subparsers)
    return top


def _failed(args: argparse.Namespace, error: HeadliftError) -> int:
    """Tell of an error; the exit code for it."""
    if getattr(args, "json", False):
        fault = {"reason": error.reason, "code": error.code, "message": error.message, "field": error.field}
        print(json.dumps({"error": fault}, indent=1))
    else:
        print(f"headlift: {error.message}", file=sys.stderr)
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


if __name__ == "__main__":
    sys.exit(main())
