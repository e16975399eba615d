"""What the kinds of ``headlift eval`` share: weights, learned metrics, and where results go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlift.commands.session import emit
from headlift.errors import InvalidInputError

if TYPE_CHECKING:
    from headlift.model.sizes import HeadModel
    from headlift_trainer.evaluation.tables import Table
    from headlift_trainer.metrics import MetricNetworks


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Options for the learned metrics."""
    group = parser.add_argument_group("learned metrics", "local files; a metric without one is reported as absent")
    group.add_argument("--lpips", type=Path, metavar="PATH", help="LPIPS weights")
    group.add_argument("--dreamsim", type=Path, metavar="DIR", help="the DreamSim release's unpacked checkpoints")
    group.add_argument("--arcface", type=Path, metavar="FILE", help="model_ir_se50.pth")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Options for files to write."""
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write one page with everything")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="write the tables as Markdown")


def shipped_weights() -> Path:
    """The checkpoint that comes with the package."""
    from headlift import weights

    return Path(str(weights.__file__)).with_name("mini.safetensors")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Options that name the measured network's files."""
    parser.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint (default: the shipped mini)")
    add_backbone(parser)


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """The option that names the frozen backbone's file."""
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="FILE",
        help="DINOv2's file, for checkpoints that read it: base, light, light_s",
    )


def load_model(path: Path | None, backbone: Path | None = None) -> tuple[Path, HeadModel]:
    """The weights' file and its model; ``backbone`` is what ``--backbone`` names, else the setting counts.

    Raises:
        WeightsError: See ``load_model``.
    """
    from headlift.settings import Settings
    from headlift.weights.loading import load_model

    chosen = path if path is not None else shipped_weights()
    return chosen, load_model(chosen, backbone or Settings.from_env().backbone_weights).model


def load_one_of(path: Path, backbone: Path | None) -> HeadModel:
    """One of several networks that are measured together: the backbone is for those that read one."""
    from headlift.weights.loading import load_model, reads_backbone

    return load_model(path, backbone if reads_backbone(path) else None).model


def load_networks(args: argparse.Namespace) -> MetricNetworks:
    """The learned metrics whose files were given."""
    from headlift_trainer.metrics import MetricNetworks

    return MetricNetworks.load(args.lpips, args.dreamsim, args.arcface)


def named_path(text: str, option: str) -> tuple[str, Path]:
    """NAME=PATH as a pair; InvalidInputError names the option."""
    name, mark, path = text.partition("=")
    if not mark or not name or not path:
        raise InvalidInputError(
            f"--{option} {text!r} must be NAME=PATH, such as panohead=renders/panohead.", field=option
        )
    return name, Path(path)


def write_report(
    args: argparse.Namespace, title: str, results: dict[str, Any], printed: list[Table], notes: list[str]
) -> None:
    """The page of a command without pictures of its own."""
    from headlift_trainer.evaluation.report import Report

    if args.report:
        write_text(args.report, Report(title, [], results, tables=printed, notes=notes).html())


def finish(
    args: argparse.Namespace, results: dict[str, Any], tables: list[Table], lines: list[str] | None = None
) -> None:
    """Tables to a file where asked for, and the result to standard output."""
    text = "\n\n".join(table.markdown() for table in tables)
    if args.markdown:
        write_text(args.markdown, text + "\n")
    emit(args, results, "\n".join([text, *(lines or [])]))


def write_text(path: Path, text: str) -> None:
    """Write a file, or say why not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}.", reason="NO_FILE") from None
