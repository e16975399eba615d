"""train: run a recipe, in this process or under Ray."""

from __future__ import annotations

import argparse
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlift.commands.session import Subparsers, add_command, emit, say
from headlift_trainer.commands.train_ablation import register_ablation
from headlift_trainer.commands.train_editor import register_editor

if TYPE_CHECKING:
    from headlift_trainer.loop import RunResult
    from headlift_trainer.recipes.config import RecipeConfig
    from headlift_trainer.tasks.build import RunPaths

# Named here as well as in `headlift_trainer.recipes`, which takes seconds to import; a test holds the two together.
RECIPES = (
    "reconstruction", "data_2d", "data_multi_view", "data_both", "loss_lpips_l1", "loss_dino", "loss_sam", "loss_full",
    "without_shp", "shp", "shp_lpips_l1", "light", "light_s", "edit", "edit_light",
)  # fmt: skip


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("train", help="train a model", description="train a model")
    kinds = parser.add_subparsers(metavar="RECIPE", required=True)
    add_command(kinds, "list", "the recipes there are, and what each is", list_recipes)
    for name in RECIPES:
        _add_recipe(kinds, name)
    _add_everything(kinds)
    register_ablation(kinds)
    register_editor(kinds)


def _add_everything(kinds: Subparsers) -> None:
    parser = add_command(kinds, "everything", "the shipped weights, from code and an asset folder", everything)
    parser.add_argument("--preset", default="mini", choices=["mini"], help="which weights (default: mini)")
    parser.add_argument("--assets", type=Path, metavar="DIR", help="asset folder (default: procedural heads alone)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for everything; also to go on")
    recipe = parser.add_argument_group("recipe (default: what the shipped weights took)")
    recipe.add_argument("--heads", type=int, help="geometries to train on")
    recipe.add_argument("--headnet-hours", type=float, metavar="H", help="of wall time for HeadNet")
    recipe.add_argument("--hours", type=float, metavar="H", help="of wall time for decoder and sharpener")
    recipe.add_argument("--seed", type=int)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--workers", type=int, default=1, help="processes that generate heads (default: 1)")


def everything(args: argparse.Namespace) -> int:
    """``headlift train everything``."""
    from headlift_trainer.mini_pipeline import GracefulStop, InterruptedTrainingError, MiniPipeline
    from headlift_trainer.recipes.mini import mini

    names = ("heads", "headnet_hours", "hours", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    stop = GracefulStop()
    config = mini(**given, device=args.device)
    pipeline = MiniPipeline(config, args.assets, args.out, lambda line: say(args, line), stop, workers=args.workers)
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, frame: stop.request()) for number in signals]
    finished = False
    try:
        pipeline()
        finished = True
    except (InterruptedTrainingError, KeyboardInterrupt):
        pass
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    rows = [{"step": s.name, "hours": round(s.hours, 4), "done": s.done, "figures": s.figures} for s in pipeline.log]
    lines = [f"{row['hours']:>8.3f} h  {row['step']}{'' if row['done'] else ', not done'}" for row in rows]
    lines.append("done" if finished else "stopped; the same command goes on")
    emit(args, {"finished": finished, "hours": round(pipeline.log.hours, 4), "steps": rows}, "\n".join(lines))
    return 0 if finished else 130


def _add_recipe(kinds: Subparsers, name: str) -> None:
    parser = add_command(kinds, name, f"the run {name} of the paper", train)
    parser.set_defaults(recipe=name)
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="NAME=DIR", help="data sets: nersemble=, cafca=, ffhq=, generated="
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder or s3://BUCKET/PREFIX for the results")
    parser.add_argument("--networks", type=Path, metavar="DIR", help="folder with DINOv2, SAM 2.1 and LPIPS files")
    parser.add_argument("--start", type=Path, metavar="FILE", help="checkpoint to start from")
    parser.add_argument(
        "--flame", type=Path, metavar="FILE", help="FLAME model for the template (its licence; default: built-in head)"
    )
    parser.add_argument("--features", type=Path, metavar="DIR", help="keep frozen features here, for the next time")
    parser.add_argument("--partial", action="store_true", help="go without missing data sets")
    parser.add_argument("--fresh", action="store_true", help="forget the checkpoints in --out")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    _add_schedule(parser)
    _add_workers(parser)


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("schedule (default: the recipe's)")
    group.add_argument("--steps", type=int, metavar="N")
    group.add_argument("--minutes", type=float, metavar="M")
    group.add_argument("--learning-rate", type=float, metavar="X")
    group.add_argument("--batch-size", type=int, metavar="B", help="heads in a micro-batch")
    group.add_argument("--accumulate", type=int, metavar="N", help="micro-batches a step, shared by the workers")
    group.add_argument("--precision", choices=["fp32", "bf16"])
    group.add_argument("--checkpoint-activations", action="store_true", default=None, help="less memory, more time")
    group.add_argument("--seed", type=int)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("workers (without these: one process, no Ray)")
    group.add_argument("--workers", metavar="N|MIN-MAX", help="Ray workers; a range is elastic")
    group.add_argument("--ray", metavar="ADDRESS", help="Ray cluster (default: one on this machine)")
    group.add_argument("--cpus", type=float, default=1.0, help="of each worker (default: 1)")
    group.add_argument("--gpus", type=float, default=0.0, help="of each worker (default: 0)")


