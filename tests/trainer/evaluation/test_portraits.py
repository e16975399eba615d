"""`headlift eval portraits`: likeness, detail and colours without truth."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from headlift.cli import main
from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_camera
from headlift.model.template import Region
from headlift.model.types import Gaussians
from headlift.pretrained.catalogue import DLIB_FACE, FACE_MESH, FORMAT, LITE0
from headlift.pretrained.dlib_face import _LEVELS
from headlift_trainer.evaluation.portraits import (
    LIKENESS_YAWS,
    PortraitMetrics,
    PortraitResult,
    hair_delta_e,
    portrait_files,
    summary,
)


def sphere_of_hair(front, back):
    """A ball of hair with one colour on the side of the front camera and one behind."""
    torch.manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(4000, 3), dim=1) * 0.1
    colors = torch.where(means[:, 2:] > 0, torch.tensor(front), torch.tensor(back))
    one = torch.ones(len(means))
    return Gaussians(means, torch.eye(4)[:1].expand(len(means), -1), 0.01 * one[:, None].expand(-1, 3), one, colors)


def test_hair_of_one_color_has_no_difference_and_black_from_white_a_hundred():
    regions = torch.full((4000,), int(Region.HAIR))
    grey = (0.5, 0.5, 0.5)
    assert hair_delta_e(sphere_of_hair(grey, grey), regions, orbit_camera(0)) == pytest.approx(0, abs=1e-4)
    black_behind = sphere_of_hair((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert hair_delta_e(black_behind, regions, orbit_camera(0)) == pytest.approx(100, abs=0.5)
    # From the side both halves show half of each.
    assert hair_delta_e(black_behind, regions, orbit_camera(90)) < 5


def test_without_hair_there_is_no_color_to_compare():
    regions = torch.full((4000,), int(Region.FACE))
    assert hair_delta_e(sphere_of_hair((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), regions, orbit_camera(0)) is None


def measured(name, quality, likeness, color=None):
    values = {"input": likeness, "front": likeness} | {str(yaw): likeness / 2 for yaw in LIKENESS_YAWS[1:]}
    return PortraitResult(name, PortraitMetrics(name, quality, values, 2.0, 1.0, values, color))


def test_means_leave_out_what_was_refused_and_ranks_are_compared():
    results = [measured("a", 1.0, 0.8, 4.0), measured("b", 0.7, 0.6), measured("c", 0.5, 0.4)]
    found = summary([*results, PortraitResult("d", None, refused="NO_FACE")])
    assert (found["count"], found["refused"], found["refusals"]) == (3, 1, {"d": "NO_FACE"})
    assert found["likeness"]["front"] == pytest.approx(0.6)
    assert found["likeness"]["40"] == pytest.approx(0.3)
    assert found["hair_delta_e"] == 4.0
    assert found["quality_rank_correlation"] == pytest.approx(1.0)
    assert summary(results[:2])["quality_rank_correlation"] is None
    assert summary([])["mesh_error_percent"] is None


def test_a_folder_without_pictures_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InvalidInputError, match="no pictures"):
        portrait_files(tmp_path)


def random_networks(folder, published_lite0):
    """dlib's and Lite0's networks with random weights, as `headlift models install` leaves them."""
    rng = np.random.default_rng(0)
    weights, before = {"fc": (256, 128)}, 32
    layers = [("stem", 32, 3, 7)]
    for level, (width, blocks) in enumerate(_LEVELS):
        for block in range(len(blocks)):
            layers += [(f"l{level}_{block}_a", width, before, 3), (f"l{level}_{block}_b", width, width, 3)]
            before = width
    for name, n, c, k in layers:
        weights |= {f"{name}.weight": (n, c, k, k), f"{name}.bias": (n,), f"{name}.gamma": (n,), f"{name}.beta": (n,)}
    tensors = {k: torch.from_numpy(rng.normal(0, 0.05, s).astype(np.float32)) for k, s in weights.items()}
    save_file(tensors, folder / "dlib_face.safetensors", {"format": FORMAT, "source_sha256": DLIB_FACE.sha256})
    save_file(
        published_lite0, folder / "efficientnet_lite0.safetensors", {"format": FORMAT, "source_sha256": LITE0.sha256}
    )


def test_the_command_judges_a_folder(tmp_path, portrait_png, installed_models, published_lite0, monkeypatch, capsys):
    mesh = installed_models / f"{FACE_MESH.name}.safetensors"
    if not mesh.is_file():
        pytest.skip("the face mesh is not installed")
    models, pictures = tmp_path / "models", tmp_path / "pictures"
    models.mkdir()
    pictures.mkdir()
    (models / mesh.name).symlink_to(mesh)
    random_networks(models, published_lite0)
    (pictures / "astronaut.png").write_bytes(portrait_png)
    (pictures / "broken.png").write_bytes(b"no picture")
    monkeypatch.setenv("HEADLIFT_MODELS_DIR", str(models))
    page = tmp_path / "page.html"
    assert main(["eval", "portraits", str(pictures), "--refine-steps", "3", "--report", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["refusals"]) == (1, {"broken.png": "UNREADABLE_PICTURE"})
    assert found["mesh_error_percent"] < 8  # the real mesh sees the same face in both
    assert found["detail"]["front"] > 0.02
    assert page.read_text().count("<img") == 1
