"""The sharpening task: the SHP-CNN alone, on renders of a frozen reconstruction (paper, section 3.1, appendix E)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift_trainer.clock import border, phase
from headlift_trainer.metrics import psnr
from headlift_trainer.reconstruction import ReconstructionTask, release
from headlift_trainer.samples import Sample
from headlift_trainer.task import Share


class SharpeningTask:
    """Trains the sharpener of a reconstruction task's model; see `headlift_trainer.task.Task`.

    Args:
        reconstruction: Its model, data and objective; the objective is the paper's layer-8 class token there.

    Raises:
        InvalidInputError: The model has no sharpener.
    """

    def __init__(self, reconstruction: ReconstructionTask) -> None:
        model = reconstruction.model
        if model.sharpener is None:
            raise InvalidInputError(f"The model {model.config.name!r} has no sharpener to train.")
        self._frozen, self._sharpener = reconstruction, model.sharpener
        self.name = reconstruction.name

    @property
    def module(self) -> nn.Module:
        """The sharpener; the rest does not change."""
        return self._sharpener

    def parameters(self) -> list[nn.Parameter]:
        """The sharpener's."""
        return list(self._sharpener.parameters())

    def loss(self, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, float]]:
        """The objective of sharpened renders of a fresh batch."""
        batch = self._frozen.draw(generator)
        with torch.no_grad():
            rgb = torch.cat(self._frozen.render(batch))
        with phase("network"):
            sharp = border(self._sharpener(rgb), "loss")
        with phase("loss"):
            return self._frozen.judge(sharp.float(), torch.cat([target[:, :3] for target in batch.targets]))

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """PSNR (dB) of held-out renders with and without the sharpener, and how sharp both are."""
        before = [self._frozen.view(sample) for sample in self._frozen.held_out]
        after = [self._sharpener(rendered) for rendered in before]
        truth = [sample.targets[:, :3].to(x) for sample, x in zip(self._frozen.held_out, before, strict=True)]
        return {
            "psnr": _psnr(after, truth),
            "psnr_unsharpened": _psnr(before, truth),
            "sharpness": _sharpness(after) / max(_sharpness(truth), 1e-9),
            "sharpness_unsharpened": _sharpness(before) / max(_sharpness(truth), 1e-9),
        }

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Held-out heads from their first view: truth, render, sharpened render; one a row."""
        return {"held_out": torch.cat([self._row(sample) for sample in self._frozen.held_out[:4]], -2)}

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write the whole model as others load it: ``NAME.safetensors``."""
        release(self._frozen.model, folder / f"{self.name}.safetensors", self.name, self._frozen.data, steps, figures)

    def _row(self, sample: Sample) -> Tensor:
        rendered = self._frozen.view(sample)[:1]
        cells = (sample.targets[:1, :3].to(rendered), rendered, self._sharpener(rendered))
        return torch.cat(cells, -1)[0].clamp(0, 1).cpu()


def _psnr(pictures: list[Tensor], truth: list[Tensor]) -> float:
    return float(torch.cat([psnr(p.clamp(0, 1), t) for p, t in zip(pictures, truth, strict=True)]).mean())


def _sharpness(pictures: list[Tensor]) -> float:
    """Mean absolute difference of neighbouring pixels."""
    values = [(p.diff(dim=-1).abs().mean() + p.diff(dim=-2).abs().mean()) / 2 for p in pictures]
    return float(torch.stack(values).mean())