def list_recipes(args: argparse.Namespace) -> int:
    """``headlift train list``."""
    from headlift_trainer.recipes import RECIPES as FOUND

    configs = [recipe() for recipe in FOUND.values()]
    rows = [
        {
            "name": c.name,
            "about": c.about,
            "task": c.task,
            "model": c.model.name,
            "data": [name for name, _ in c.mixture],
            "steps": c.schedule.steps,
            "heads_a_step": c.batch_size * c.schedule.accumulate,
        }
        for c in configs
    ]
    text = "\n".join(f"{row['name']:16} {row['steps']:>7} steps  {row['about']}" for row in rows)
    emit(args, {"recipes": rows}, text)
    return 0


def train(args: argparse.Namespace) -> int:
    """``headlift train RECIPE``."""
    from headlift_trainer.recipes import RECIPES as FOUND
    from headlift_trainer.tasks.build import RunPaths, parse_data

    config = changed(FOUND[args.recipe](), args)
    data = tuple((name, folder.absolute()) for name, folder in parse_data(args.data).items())
    # Absolute, as workers start elsewhere.
    given = (args.networks, args.start, args.features, args.flame)
    networks, start, features, flame = (path and path.expanduser().absolute() for path in given)
    paths = RunPaths(data, networks, start, features, args.partial, flame)
    say(args, f"{config.name}: {config.about}; ends after {config.schedule.steps} steps")
    result = _under_ray(args, config, paths) if args.workers else _in_process(args, config, paths)
    emit(args, _facts(result), _text(result))
    return 0 if result.finished else 130


def changed(config: RecipeConfig, args: argparse.Namespace) -> RecipeConfig:
    """The recipe with the options' values in place of its own."""
    names = ("steps", "minutes", "learning_rate", "accumulate", "precision", "checkpoint_activations", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "minutes" in given and "steps" not in given:
        given["steps"] = None
    config = replace(config, schedule=replace(config.schedule, **given), device=args.device)
    return config if args.batch_size is None else replace(config, batch_size=args.batch_size)


def _in_process(args: argparse.Namespace, config: RecipeConfig, paths: RunPaths) -> RunResult:
    """In this process; a polite end (SIGTERM) writes a checkpoint first."""
    from headlift_trainer.device import torch_device
    from headlift_trainer.loop import run
    from headlift_trainer.tasks.build import build_task

    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        task = build_task(config, paths, torch_device(config.device))
        return run(task, config.schedule, args.out, resume=not args.fresh, quiet=args.json, stop=lambda: bool(asked))
    finally:
        signal.signal(signal.SIGTERM, before)


def _under_ray(args: argparse.Namespace, config: RecipeConfig, paths: RunPaths) -> RunResult:
    """On several workers."""
    from headlift_trainer.job import Workers, run_job
    from headlift_trainer.tasks.build import build_task

    least, most = _range(args.workers)
    # A step needs a micro-batch for every worker.
    schedule = replace(config.schedule, accumulate=max(config.schedule.accumulate, most))
    return run_job(
        partial(build_task, config, paths),
        schedule,
        args.out if "://" in args.out else Path(args.out),
        Workers(least=least, most=most, cpus=args.cpus, gpus=args.gpus),
        resume=not args.fresh,
        address=args.ray,
    )


def _range(text: str) -> tuple[int, int]:
    from headlift.errors import InvalidInputError

    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise InvalidInputError(f"--workers is {text!r}; write a number, or a range as 1-4.") from None


def _facts(result: RunResult) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(result)


def _text(result: RunResult) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in result.figures.items())
    state = "done" if result.finished else "stopped; the same command goes on"
    return f"{state}: {result.steps} steps in {result.minutes:.1f} min; {figures or 'no figures yet'}"
