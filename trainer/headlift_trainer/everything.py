"""The shipped weights from nothing but this code and an asset folder: `headlift train everything --preset mini`.

    seeds --synthetic.generate--> heads --synthetic.prepare--> targets
    heads --headnet task at 128, then 192 px--> headnet.safetensors
    heads, targets, HeadNet --stages: closed forms, pictures, sharpener--> mini.safetensors

Every step keeps what it has made, so the same command goes on where it was stopped, within a step too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from headlift.errors import InvalidInputError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.mini.headnet import HeadNet, load_headnet
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift_trainer.headnet.data import PackedHeads
from headlift_trainer.headnet.landmarks import landmark_rows
from headlift_trainer.headnet.task import HeadNetTask
from headlift_trainer.loop import run
from headlift_trainer.recipes import Stage, TrainConfig, mini
from headlift_trainer.stages import Corpus, SharpenerTask, Spent, StageTask, closed_forms, draw_renders, keep
from headlift_trainer.steps import Step, Steps
from headlift_trainer.synthetic.generate import APPEARANCES, generate
from headlift_trainer.synthetic.prepare import TargetMakers, prepare
from headlift_trainer.synthetic.source.seeds import HELD_OUT, SEED_RANGES, SHARES, source_of, sources_in
from headlift_trainer.task import Schedule, Task
from headlift_trainer.template.build import builtin_template

PRESETS = ("mini",)
_SAMPLES_A_HEAD = 40  # of the closed forms; more of the same heads teach nothing
_SAMPLES_LEAST = 1024  # several for each of the thumbnail head's components
_PSNR_LOST = 0.02  # dB on renders held back: a sharpener that costs more is not kept
_SIZE = 256  # pixels a side of generated pictures
_HEADNET_STAGES = ((128, 16, 0.45, 1e-3), (192, 12, 0.55, 7e-4))  # side in pixels, people, share of the time, rate


class InterruptedTrainingError(Exception):
    """The command was asked to stop; everything done so far is kept."""


class Patience:
    """How a step may be stopped: at once, or, where `asked` is looked at, when it has written a checkpoint."""

    def __init__(self) -> None:
        self.asked = False
        self._waits = False  # whether what goes on looks at `asked`

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block goes on, `asked` is looked at."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def ask(self) -> None:
        """Stop, politely where that is possible; asked again, at once."""
        if not self._waits or self.asked:
            raise KeyboardInterrupt
        self.asked = True


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Raises:
        InvalidInputError: A value out of range.
    """

    heads: int = 1000  # geometries to train on, each in two appearances and 14 views
    headnet_hours: float = 1.0
    mini_hours: float = 1.5
    workers: int = 1  # processes that generate
    seed: int = 0

    def __post_init__(self) -> None:
        if self.heads < 4 or self.headnet_hours <= 0 or self.mini_hours <= 0 or self.workers < 1:
            raise InvalidInputError(f"{self} asks for too little: at least 4 heads, some hours and one worker.")


def seeds_of(plan: Plan, sources: tuple[str, ...]) -> list[int]:
    """The geometry seeds: all that are held out, and training heads shared out over the sources."""
    total = sum(SHARES[name] for name in sources)
    chosen = [seed for seed in sorted(HELD_OUT) if source_of(seed) in sources]
    for name in sources:
        first = SEED_RANGES[name].start + 100 + 5_000 * (plan.seed % 4)
        chosen += range(first, first + round(plan.heads * SHARES[name] / total))
    return chosen


def recipe_of(plan: Plan, heads: int) -> TrainConfig:
    """The recipe of so many training heads; of a few, a code has no more numbers than they and their mirror images."""
    recipe = mini(plan.mini_hours)
    decoder = recipe.model.decoder
    most = 2 * heads - 1, 2 * APPEARANCES * heads - 1
    decoder = replace(
        decoder, geometry_rank=min(decoder.geometry_rank, most[0]), color_rank=min(decoder.color_rank, most[1])
    )
    return replace(
        recipe,
        model=replace(recipe.model, decoder=decoder),
        seed=plan.seed,
        thumbnails=min(recipe.thumbnails, max(_SAMPLES_LEAST, _SAMPLES_A_HEAD * heads)),
    )


