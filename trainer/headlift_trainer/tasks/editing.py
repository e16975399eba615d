"""The paper's editing run (section 3.4): a portrait's own map and style in, the head out, judged by its pictures.

The same picture goes to the segmenter and to CLIP; that geometry follows the one and style the other needs no further
loss. The decoder is warm-started from reconstruction and trained on.

Legend: B heads of a micro-batch, S picture side, D width of a style embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headlift.model.cameras import project
from headlift.model.edit.checkpoint import save_edit
from headlift.model.edit.model import EditModel
from headlift.model.types import Cameras, Gaussians
from headlift.pretrained.clip import Clip
from headlift.pretrained.facer import FaceParsing
from headlift.stages.preprocess.detect.headnet import FIVE_POINTS
from headlift_trainer.datasets.mixture import Source
from headlift_trainer.perceptual import PerceptualLoss
from headlift_trainer.provenance import TrainingCost, provenance
from headlift_trainer.tasks.reconstruction import Batch, ReconstructionTask

Segmenter = Callable[[Tensor, Cameras], Tensor]  # pictures [B, 4, S, S] and their cameras -> labels [B, S, S]
Embedder = Callable[[Tensor], Tensor]  # pictures [B, 4, S, S] -> unit style embeddings [B, D]
_OPAQUE = 0.5


class EditingTask(ReconstructionTask):
    """See `tasks.interface.Task` and `ReconstructionTask`, whose sources, objective and figures these are.

    Args:
        editor: On its device; without a painter, as in the paper.
        segment: Frozen. embed: Frozen.
        source, held_out, objective, name, options: As ReconstructionTask's.
    """

    def __init__(
        self, editor: EditModel, segment: Segmenter, embed: Embedder, source: Source, held_out: Source,
        objective: PerceptualLoss, *, name: str = "edit", **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(editor.reconstruction, source, held_out, objective, name=name, **options)
        self.editor, self._segment, self._embed = editor, segment, embed

    @property
    def module(self) -> nn.Module:
        """Editing encoder and reconstruction model."""
        return self.editor

    def parameters(self) -> list[nn.Parameter]:
        """The new encoder's and the decoder's."""
        trained = (self.editor.encoder, self.editor.reconstruction.decoder)
        return [p for part in trained for p in part.parameters() if p.requires_grad]

    def decode(self, batch: Batch) -> Gaussians:
        """B heads together, from each input picture's map and style embedding."""
        cameras = batch.cameras[0]
        first = Cameras(
            torch.stack([c.viewmats[0] for c in batch.cameras]), torch.stack([c.Ks[0] for c in batch.cameras]),
            cameras.width, cameras.height,
        )  # fmt: skip
        with torch.no_grad():
            labels, styles = self._segment(batch.pictures, first), self._embed(batch.pictures)
        tokens = self.editor.encoder(labels.to(self.model.device), styles.to(self.model.device))
        return self.model.decode_batch(tokens)

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write the editing weights with the decoder that was trained on: ``NAME.safetensors``."""
        where_from = provenance(f"recipe {self.name}", self.data, figures, cost=TrainingCost(steps=steps))
        save_edit(folder / f"{self.name}.safetensors", self.editor, None, where_from, tuned=True)


def farl_segmenter(network: FaceParsing) -> Segmenter:
    """FaRL's parsing through facer; the five points come from the camera, background from the matte."""

    def segment(pictures: Tensor, cameras: Cameras) -> Tensor:
        points = torch.from_numpy(FIVE_POINTS).float().expand(len(pictures), -1, -1)
        places = project(cameras.to("cpu"), points)[0] * pictures.shape[-1]
        found = network(pictures[:, :3].cpu(), places)
        person = found[:, 1:].argmax(1) + 1
        return torch.where(pictures[:, 3].cpu() > _OPAQUE, person, 0).to(torch.uint8)

    return segment


def clip_embedder(clip: Clip) -> Embedder:
    """CLIP's image tower."""
    return clip.embed_pictures
