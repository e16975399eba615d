"""The paper's editing run at a tiny size: one picture gives map and look, and encoder and decoder learn from both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.edit.checkpoint import load_edit_weights
from headlift.model.edit.model import EditConfig, EditModel
from headlift.model.perchead.config import EncoderConfig, PercHeadConfig, VitConfig
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.types import Cameras
from headlift_trainer.datasets.opening import SOURCE_OPENERS
from headlift_trainer.perceptual.loading import load_perceptual
from headlift_trainer.recipes import RECIPES
from headlift_trainer.tasks.build import RunPaths, build_task
from headlift_trainer.tasks.editing import EditingTask, farl_segmenter


class Points:
    """Stands where FaRL stands, and keeps what it was asked about."""

    def __init__(self) -> None:
        self.points = torch.zeros(0)

    def __call__(self, pictures: Tensor, points: Tensor) -> Tensor:
        self.points = points
        found = torch.zeros(len(pictures), 19, *pictures.shape[-2:])
        found[:, 0], found[:, 14], found[:, 2] = 0.5, 0.2, 0.3
        return found


def segment(pictures: Tensor, cameras: Cameras) -> Tensor:
    return (pictures[:, 3] > 0.5).to(torch.uint8) * 2


def embed(pictures: Tensor) -> Tensor:
    return F.normalize(pictures[:, :3].mean((2, 3)).repeat(1, 171)[:, :512] + 0.01, dim=-1)


@pytest.fixture
def task(shards: Path, reconstruction: PercHead) -> EditingTask:
    decoder = replace(named_config("tiny").decoder, gaussian_dim=2, residual="paper")
    encoder = EncoderConfig(
        image_size=28, dim=32, depth=1, num_heads=2, backbone="dinov2_vits14", backbone_layers=(5,), fusion_dim=32
    )
    torch.manual_seed(0)
    model = PercHead(PercHeadConfig("tiny_paper", 64, encoder, decoder, None), reconstruction.template)
    geometry = VitConfig(image_size=32, patch_size=16, dim=32, depth=1, num_heads=2, fusion_dim=32)
    editor = EditModel(EditConfig("tiny_paper", "tiny_paper", geometry, "ViT-B-32", map_size=64), model)
    objective = load_perceptual({"l1": 1.0}, None, torch.device("cpu"))
    heads = SOURCE_OPENERS["generated"](shards)
    return EditingTask(editor, segment, embed, *heads, objective, batch_size=2, target_views=1, held_out_heads=2)


def test_encoder_and_decoder_learn_and_the_old_encoder_does_not(task: EditingTask) -> None:
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for step in range(12):
        generator = torch.Generator().manual_seed(step % 2)
        loss, _ = task.loss(task.draw(generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-2:]) < sum(losses[:2])
    assert all(p.grad is not None for p in task.editor.encoder.fuse.parameters())
    assert all(p.grad is None for p in task.editor.reconstruction.encoder.parameters())
    assert task.figures()["psnr"] > 0


def test_what_is_released_is_the_editor_with_its_decoder(task: EditingTask, tmp_path: Path) -> None:
    with torch.no_grad():
        task.model.decoder.norm.weight.fill_(3.0)
    task.release(tmp_path, 7, {"psnr": 1.0})
    with torch.no_grad():
        task.model.decoder.norm.weight.fill_(1.0)
    found = load_edit_weights(tmp_path / "edit.safetensors", task.editor.reconstruction)
    assert found.style is None
    assert found.provenance.steps == 7
    assert float(found.model.reconstruction.decoder.norm.weight[0]) == 3.0


def test_farl_is_asked_about_the_face_that_the_camera_shows(task: EditingTask) -> None:
    batch = task.draw(torch.Generator().manual_seed(0))
    network = Points()
    cameras = Cameras(
        torch.stack([c.viewmats[0] for c in batch.cameras]), torch.stack([c.Ks[0] for c in batch.cameras]),
        batch.cameras[0].width, batch.cameras[0].height,
    )  # fmt: skip
    labels = farl_segmenter(network)(batch.pictures, cameras)  # type: ignore[arg-type]
    assert torch.equal(labels > 0, batch.pictures[:, 3] > 0.5)
    assert set(labels.unique().tolist()) == {0, 2}
    assert network.points.shape == (2, 5, 2)
    assert bool(((network.points > 0) & (network.points < 64)).all())
    assert bool((network.points[:, 2, 1] > network.points[:, 0, 1]).all())  # the nose is below the eyes


def test_the_recipe_names_what_it_starts_from(shards: Path) -> None:
    with pytest.raises(InvalidInputError, match="goes on from reconstruction"):
        build_task(RECIPES["edit"](), RunPaths((("generated", shards),), partial=True), torch.device("cpu"))
