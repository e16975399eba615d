"""The sharpener alone, on renders of a frozen model (paper, section 3.1, appendix E): drawn afresh, or stored before.

Legend: C pictures of a batch, R stored renders, S picture side.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.checkpoint import save_checkpoint
from headlift.model.sizes import HeadModel
from headlift.model.splat import rasterize
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.synthetic import SyntheticHeads, input_weights
from headlift_trainer.losses import sharpness_loss
from headlift_trainer.metrics import psnr
from headlift_trainer.portraits import reconstruct
from headlift_trainer.profiler import mark_backward, phase
from headlift_trainer.provenance import TrainingCost, provenance
from headlift_trainer.tasks.reconstruction import Batch, ReconstructionTask

Pair = tuple[Tensor, Tensor]  # what the model rendered and the true pictures, each [C, 3, S, S] in 0..1
_SHOWN = 4  # rows of the picture grid
_VIEWS = 4  # stored of each head
_HEADS = 600  # stored at most; 1 GB at 256 px
_HELD_OUT = 20  # one of so many stored renders is held back


class RenderSource(Protocol):
    """Renders with their true pictures, and how sharpened ones are judged."""

    def draw(self, generator: torch.Generator) -> Any:
        """A batch on the CPU."""
        ...

    def pair(self, batch: Any) -> Pair:
        """Renders and truth of a batch that is on the device."""
        ...

    def judge(self, sharp: Tensor, pair: Pair) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of sharpened renders, and its parts."""
        ...

    def held_out(self) -> Iterator[Pair]:
        """The same held-out renders every time."""
        ...


class FreshRenders:
    """Renders of a reconstruction task's batches, judged by its objective."""

    def __init__(self, reconstruction: ReconstructionTask) -> None:
        self._frozen = reconstruction

    def draw(self, generator: torch.Generator) -> Batch:
        """See RenderSource."""
        return self._frozen.draw(generator)

    @torch.no_grad()
    def pair(self, batch: Batch) -> Pair:
        """See RenderSource."""
        return torch.cat(self._frozen.render(batch)), torch.cat([target[:, :3] for target in batch.targets])

    def judge(self, sharp: Tensor, pair: Pair) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See RenderSource."""
        return self._frozen.judge(sharp, pair[1])

    def held_out(self) -> Iterator[Pair]:
        """See RenderSource."""
        for sample in self._frozen.held_out:
            rendered = self._frozen.view(sample)
            yield rendered, sample.targets[:, :3].to(rendered)


class StoredRenders:
    """Renders that `store_renders` stored, judged by `sharpness_loss`.

    Args:
        path: The file.
        batch_size: C.
    """

    def __init__(self, path: Path, batch_size: int = 6) -> None:
        with np.load(path) as stored:
            pictures = [torch.from_numpy(stored[name]) for name in ("rendered", "truth")]
        held = max(1, len(pictures[0]) // _HELD_OUT)
        self._held = [part[:held] for part in pictures]
        self._train = [part[held:] for part in pictures]
        self._batch_size = batch_size

    def draw(self, generator: torch.Generator) -> Pair:
        """See RenderSource."""
        rows = torch.randint(len(self._train[0]), (self._batch_size,), generator=generator)
        rendered, truth = (part[rows].float() / 255 for part in self._train)
        return rendered, truth

    def pair(self, batch: Pair) -> Pair:
        """See RenderSource."""
        return batch

    def judge(self, sharp: Tensor, pair: Pair) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See RenderSource."""
        loss = sharpness_loss(sharp, *pair)
        return loss, {"sharpness": loss}

    def held_out(self) -> Iterator[Pair]:
        """See RenderSource."""
        for rendered, truth in zip(*(torch.split(part, self._batch_size) for part in self._held), strict=True):
            yield rendered.float() / 255, truth.float() / 255


