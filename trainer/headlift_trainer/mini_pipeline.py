"""The shipped weights from nothing but this code and an asset folder: `headlift train everything --preset mini`.

    seeds --synthetic.generate--> heads --synthetic.prepare--> targets
    heads --HeadNetTask, from small pictures to large--> headnet.safetensors
    heads, targets, HeadNet --closed forms, MiniTask, SharpenerTask--> mini.safetensors

`recipes.mini` says how long and how hard. Every step keeps what it has made, so the same command goes on where it was
stopped, within a step too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from headlift.model.mini.headnet import HeadNet, load_headnet
from headlift.model.mini.model import MiniHead
from headlift_trainer.closed_form import fit_closed_forms
from headlift_trainer.datasets.synthetic import Corpus
from headlift_trainer.device import torch_device
from headlift_trainer.evaluation.in_memory import evaluate
from headlift_trainer.headnet.data import PackedHeads
from headlift_trainer.headnet.landmarks import landmark_rows
from headlift_trainer.loop import run
from headlift_trainer.provenance import TrainingCost
from headlift_trainer.recipes.mini import DecoderStage, HeadNetStage, MiniRecipe, SharpenerStage
from headlift_trainer.run_log import RunLog, Step
from headlift_trainer.schedule import Schedule
from headlift_trainer.synthetic.generate import APPEARANCES, generate
from headlift_trainer.synthetic.prepare import TargetMakers, prepare
from headlift_trainer.synthetic.source.seeds import HELD_OUT, SEED_RANGES, SHARES, source_of, sources_in
from headlift_trainer.tasks.headnet import HeadNetTask
from headlift_trainer.tasks.interface import Task
from headlift_trainer.tasks.mini import MiniTask, load_mini, save_checkpoint
from headlift_trainer.tasks.sharpener import SharpenerTask, StoredRenders, store_renders
from headlift_trainer.template.build import builtin_template

_SAMPLES_A_HEAD = 40  # of the closed forms; more of the same heads teach nothing
_SAMPLES_LEAST = 1024  # several for each of the thumbnail head's components
_TARGETS_AT_ONCE = 50  # geometries between two heartbeats


class InterruptedTrainingError(Exception):
    """The command was asked to stop; everything done so far is kept."""


class GracefulStop:
    """How a step may be stopped: at once, or, where `requested` is polled, when it has written a checkpoint."""

    def __init__(self) -> None:
        self.requested = False
        self._polled = False

    @contextmanager
    def polled(self) -> Iterator[None]:
        """While the block goes on, `requested` is polled."""
        self._polled = True
        try:
            yield
        finally:
            self._polled = False

    def request(self) -> None:
        """Stop, politely where that is possible; asked again, at once."""
        if not self._polled or self.requested:
            raise KeyboardInterrupt
        self.requested = True


def seeds_of(config: MiniRecipe, sources: tuple[str, ...]) -> list[int]:
    """The geometry seeds: all that are held out, and training heads shared out over the sources."""
    total = sum(SHARES[name] for name in sources)
    chosen = [seed for seed in sorted(HELD_OUT) if source_of(seed) in sources]
    for name in sources:
        first = SEED_RANGES[name].start + 100 + 5_000 * (config.seed % 4)
        chosen += range(first, first + round(config.heads * SHARES[name] / total))
    return chosen


def limited_to(config: MiniRecipe, heads: int) -> MiniRecipe:
    """The run of so many training heads: a code has no more numbers than a few heads and their mirror images."""
    model = replace(
        config.model,
        geometry_rank=min(config.model.geometry_rank, 2 * heads - 1),
        color_rank=min(config.model.color_rank, 2 * APPEARANCES * heads - 1),
    )
    return replace(
        config,
        model=model,
        thumbnails=min(config.thumbnails, max(_SAMPLES_LEAST, _SAMPLES_A_HEAD * heads)),
    )


class MiniPipeline:
    """All steps, in one folder.

    Args:
        config: The run.
        assets: Folder in the layout that `headlift synth --assets` takes; None trains on procedural heads alone.
        out: Folder for heads, targets, checkpoints and results; `steps.json` there says what was done.
        say: Called with a line at each step.
        stop: How it can be stopped.
        workers: Processes that generate heads.

    Raises:
        ConflictError: The folder was begun with another run.
    """

    def __init__(
        self, config: MiniRecipe, assets: Path | None, out: Path, say: Callable[[str], object],
        stop: GracefulStop | None = None, *, workers: int = 1,
    ) -> None:  # fmt: skip
        self.assets, self.out, self._say, self._workers = assets, out, say, workers
        self._stop = stop or GracefulStop()
        self.sources = sources_in(assets)
        self.seeds = seeds_of(config, self.sources)
        self.training_seeds = [seed for seed in self.seeds if seed not in HELD_OUT]
        self.config = limited_to(config, len(self.training_seeds))
        self._device = torch_device(config.device)
        out.mkdir(parents=True, exist_ok=True)
        self.log = RunLog(out / "steps.json", self._identity())

    def __call__(self) -> RunLog:
        """Do what is left to do; leaves `mini.safetensors`, `mini.json` and `headnet.safetensors` in the folder.

        Raises:
            InterruptedTrainingError: It was asked to stop.
        """
        config = self.config
        self._step("heads", f"{len(self.seeds)} heads from {', '.join(self.sources)}", self._heads)
        self._step("targets", "anchor targets", self._targets)
        start: Path | None = None
        for headnet in config.headnet:
            about = f"HeadNet at {headnet.size} px"
            self._step(f"headnet_{headnet.size}", about, partial(self._headnet, headnet, start))
            start = self._headnet_file(headnet)
        self._step("closed_forms", "closed forms", self._closed_forms)
        before = "closed_forms"
        for stage in config.stages:
            self._step(stage.name, f"{config.name}, {stage.name}", partial(self._decoder, stage, before))
            before = stage.name
        if config.sharpener is not None and config.model.sharpener is not None:
            self._step("renders", "renders to sharpen", partial(self._renders, config.sharpener, before))
            self._step("sharpener", "sharpener", partial(self._sharpener, config.sharpener, before))
            before = "sharpener"
        self._step("release", "release", partial(self._release, before))
        return self.log

    def _step(self, name: str, about: str, work: Callable[[Step], None]) -> None:
        if self.log.is_done(name):
            return
        self._say(about)
        with self.log.attempt(name) as step:
            work(step)
            if not step.done:
                raise InterruptedTrainingError
        self._say(f"  {step.hours:.3f} h" + "".join(f", {k} {v}" for k, v in step.figures.items()))

    def _identity(self) -> dict[str, Any]:
        """What makes the result; device and processes that generate do not."""
        config = self.config
        counted = {name: [source_of(seed) for seed in self.training_seeds].count(name) for name in self.sources}
        schedules = {f"headnet_{stage.size}": stage.schedule for stage in config.headnet}
        schedules |= {stage.name: stage.schedule for stage in config.stages}
        if config.sharpener is not None:
            schedules["sharpener"] = config.sharpener.schedule
        lengths = {f"{name}_minutes": schedule.minutes for name, schedule in schedules.items()}
        return {
            "heads": config.heads,
            "seed": config.seed,
            "training_heads": counted,
            "first_seed": {
                name: min(seed for seed in self.training_seeds if source_of(seed) == name)
                for name, count in counted.items()
                if count
            },
            "held_out_heads": len(self.seeds) - len(self.training_seeds),
        } | {name: None if minutes is None else round(minutes, 3) for name, minutes in lengths.items()}

    # --- heads -------------------------------------------------------------------------------------------------------

    @property
    def _shards(self) -> Path:
        return self.out / "heads"

    @property
    def _target_folder(self) -> Path:
        return self.out / "targets"

    def _heads(self, step: Step) -> None:
        written = 0
        with tqdm(total=len(self.seeds), desc="heads", unit="head") as bar:
            for _, so_far in generate(self.assets, self._shards, self.seeds, self.config.picture_size, self._workers):
                written = so_far
                bar.update()
                self.log.heartbeat(step)
        step.figures |= {"heads": len(self.seeds), "files_written": step.figures.get("files_written", 0) + written}

    def _targets(self, step: Step) -> None:
        makers = TargetMakers(builtin_template(), self._target_folder, self.assets)
        for start in range(0, len(self.seeds), _TARGETS_AT_ONCE):
            prepare(self._shards, self._target_folder, self.seeds[start : start + _TARGETS_AT_ONCE], makers)
            self.log.heartbeat(step)

    # --- networks ----------------------------------------------------------------------------------------------------

    def _headnet(self, stage: HeadNetStage, start: Path | None, step: Step) -> None:
        """HeadNet at one size; ``start`` is the result of the size before."""
        config = self.config.model.encoder.headnet
        rows = landmark_rows(builtin_template(), config.landmarks)
        train, held_out = (
            PackedHeads(self._shards, self._target_folder, seeds, rows, self.out / f"headnet_{name}.npy")
            for name, seeds in (("train", self.training_seeds), ("held_out", sorted(HELD_OUT)))
        )
        torch.manual_seed(self.config.seed)
        net = HeadNet(config, rows) if start is None else load_headnet(start).train()
        net.requires_grad_(True).to(self._device)
        task = HeadNetTask(net, train, held_out, stage.size, stage.people)
        self._train(step, task, stage.schedule, f"headnet_{stage.size}")
        if step.done and stage is self.config.headnet[-1]:
            (self.out / "headnet.safetensors").write_bytes(self._headnet_file(stage).read_bytes())
            for path in self.out.glob("headnet_*.npy"):  # gigabytes, and nothing asks for them again
                path.unlink()

    def _headnet_file(self, stage: HeadNetStage) -> Path:
        return self.out / f"headnet_{stage.size}" / "headnet.safetensors"

    @cached_property
    def _corpus(self) -> Corpus:
        held_out = [seed for seed in self.seeds if seed in HELD_OUT]
        return Corpus.of(self._shards, self._target_folder, builtin_template(), self.training_seeds, held_out)

    def _closed_forms(self, step: Step) -> None:
        model, figures = fit_closed_forms(self.config, self._corpus.train, self.out / "headnet.safetensors")
        step.figures |= figures | evaluate(model, self._corpus.held_out, self._corpus.train)
        self._save(model, "after_closed_forms")

    def _decoder(self, stage: DecoderStage, before: str, step: Step) -> None:
        task = MiniTask(self._load(before).train(), self._corpus, stage, self.config.name)
        steps = self._train(step, task, stage.schedule, task.name)
        step.figures |= {"optimiser_steps": steps, "samples": steps * stage.batch_size}
        if step.done:
            self._save(task.model, f"after_{stage.name}")

    def _renders(self, stage: SharpenerStage, before: str, step: Step) -> None:
        store_renders(
            self._load(before).eval(), self._corpus.train, self._stored, stage.render_minutes, stage.schedule.seed
        )

    def _sharpener(self, stage: SharpenerStage, before: str, step: Step) -> None:
        model = self._load(before)
        task = SharpenerTask(model, StoredRenders(self._stored, stage.batch_size), f"{self.config.name}_sharpener")
        self._train(step, task, stage.schedule, task.name)
        if step.done:
            lost = step.figures["unsharpened_psnr"] - step.figures["sharpened_psnr"]
            step.figures["sharpener_kept"] = worth = bool(lost <= stage.worst_loss_db)
            self._save(model if worth else self._load(before), "after_sharpener")
            self._stored.unlink()

    def _release(self, before: str, step: Step) -> None:
        """The weights in half precision, with the figures of all steps."""
        figures = {k: v for each in self.log for k, v in each.figures.items() if isinstance(v, float)}
        self._save(self._load(before), self.config.name, torch.float16, figures)
        (self.out / f"{self.config.name}.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        for path in self.out.glob("after_*.safetensors"):
            path.unlink()

    # --- files -------------------------------------------------------------------------------------------------------

    @property
    def _stored(self) -> Path:
        return self.out / "renders.npz"

    def _load(self, step: str) -> MiniHead:
        return load_mini(self.out / f"after_{step}.safetensors", self.config.model).to(self._device)

    def _save(
        self, model: MiniHead, name: str, dtype: torch.dtype = torch.float32, figures: dict[str, float] | None = None
    ) -> None:
        counts = [step.figures for step in self.log]
        cost = TrainingCost(
            60 * self.log.hours,
            sum(each.get("optimiser_steps", 0) for each in counts),
            sum(each.get("samples", 0) for each in counts),
        )
        path = self.out / f"{name}.safetensors"
        save_checkpoint(model, self.config, path, self._corpus.train, cost, figures or {}, dtype=dtype)

    def _train(self, step: Step, task: Task, schedule: Schedule, folder: str) -> int:
        """Train a task in a folder of its own; how many steps it has taken. An early end leaves `step` undone."""

        def stop() -> bool:
            self.log.heartbeat(step)
            return self._stop.requested

        with self._stop.polled():
            result = run(task, schedule, self.out / folder, stop=stop)
        step.done = result.finished
        step.figures |= {name: round(value, 4) for name, value in result.figures.items()}
        return result.steps
