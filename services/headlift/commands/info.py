"""info: parameters and FLOPs of a model size, or what a checkpoint holds."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from headlift.commands.session import Subparsers, add_command, emit


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "info", "parameters and FLOPs per module of a model size or a checkpoint", info)
    parser.add_argument("config", help="base, light, light_s, mini, or a checkpoint file (.safetensors)")


def info(args: argparse.Namespace) -> int:
    """``headlift info``."""
    from headlift.commands.model_info import describe
    from headlift.model.checkpoint import load_checkpoint, weights_hash
    from headlift.model.sizes import named_config

    path, extra, lines = Path(args.config), {}, ""
    if path.suffix == ".safetensors":
        model, provenance = load_checkpoint(path)
        config = model.config
        extra = {"weights_hash": weights_hash(path), "provenance": asdict(provenance)}
        lines = f"\nweights {extra['weights_hash']}\n" + "\n".join(
            f"{k}: {v}" for k, v in asdict(provenance).items() if v
        )
    else:
        config = named_config(args.config)
    described = describe(config)
    data = {
        "config": config.name,
        "gaussian_count": config.decoder.num_gaussians,
        "trained_params": described.trained_params,
        "modules": [asdict(row) for row in described.rows],
    }
    emit(args, data | extra, described.table() + lines)
    return 0
