"""The paper's task: one portrait in, a head out, judged by pictures of it from several sides.

Legend: B heads of a micro-batch, C views of a head, S input side, H W picture size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headlift.model.checkpoint import save_checkpoint
from headlift.model.sizes import HeadModel
from headlift.model.types import Cameras, Gaussians
from headlift_trainer.datasets.interface import PictureSample
from headlift_trainer.datasets.mixture import Source
from headlift_trainer.metrics import psnr
from headlift_trainer.perceptual import PerceptualLoss
from headlift_trainer.profiler import mark_backward, phase
from headlift_trainer.provenance import TrainingCost, provenance
from headlift_trainer.splatting import splat

_SHOWN = 4  # held-out heads in a picture grid
_HELD_OUT_SEED = 20_011  # held-out samples are the same every time


@dataclass(frozen=True)
class Batch:
    """Samples of one micro-batch."""

    pictures: Tensor  # [B, 4, S, S]
    cameras: tuple[Cameras, ...]  # of each head's targets
    targets: tuple[Tensor, ...]  # each [C, 4, H, W]

    @classmethod
    def of(cls, samples: Sequence[PictureSample]) -> Batch:
        """Stack inputs; targets stay apart, as heads may have different numbers of views."""
        return cls(
            torch.stack([sample.picture for sample in samples]),
            tuple(sample.target_cameras for sample in samples),
            tuple(sample.targets for sample in samples),
        )

    def to(self, device: torch.device) -> Batch:
        """A copy on a device."""
        return Batch(
            self.pictures.to(device),
            tuple(cameras.to(device) for cameras in self.cameras),
            tuple(targets.to(device) for targets in self.targets),
        )


class ReconstructionTask:
    """Trains encoder and decoder; see `headlift_trainer.tasks.interface.Task`. The sharpener, if any, is left alone.

    Args:
        model: On its device, with its backbone.
        source: Training heads. held_out: Others, for the figures.
        objective: What pictures are compared by.
        batch_size: B. target_views: Further views of each head beside the input's.
        held_out_heads: How many of the held-out samples the figures are made of.
        data: Words for the checkpoint's provenance: data sets with their licences.
    """

    def __init__(
        self,
        model: HeadModel,
        source: Source,
        held_out: Source,
        objective: PerceptualLoss,
        *,
        name: str = "reconstruction",
        batch_size: int = 2,
        target_views: int = 3,
        held_out_heads: int = 8,
        data: tuple[str, ...] = (),
    ) -> None:
        self.name, self.model, self._source, self._objective = name, model, source, objective
        self.batch_size, self._target_views, self.data = batch_size, target_views, data
        generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
        self.held_out = [held_out.sample(generator, target_views) for _ in range(held_out_heads)]

    @property
    def module(self) -> nn.Module:
        """The whole model; its frozen backbone is no part of it."""
        return self.model

    def parameters(self) -> list[nn.Parameter]:
        """All but the sharpener's."""
        named = self.model.named_parameters()
        return [p for n, p in named if p.requires_grad and not n.startswith("sharpener.")]

    def draw(self, generator: torch.Generator) -> Batch:
        """A fresh micro-batch."""
        return Batch.of([self._source.sample(generator, self._target_views) for _ in range(self.batch_size)])

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The objective of all views of a batch, without the sharpener."""
        rgb = torch.cat(self.render(batch))
        with phase("loss"):
            targets = torch.cat([target[:, :3] for target in batch.targets])
            return self.judge(mark_backward(rgb, "loss"), targets)

    def judge(self, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The objective of pictures [C, 3, H, W] against the true ones, and its parts."""
        total, parts = self._objective(pictures, targets)
        return total, parts

    def decode(self, batch: Batch) -> Gaussians:
        """B heads together, as the decoder leaves them."""
        return self.model.decode_batch(self.model.encode(batch.pictures[:, :3], batch.pictures[:, 3:]))

    def render(self, batch: Batch) -> list[Tensor]:
        """Each head's target views as the model sees them, [C, 3, H, W] over black."""
        with phase("network"):
            heads = self.decode(batch)
        return [views.rgb for views in splat(heads, batch.cameras)]

    def checkpoint_activations(self, on: bool) -> None:
        """Keep only the borders of the decoder's and the encoder's layers, and compute the rest twice."""
        layers = [*self.model.decoder.layers, *self.model.encoder.vit.blocks]
        for layer in layers:
            # On the instance, not around it: names of parameters, and so checkpoints, stay as they are.
            layer.__dict__.pop("forward", None)
            if on:
                layer.forward = partial(_checkpointed, layer.forward)

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Mean PSNR (dB) of held-out heads: all views, the input's own, and the others."""
        own, others = [], []
        for sample in self.held_out:
            values = self._psnr(sample)
            own.append(values[:1])
            others.append(values[1:])
        figures = {"psnr": torch.cat(own + others), "psnr_own": torch.cat(own), "psnr_others": torch.cat(others)}
        return {name: float(values.mean()) for name, values in figures.items() if len(values)}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Held-out heads, one a row: the input, then each view, ours above the truth."""
        rows = []
        for sample in self.held_out[:_SHOWN]:
            rendered = self.view(sample)
            targets = sample.targets[:, :3].to(rendered)
            rows.append(torch.cat([torch.cat([*targets], -1), torch.cat([*rendered], -1)], -2))
        width = min(row.shape[-1] for row in rows)
        return {"held_out": torch.cat([row[..., :width] for row in rows], -2).clamp(0, 1).cpu()}

    def view(self, sample: PictureSample) -> Tensor:
        """A sample's target views as this task's result shows them."""
        return self.render(Batch.of([sample]).to(self.model.device))[0]

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write the model as others load it, with where it comes from: ``NAME.safetensors``."""
        where_from = provenance(f"recipe {self.name}", self.data, figures, cost=TrainingCost(steps=steps))
        save_checkpoint(folder / f"{self.name}.safetensors", self.model, where_from, dtype=torch.float16)

    def _psnr(self, sample: PictureSample) -> Tensor:
        rendered = self.view(sample).clamp(0, 1)
        return psnr(rendered, sample.targets[:, :3].to(rendered)).cpu()


def _checkpointed(forward: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*arguments)
    return checkpoint(forward, *arguments, use_reentrant=False)