class Everything:
    """All steps, in one folder.

    Args:
        assets: Folder in the layout that `headlift synth --assets` takes; None trains on procedural heads alone.
        out: Folder for heads, targets, checkpoints and results; `steps.json` there says what was done.
        plan: How much of everything.
        say: Called with a line at each step.
        patience: How it can be stopped.

    Raises:
        ConflictError: The folder was begun with another plan.
    """

    def __init__(
        self, assets: Path | None, out: Path, plan: Plan, say: Callable[[str], object], patience: Patience | None = None
    ) -> None:
        self.assets, self.out, self.plan, self._say = assets, out, plan, say
        self.patience = patience or Patience()
        self.sources = sources_in(assets)
        self.seeds = seeds_of(plan, self.sources)
        self.known = [seed for seed in self.seeds if seed not in HELD_OUT]
        self.recipe = recipe_of(plan, len(self.known))
        out.mkdir(parents=True, exist_ok=True)
        self.steps = Steps(out / "steps.json", self._identity())

    def __call__(self) -> Steps:
        """Do what is left to do; leaves `mini.safetensors`, `mini.json` and `headnet.safetensors` in the folder.

        Raises:
            InterruptedTrainingError: It was asked to stop.
        """
        self._step("heads", f"{len(self.seeds)} heads from {', '.join(self.sources)}", self._heads)
        self._step("targets", "anchor targets", self._targets)
        for index, (size, *_) in enumerate(_HEADNET_STAGES):
            self._step(f"headnet_{size}", f"HeadNet at {size} px", lambda step, i=index: self._headnet(step, i))  # type: ignore[misc]
        self._step("closed_forms", "closed forms", self._closed_forms)
        before = "closed_forms"
        for stage in self.recipe.stages:
            work: Callable[[Step], None] = lambda step, s=stage, b=before: self._stage(step, s, b)  # type: ignore[misc]  # noqa: E731
            self._step(stage.name, f"mini, {stage.name}: {stage.minutes / 60:.2f} h", work)
            before = stage.name
        if self.recipe.model.sharpener is not None and self.recipe.sharpener_minutes > 0:
            self._step("renders", "renders to sharpen", lambda step: self._renders(step, before))
            self._step("sharpener", "sharpener", lambda step: self._sharpener(step, before))
            before = "sharpener"
        self._step("release", "release", lambda step: self._release(step, before))
        return self.steps

    def _step(self, name: str, about: str, work: Callable[[Step], None]) -> None:
        if self.steps.is_done(name):
            return
        self._say(about)
        with self.steps.attempt(name) as step:
            work(step)
            if not step.done:
                raise InterruptedTrainingError
        self._say(f"  {step.hours:.3f} h" + "".join(f", {k} {v}" for k, v in step.figures.items()))

    def _identity(self) -> dict[str, Any]:
        """What makes the result; how many processes generate does not."""
        plan = {name: value for name, value in asdict(self.plan).items() if name != "workers"}
        counted = {name: [source_of(seed) for seed in self.known].count(name) for name in self.sources}
        first = {name: min(seed for seed in self.known if source_of(seed) == name) for name, n in counted.items() if n}
        return plan | {
            "training_heads": counted,
            "first_seed": first,
            "held_out_heads": len(self.seeds) - len(self.known),
            "stages_minutes": {stage.name: round(stage.minutes, 3) for stage in self.recipe.stages},
            "sharpener_minutes": round(self.recipe.sharpener_minutes, 3),
        }

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
            for _, so_far in generate(self.assets, self._shards, self.seeds, _SIZE, self.plan.workers):
                written = so_far
                bar.update()
                self.steps.beat(step)
        step.figures |= {"heads": len(self.seeds), "files_written": step.figures.get("files_written", 0) + written}

    def _targets(self, step: Step) -> None:
        makers = TargetMakers(builtin_template(), self._target_folder, self.assets)
        for start in range(0, len(self.seeds), 50):
            prepare(self._shards, self._target_folder, self.seeds[start : start + 50], makers)
            self.steps.beat(step)

    # --- networks ----------------------------------------------------------------------------------------------------

    def _headnet(self, step: Step, index: int) -> None:
        """One stage of HeadNet: small pictures first, where steps are cheap, then larger ones."""
        config = named_config("mini").encoder.headnet
        assert config is not None
        size, people, share, rate = _HEADNET_STAGES[index]
        rows = landmark_rows(builtin_template(), config.landmarks)
        train, held_out = (
            PackedHeads(self._shards, self._target_folder, seeds, rows, self.out / f"headnet_{name}.npy")
            for name, seeds in (("train", self.known), ("held_out", sorted(HELD_OUT)))
        )
        torch.manual_seed(self.plan.seed)
        net = HeadNet(config, rows) if index == 0 else load_headnet(self._headnet_file(index - 1)).train()
        net.requires_grad_(True)
        schedule = Schedule(
            minutes=60 * share * self.plan.headnet_hours, learning_rate=rate, weight_decay=0.02, betas=(0.9, 0.98),
            ema_decay=0.998, precision="bf16", checkpoint_minutes=5.0, keep=1, seed=self.plan.seed,
        )  # fmt: skip
        self._run(step, HeadNetTask(net, train, held_out, size, people), schedule, f"headnet_{size}")
        if step.done and index == len(_HEADNET_STAGES) - 1:
            (self.out / "headnet.safetensors").write_bytes(self._headnet_file(index).read_bytes())
            for path in self.out.glob("headnet_*.npy"):  # gigabytes, and nothing asks for them again
                path.unlink()

    def _headnet_file(self, index: int) -> Path:
        return self.out / f"headnet_{_HEADNET_STAGES[index][0]}" / "headnet.safetensors"

    @cached_property
    def _corpus(self) -> Corpus:
        held_out = [seed for seed in self.seeds if seed in HELD_OUT]
        return Corpus.of(self._shards, self._target_folder, builtin_template(), self.known, held_out)

    def _closed_forms(self, step: Step) -> None:
        model, figures = closed_forms(self.recipe, self._corpus, self.out / "headnet.safetensors")
        step.figures |= figures
        self._keep(model, "closed_forms")

    def _stage(self, step: Step, stage: Stage, before: str) -> None:
        model = self._model(before).train()
        task = StageTask(model, self._corpus, stage, self.recipe)
        result = self._run(step, task, task.schedule, task.name)
        step.figures |= {"optimiser_steps": result, "samples": result * stage.batch_size}
        if step.done:
            self._keep(model, stage.name)

    def _renders(self, step: Step, before: str) -> None:
        """Half of the sharpener's time draws what it learns from: decoding is what is slow."""
        minutes, seed = self.recipe.sharpener_minutes / 2, self.recipe.seed + 100
        draw_renders(self._model(before).eval(), self._corpus.train, self._drawn, minutes, seed)

    def _sharpener(self, step: Step, before: str) -> None:
        model = self._model(before)
        with np.load(self._drawn) as drawn:
            rendered, truth = drawn["rendered"], drawn["truth"]
        task = SharpenerTask(model, rendered, truth, self.recipe.sharpener_minutes / 2, self.recipe.seed + 100)
        self._run(step, task, task.schedule, task.name)
        if step.done:
            found = step.figures
            worth = bool(found["sharpened_psnr"] >= found["unsharpened_psnr"] - _PSNR_LOST)
            found["sharpener_kept"] = worth
            self._keep(model if worth else self._model(before), "sharpener")
            self._drawn.unlink()

    def _release(self, step: Step, before: str) -> None:
        """The weights in half precision, with the figures of all steps."""
        figures = {k: v for each in self.steps for k, v in each.figures.items() if isinstance(v, float)}
        self._keep(self._model(before), self.recipe.name, torch.float16, figures)
        (self.out / f"{self.recipe.name}.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        for path in self.out.glob("after_*.safetensors"):
            path.unlink()

    # --- files -------------------------------------------------------------------------------------------------------

    @property
    def _drawn(self) -> Path:
        return self.out / "renders.npz"

    def _model(self, step: str) -> PercHead:
        return load_checkpoint(self.out / f"after_{step}.safetensors", expect=self.recipe.model)[0]

    def _keep(
        self, model: PercHead, name: str, dtype: torch.dtype = torch.float32, figures: dict[str, Any] | None = None
    ) -> None:
        numbers = [step.figures for step in self.steps]
        spent = Spent(
            60 * self.steps.hours,
            sum(n.get("optimiser_steps", 0) for n in numbers),
            sum(n.get("samples", 0) for n in numbers),
        )
        path = self.out / (f"{name}.safetensors" if figures is not None else f"after_{name}.safetensors")
        keep(model, self.recipe, path, self._corpus.train, spent, figures or {}, dtype=dtype)

    def _run(self, step: Step, task: Task, schedule: Schedule, folder: str) -> int:
        """Train a task in a folder of its own; how many steps it has taken. An early end leaves `step` undone."""

        def stop() -> bool:
            self.steps.beat(step)
            return self.patience.asked

        with self.patience.waiting():
            result = run(task, schedule, self.out / folder, stop=stop)
        step.done = result.finished
        step.figures |= {name: round(value, 4) for name, value in result.figures.items()}
        return result.steps
