"""bench train: how fast training is on this machine. Registered below `headlift bench`."""

from __future__ import annotations

import argparse

from headlift.commands.bench import emit_metrics
from headlift.commands.session import Subparsers, add_command, say


def register(kinds: Subparsers) -> None:
    """Add the command to those of `headlift bench`."""
    parser = add_command(kinds, "train", "time training steps: data, network, splatting, loss, optimiser", bench_train)
    parser.add_argument("--model", default="mini", help="size of the model (default: mini)")
    parser.add_argument("--loss", default="l1", choices=["l1", "dino"], help="what pictures are compared by")
    parser.add_argument("--batch-size", type=int, default=2, help="heads in a step (default: 2)")
    parser.add_argument("--views", type=int, default=3, help="views of each beside the input's (default: 3)")
    parser.add_argument("--size", type=int, default=256, help="side of the compared pictures (default: 256)")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--checkpoint-activations", action="store_true", help="less memory, more time")
    parser.add_argument("--steps", type=int, default=5, help="of which the fastest counts (default: 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def bench_train(args: argparse.Namespace) -> int:
    """``headlift bench train``."""
    import torch

    from headlift_trainer.bench import BenchTask
    from headlift_trainer.bench import bench_train as measure

    what = BenchTask(
        args.model,
        args.loss,
        args.batch_size,
        args.views,
        args.size,
        args.precision,
        args.checkpoint_activations,
    )
    say(args, f"{args.steps} steps of {what.model}, {what.batch_size} heads each")
    device = None if args.device == "auto" else torch.device(args.device)
    emit_metrics(args, measure(what, steps=args.steps, device=device))
    return 0
