"""The paper's protocols on real people: any source of posed pictures that shows a head from several sides.

The head is rebuilt with the model's own camera estimate, as it is served, and turned by the true motion between the
input's and the target's camera, so that no error in a data set's head frame counts against the model.

Legend: C cameras, S picture side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol as Interface

import torch
from torch import Tensor

from headlift.model.sizes import HeadModel
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.stages.reconstruct import Reconstruct
from headlift_trainer.evaluation.folders import INPUTS, target_name, write_picture
from headlift_trainer.evaluation.protocols import Pair, Protocol, pairs
from headlift_trainer.evaluation.records import Records
from headlift_trainer.metrics import MetricNetworks, measure


class Moment(Interface):
    """One person at one time, seen by C cameras; pictures are read when they are asked for."""

    @property
    def subject(self) -> str:
        """Who, and which moment: a name without slashes."""
        ...

    @property
    def view_names(self) -> Sequence[str]:
        """C names of cameras."""
        ...

    @property
    def viewmats(self) -> Tensor:
        """[C, 4, 4], world to camera, in the canonical head frame."""
        ...

    def picture(self, view: int) -> tuple[Tensor, Cameras]:
        """The portrait crop of one view, [4, S, S] premultiplied RGB and alpha in 0..1, and its camera (C = 1)."""
        ...


@dataclass(frozen=True)
class Task:
    """One input of one moment, and the targets asked of it."""

    moment: Moment
    input: int
    pairs: tuple[Pair, ...]


def tasks(moments: Iterable[Moment], protocol: Protocol, *, vertical: bool = False) -> Iterator[Task]:
    """Every input of every moment, with its targets."""
    for moment in moments:
        chosen = pairs(protocol, moment.viewmats, vertical=vertical)
        for given in dict.fromkeys(pair.input for pair in chosen):
            yield Task(moment, given, tuple(pair for pair in chosen if pair.input == given))


class AvatarEvaluation:
    """Measures a model on tasks.

    Args:
        model: In evaluation mode.
        networks: Learned metrics, where there are any.
        sharpen: Whether the model's sharpener is used, as the paper does.
    """

    def __init__(self, model: HeadModel, networks: MetricNetworks | None = None, *, sharpen: bool = True) -> None:
        self.model = model
        self._stage = Reconstruct(model)
        self.networks = networks or MetricNetworks()
        self.sharpen = sharpen
        self.records = Records()

    @torch.no_grad()
    def __call__(self, task: Task) -> dict[int, Tensor]:
        """Measure one task; renders [4, S, S] by target view."""
        moment, names = task.moment, task.moment.view_names
        picture, camera = moment.picture(task.input)
        head, estimate = self._reconstruct(picture, camera)
        renders: dict[int, Tensor] = {}
        for pair in task.pairs:
            truth, target = moment.picture(pair.target)
            views = rasterize(head, moved(estimate, camera, target))
            rgb = self.model.sharpen(views.rgb) if self.sharpen else views.rgb
            renders[pair.target] = render = torch.cat([rgb, views.alpha], 1)[0]
            values = measure(render[None], truth[None], self.networks)
            view = (names[pair.target], pair.group)
            self.records.add("ours", moment.subject, names[task.input], [view], values)
        return renders

    def _reconstruct(self, picture: Tensor, camera: Cameras) -> tuple[Gaussians, Cameras]:
        made = self._stage(Portrait(picture[:3], picture[3:], torch.eye(2, 3, dtype=torch.float64)))
        return made.gaussians, made.camera if made.camera is not None else camera


def moved(estimate: Cameras, source: Cameras, target: Cameras) -> Cameras:
    """The target's camera as the head sees it whose input camera was estimated: the true motion, from the estimate."""
    motion = target.viewmats.double() @ torch.linalg.inv(source.viewmats.double())
    return replace(target, viewmats=(motion @ estimate.viewmats.double()).float())


def export(task: Task, folder: Path) -> int:
    """Write a task's input and truths as ``folders.py`` reads them, for other methods; returns how many truths."""
    moment, names = task.moment, task.moment.view_names
    given = names[task.input]
    write_picture(folder / INPUTS / moment.subject / f"{given}.png", moment.picture(task.input)[0])
    for pair in task.pairs:
        target = target_name(pair.group, moment.subject, given, names[pair.target])
        write_picture(folder / f"{target}.png", moment.picture(pair.target)[0])
    return len(task.pairs)
