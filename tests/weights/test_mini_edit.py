"""The shipped editing weights: small, of the shipped reconstruction model, and their words work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headlift import weights
from headlift.model.cameras import orbit_camera
from headlift.model.template import Region
from headlift.stages.edit import Edit, EditOrder, load_edit

FILE = Path(str(weights.__file__)).with_name("mini_edit.safetensors")
CAMERA = orbit_camera(0.0, size=256)
HAIR, FACE, CLOTH = 14, 2, 3


@pytest.fixture(scope="module")
def stage() -> Edit:
    return load_edit(FILE)


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    """A face with hair, eyes, mouth, neck and shirt."""
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    found = torch.zeros(256, 256, dtype=torch.uint8)

    def oval(cx: int, cy: int, rx: int, ry: int, label: int) -> None:
        found[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = label

    oval(128, 300, 110, 90, CLOTH)
    oval(128, 205, 28, 40, 1)
    oval(128, 108, 60, 72, HAIR)
    oval(128, 132, 46, 62, FACE)
    for cx in (108, 148):
        oval(cx, 122, 8, 4, 8 if cx < 128 else 9)
    oval(128, 145, 7, 12, 10)
    oval(128, 168, 15, 5, 12)
    return found


def painted(stage: Edit, labels: torch.Tensor, look: torch.Tensor, label: int) -> torch.Tensor:
    with torch.no_grad():
        rgba = stage._model.encoder.paint(labels[None], look[None], 256)[0]
    return rgba[:3, labels == label].mean(1)


def test_the_file_is_small() -> None:
    assert FILE.stat().st_size < 12_000_000


def test_words_colour_what_they_name(stage: Edit, labels: torch.Tensor) -> None:
    start = stage.embed_text("a young woman with brown hair")
    looks = {text: stage.embed_text(text, start) for text in ("black hair", "blond hair", "red hair", "a blue shirt")}
    hair = {text: painted(stage, labels, look, HAIR) for text, look in looks.items()}
    assert hair["black hair"].sum() < hair["red hair"].sum() < hair["blond hair"].sum()
    assert hair["red hair"][0] > 1.4 * hair["red hair"][2]
    cloth = painted(stage, labels, looks["a blue shirt"], CLOTH)
    assert cloth[2] > cloth[0]
    dark, pale = (painted(stage, labels, stage.embed_text(t, start), FACE) for t in ("dark skin", "pale skin"))
    assert dark.sum() + 0.3 < pale.sum()


def test_words_leave_alone_what_they_do_not_name(stage: Edit, labels: torch.Tensor) -> None:
    start = stage.embed_text("a young woman with brown hair")
    red = stage.embed_text("red hair", start)
    change = {c: (painted(stage, labels, red, c) - painted(stage, labels, start, c)).abs().mean() for c in (HAIR, FACE)}
    assert change[FACE] < 0.4 * change[HAIR]


def test_an_edit_recolours_hair_and_moves_nothing(stage: Edit, labels: torch.Tensor) -> None:
    start = stage.embed_text("a young woman with black hair")
    parent = stage(EditOrder(CAMERA, map=labels, style=start), lambda: None)
    order = EditOrder(CAMERA, parent, labels, start, None, stage.embed_text("blond hair", start))
    blond = stage(order, lambda: None)
    assert torch.equal(blond.means, parent.means)
    hairy = stage._model.reconstruction.hairy[:, 0] > 0
    assert (blond.colors - parent.colors)[hairy].mean() > 0.1


def test_synonyms_are_read_and_strange_words_are_told(stage: Edit) -> None:
    assert stage.unknown_words("a ginger lady with blonde curls and specs") == []
    assert stage.unknown_words("a glittering unicorn") == ["glittering", "unicorn"]


def test_make_up_and_age_show_on_the_face_and_only_there(stage: Edit, labels: torch.Tensor) -> None:
    start = stage.embed_text("a young woman without make-up, with brown hair")
    parent = stage(EditOrder(CAMERA, map=labels, style=start), lambda: None)
    regions = stage._model.reconstruction.template.regions
    face = (regions == Region.FACE) | (regions == Region.MOUTH) | (regions == Region.EYE)
    changes = {}
    for text in ("make-up", "an old person"):
        order = EditOrder(CAMERA, parent, labels, start, None, stage.embed_text(text, start))
        plain = Edit(stage._model, stage._embedder, "no tables")(order, lambda: None)
        changes[text] = stage(order, lambda: None).colors - plain.colors
        assert float(changes[text][~face].abs().max()) == 0
        assert float(changes[text][face].abs().max()) > 0.05
    lips = changes["make-up"][face].abs().sum(-1).topk(200).indices
    redder = changes["make-up"][face][lips]
    assert float((redder[:, 0] - redder[:, 1]).mean()) > 0.05
    folds = changes["an old person"][face].mean(-1)
    assert float(folds.topk(500, largest=False).values.mean()) < -0.03
