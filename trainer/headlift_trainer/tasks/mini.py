"""The decoder of `mini` on pictures of generated heads, from closed forms that stay as they are.

Legend: V views, S picture side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from headlift.errors import IncompatibleWeightsError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.checkpoint import save_checkpoint as write_checkpoint
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.splat import rasterize
from headlift.model.types import Cameras
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.synthetic import Corpus, HeadBatch, SyntheticHeads, input_weights
from headlift_trainer.evaluation.in_memory import evaluate
from headlift_trainer.mini_losses import decoder_losses, noisy_cameras
from headlift_trainer.portraits import reconstruct
from headlift_trainer.provenance import TrainingCost, provenance
from headlift_trainer.recipes.mini import DecoderStage, MiniRecipe
from headlift_trainer.synthetic.source.seeds import source_of

MiniBatch = tuple[HeadBatch, Cameras | None]  # and the cameras that the encoder is given; None: its own estimates
_SHOWN = 4  # held-out heads in a picture grid
_ORIGINS = {
    "makehuman": "MakeHuman's assets (CC0 1.0)",
    "ict": "ICT-FaceKit (MIT)",
    "procedural": "our own code",
}


class MiniTask:
    """One decoder stage; see `headlift_trainer.tasks.interface.Task`. The sharpener is left alone.

    Args:
        model: With its closed forms filled; they are frozen here: gradient steps on thousands of inputs undo them.
        corpus: Training and held-out heads.
        stage: What is trained on what.
        run: Name of the run that the stage is of.
    """

    def __init__(self, model: MiniHead, corpus: Corpus, stage: DecoderStage, run: str = "mini") -> None:
        for part in (model.encoder.headnet, model.encoder.thumbnail_head):
            part.requires_grad_(False)
        self.name = f"{run}_{stage.name}"
        self.model, self._corpus, self._stage = model, corpus, stage
        self._views = input_weights(corpus.train.pictures.shape[1])

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self.model

    def parameters(self) -> list[nn.Parameter]:
        """All that is not frozen, the sharpener's apart."""
        named = self.model.named_parameters()
        return [p for n, p in named if p.requires_grad and not n.startswith("sharpener")]

    def draw(self, generator: torch.Generator) -> MiniBatch:
        """Heads, and the cameras that some batches are given in place of estimates."""
        stage = self._stage
        batch = self._corpus.train.sample(
            stage.batch_size, generator, views=self._views, targets=stage.views, augmentation=stage.augmentation
        )
        if float(torch.rand(1, generator=generator)) < stage.own_cameras:
            return batch, None
        return batch, noisy_cameras(batch.viewmats, batch.picture.shape[-1], stage.camera_noise, generator)

    def loss(self, batch: MiniBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a batch: anchors, pictures, HeadNet's tokens."""
        parts = decoder_losses(self.model, *batch, self._stage, generator)
        return torch.stack(list(parts.values())).sum(), parts

    def figures(self) -> dict[str, float]:
        """PSNR of held-out heads beside both baselines."""
        return evaluate(self.model, self._corpus.held_out, self._corpus.train)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Held-out heads, one a row: the rig's first views, ours above the truth."""
        data, rows = self._corpus.held_out, []
        for row in torch.linspace(0, len(data) - 1, min(_SHOWN, len(data))).long():
            truth = (data.pictures[row, :6].permute(0, 3, 1, 2).float() / 255).to(self.model.device)
            head = reconstruct(self.model, truth[0])
            views = rasterize(head, crop_cameras(data.viewmats[row, :6], data.size).to(truth.device))
            rows.append(torch.cat([torch.cat([*views.rgb], -1), torch.cat([*truth[:, :3]], -1)], -2))
        return {"held_out": torch.cat(rows, -2).clamp(0, 1).cpu()}


def load_mini(path: Path, expect: MiniConfig | None = None) -> MiniHead:
    """A `mini` of a checkpoint.

    Raises:
        IncompatibleWeightsError: The file holds another model.
    """
    model = load_checkpoint(path, expect=expect)[0]
    if not isinstance(model, MiniHead):
        raise IncompatibleWeightsError(f"{path.name} holds a {model.config.name!r} model; give one of mini's kind.")
    return model


def save_checkpoint(
    model: MiniHead, config: MiniRecipe, path: Path, data: SyntheticHeads, cost: TrainingCost,
    metrics: Mapping[str, float], *, dtype: torch.dtype = torch.float32,
) -> None:  # fmt: skip
    """Write a model with where it comes from."""
    origins = list(dict.fromkeys(_ORIGINS[source_of(seed)] for seed in data.seeds))
    heads = f"{len(data.seeds)} generated heads in {len(data)} appearances, from {', '.join(origins)}"
    description = f"recipe {config.name}, seed {config.seed}, {cost.minutes:.0f} min on {model.device.type.upper()}"
    write_checkpoint(
        path, model, provenance(description, (heads,), metrics, cost=cost, license="Apache-2.0"), dtype=dtype
    )
