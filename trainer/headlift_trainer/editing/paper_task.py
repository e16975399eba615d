"""The paper's editing run (section 3.4): a portrait's own map and own look in, the head out, judged by its pictures.

The same picture goes to the segmenter and to CLIP; that geometry follows the one and style the other needs no further
loss. The decoder is warm-started from reconstruction and trained on.

Legend: B heads of a micro-batch, S picture side, D width of a look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from headlift import __version__
from headlift.model.cameras import project
from headlift.model.checkpoint import Provenance
from headlift.model.edit.checkpoint import save_edit
from headlift.model.edit.model import EditModel
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians
from headlift.pretrained.clip import Clip
from headlift.pretrained.facer import FaceParsing
from headlift.stages.preprocess.detect.headnet import FIVE_POINTS
from headlift_trainer.clock import border, phase
from headlift_trainer.perceptual import PerceptualLoss
from headlift_trainer.reconstruction import Batch, ReconstructionTask
from headlift_trainer.samples import Source

Segmenter = Callable[[Tensor, Cameras], Tensor]  # pictures [B, 4, S, S] and their cameras -> labels [B, S, S]
Embedder = Callable[[Tensor], Tensor]  # pictures [B, 4, S, S] -> unit looks [B, D]
_FIELDS = ("means", "quats", "scales", "opacities", "colors")
_OPAQUE = 0.5


class EditingTask(ReconstructionTask):
    """See `headlift_trainer.task.Task` and `ReconstructionTask`, whose sources, objective and figures these are.

    Args:
        editor: On its device; without a painter, as in the paper.
        segment: Frozen. embed: Frozen.
    """

    def __init__(
        self, editor: EditModel, segment: Segmenter, embed: Embedder, source: Source, held_out: Source,
        objective: PerceptualLoss, *, name: str = "edit", batch_size: int = 2, target_views: int = 3,
        held_out_heads: int = 8, data: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(
            editor.reconstruction, source, held_out, objective, name=name, batch_size=batch_size,
            target_views=target_views, held_out_heads=held_out_heads, data=data,
        )  # fmt: skip
        self.editor, self._segment, self._embed = editor, segment, embed

    @property
    def module(self) -> nn.Module:
        """Editing encoder and reconstruction model."""
        return self.editor

    def parameters(self) -> list[nn.Parameter]:
        """The new encoder's and the decoder's."""
        trained = (self.editor.encoder, self.editor.reconstruction.decoder)
        return [p for part in trained for p in part.parameters() if p.requires_grad]

    def render(self, batch: Batch) -> list[Tensor]:
        """Each head's target views, [C, 3, H, W] over black, from the input picture's map and look."""
        cameras = batch.cameras[0]
        first = Cameras(
            torch.stack([c.viewmats[0] for c in batch.cameras]), torch.stack([c.Ks[0] for c in batch.cameras]),
            cameras.width, cameras.height,
        )  # fmt: skip
        with phase("network"):
            with torch.no_grad():
                labels, looks = self._segment(batch.pictures, first), self._embed(batch.pictures)
            tokens = self.editor.encoder(labels.to(self.model.device), looks.to(self.model.device))
            together = self.model.decoder(tokens)
            fields = {name: border(getattr(together, name).float(), "splatting") for name in _FIELDS}
        with phase("splatting"), torch.autocast(self.model.device.type, enabled=False):
            heads = [Gaussians(**{name: value[row] for name, value in fields.items()}) for row in range(len(labels))]
            return [rasterize(head, views).rgb for head, views in zip(heads, batch.cameras, strict=True)]

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write the editing weights with the decoder that was trained on: ``NAME.safetensors``."""
        provenance = Provenance(
            description=f"recipe {self.name}",
            data=self.data,
            steps=steps,
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=__version__,
            metrics=dict(figures),
        )
        save_edit(folder / f"{self.name}.safetensors", self.editor, None, provenance, tuned=True)


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