class SharpenerTask:
    """Trains a model's sharpener; see `headlift_trainer.tasks.interface.Task`. The rest does not change.

    Args:
        model: The whole model, which checkpoints for others hold.
        renders: What is learned from.
        name: Of the task and of the released file.
        data: Words for the checkpoint's provenance: data sets with their licences.

    Raises:
        InvalidInputError: The model has no sharpener.
    """

    def __init__(self, model: HeadModel, renders: RenderSource, name: str, data: tuple[str, ...] = ()) -> None:
        if model.sharpener is None:
            raise InvalidInputError(f"The model {model.config.name!r} has no sharpener to train.")
        self._model, self._sharpener, self._renders = model, model.sharpener, renders
        self.name, self._data = name, data

    @property
    def module(self) -> nn.Module:
        """The sharpener."""
        return self._sharpener

    def parameters(self) -> list[nn.Parameter]:
        """All of it."""
        return list(self._sharpener.parameters())

    def draw(self, generator: torch.Generator) -> Any:
        """What is rendered."""
        return self._renders.draw(generator)

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Of sharpened renders."""
        pair = self._renders.pair(batch)
        with phase("network"):
            sharp = mark_backward(self._sharpener(pair[0]), "loss")
        with phase("loss"):
            return self._renders.judge(sharp.float(), pair)

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """PSNR (dB) of held-out renders with and without the sharpener, and their detail as a share of the truth's."""
        figures: dict[str, list[Tensor]] = {}
        for rendered, truth in self._held_out():
            for name, pictures in (("sharpened", self._sharpener(rendered)), ("unsharpened", rendered)):
                figures.setdefault(f"{name}_psnr", []).append(psnr(pictures.clamp(0, 1), truth))
                figures.setdefault(f"{name}_detail", []).append(_detail(pictures))
            figures.setdefault("detail", []).append(_detail(truth))
        means = {name: float(torch.cat(values).mean()) for name, values in figures.items()}
        detail = max(means.pop("detail"), 1e-9)
        return {name: value / detail if name.endswith("detail") else value for name, value in means.items()}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Truth, render and sharpened render of held-out heads, one a row."""
        rows = []
        for (rendered, truth), _ in zip(self._held_out(), range(_SHOWN), strict=False):
            rows.append(torch.cat([truth[0], rendered[0], self._sharpener(rendered[:1])[0]], -1))
        return {"held_out": torch.cat(rows, -2).clamp(0, 1).cpu()}

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write the whole model as others load it: ``NAME.safetensors``."""
        where_from = provenance(f"recipe {self.name}", self._data, figures, cost=TrainingCost(steps=steps))
        save_checkpoint(folder / f"{self.name}.safetensors", self._model, where_from, dtype=torch.float16)

    def _held_out(self) -> Iterator[Pair]:
        device = self._model.device
        return ((rendered.to(device), truth.to(device)) for rendered, truth in self._renders.held_out())


@torch.no_grad()
def store_renders(model: HeadModel, data: SyntheticHeads, path: Path, minutes: float, seed: int) -> None:
    """Render training heads and keep them with the truth in `path` (.npz), whole or not at all.

    Ends after `minutes`, with at least two heads, or with more than a sharpener needs.
    """
    began = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    weights = input_weights(data.pictures.shape[1])
    rendered: list[NDArray[np.uint8]] = []
    truth: list[NDArray[np.uint8]] = []
    while len(rendered) < 2 or (len(rendered) < _HEADS and time.monotonic() - began < 60 * minutes):
        batch = data.sample(1, generator, views=weights, targets=_VIEWS)
        assert batch.target is not None
        assert batch.target_viewmats is not None
        head = reconstruct(model, batch.picture[0].to(model.device))
        views = rasterize(head, crop_cameras(batch.target_viewmats[0], data.size).to(model.device))
        rendered.append((255 * views.rgb.clamp(0, 1)).round().byte().cpu().numpy())
        truth.append((255 * batch.target[0, :, :3]).round().byte().numpy())
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, rendered=np.concatenate(rendered), truth=np.concatenate(truth))
    temporary.replace(path)


def _detail(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, of each picture [C]."""
    slopes = [pictures.diff(dim=axis).abs().flatten(1).mean(1) for axis in (-1, -2)]
    return (slopes[0] + slopes[1]) / 2
