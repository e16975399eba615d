"""ArcFace: the published layout, and what the network does with faces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift_trainer.metrics.arcface import ArcFace, load_arcface, portrait_faces


@pytest.fixture(scope="module")
def network() -> ArcFace:
    torch.manual_seed(0)
    return ArcFace()


def test_the_layout_is_the_published_one(network: ArcFace) -> None:
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["input_layer.0.weight"] == (64, 3, 3, 3)
    assert shapes["body.0.res_layer.5.fc1.weight"] == (4, 64, 1, 1)
    assert shapes["body.3.shortcut_layer.0.weight"] == (128, 64, 1, 1)
    assert shapes["body.23.res_layer.3.weight"] == (512, 512, 3, 3)
    assert shapes["output_layer.3.weight"] == (512, 25088)
    assert "body.0.shortcut_layer.0.weight" not in shapes
    assert sum(p.numel() for p in network.parameters()) == 43_797_696


def test_weights_come_back_from_a_file_and_give_unit_vectors(network: ArcFace, tmp_path: Path) -> None:
    path = tmp_path / "model_ir_se50.pth"
    torch.save(network.state_dict(), path)
    loaded = load_arcface(path)
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embedding = loaded(faces)
        assert torch.allclose(embedding, network(faces))
    assert torch.allclose(embedding.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert not loaded.train().training


def test_files_that_do_not_hold_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="InsightFace_Pytorch"):
        load_arcface(tmp_path / "model_ir_se50.pth")
    other = tmp_path / "other.safetensors"
    save_file({"body.0.weight": torch.zeros(2)}, other)
    with pytest.raises(CorruptWeightsError, match="must be"):
        load_arcface(other)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"nothing")
    with pytest.raises(CorruptWeightsError, match="readable"):
        load_arcface(broken)


def test_faces_must_have_the_size_of_training(network: ArcFace) -> None:
    with pytest.raises(InvalidInputError, match="112x112"):
        network(torch.zeros(1, 3, 96, 96))


def test_a_portrait_crops_eyes_land_where_training_had_them() -> None:
    size = 512
    picture = torch.zeros(1, 3, size, size)
    for x in (0.4193, 0.5807):  # the eyes of a frontal canonical head
        picture[:, :, round(0.4539 * size), round(x * size)] = 1
    bright = portrait_faces(picture)[0, 0]
    columns = torch.arange(112) + 0.5
    left, right = bright[:, :56], bright[:, 56:]
    assert float((left.sum(0) * columns[:56]).sum() / left.sum()) == pytest.approx(38.3, abs=1)
    assert float((right.sum(0) * columns[56:]).sum() / right.sum()) == pytest.approx(73.5, abs=1)
    assert float((bright.sum(1) * columns).sum() / bright.sum()) == pytest.approx(51.6, abs=1)
