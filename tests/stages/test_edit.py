"""The editing stage: whole answers, styles on a sphere, and work that stops when asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.cameras import orbit_camera
from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from headlift.model.edit.checkpoint import save_edit
from headlift.model.edit.complexion import Complexion
from headlift.model.edit.map_words import SIDE, MapWords
from headlift.model.edit.model import EditConfig, EditModel
from headlift.model.edit.style import StyleModel, Vocabulary
from headlift.model.perchead.config import DecoderConfig, EncoderConfig, PercHeadConfig, VitConfig
from headlift.model.perchead.model import PercHead
from headlift.model.types import Gaussians, Portrait
from headlift.stages.edit import Edit, EditOrder, SmallClip, load_edit

CAMERA = orbit_camera(0.0, size=64)


class StopError(Exception):
    pass


def nothing() -> None:
    pass


@pytest.fixture
def labels() -> Tensor:
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[20:50, 20:44] = 2
    labels[8:20, 16:48] = 14
    return labels


def unit_style(seed: int) -> Tensor:
    return F.normalize(torch.randn(16, generator=torch.Generator().manual_seed(seed)), dim=-1)


def portrait() -> Portrait:
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 10:60, 15:50] = 1
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * alpha
    return Portrait(image, alpha, torch.eye(3, dtype=torch.float64)[:2])


def changed(stage: Edit, labels: Tensor, parent: Gaussians, **what: Tensor) -> Gaussians:
    return stage(EditOrder(CAMERA, parent, labels, unit_style(0), what.get("map"), what.get("style")), nothing)


def test_a_portrait_is_segmented_where_its_matte_shows_somebody(stage: Edit) -> None:
    segmentation = stage.segment(portrait())
    assert segmentation.labels.shape == segmentation.confidence.shape == (64, 64)
    assert segmentation.labels.dtype == torch.uint8
    assert torch.equal(segmentation.labels > 0, portrait().alpha[0] > 0.5)
    assert int(segmentation.labels.max()) <= 18
    assert float(segmentation.confidence.min()) >= 0
    assert float(segmentation.confidence.max()) <= 1 + 1e-6


def test_words_and_pictures_are_unit_styles(stage: Edit) -> None:
    for style in (
        stage.embed_text("red hair"),
        stage.embed_picture(portrait()),
        stage.embed_text("red hair", unit_style(1)),
    ):
        assert style.shape == (16,)
        assert style.norm() == pytest.approx(1, abs=1e-5)
    assert stage.unknown_words("a shiny red hair") == ["shiny"]


def test_blending_goes_along_the_sphere(stage: Edit) -> None:
    a, b = unit_style(1), unit_style(2)
    assert torch.allclose(stage.blend([a, b], [1, 0]), a, atol=1e-6)
    assert torch.allclose(stage.blend([a, b], [0, 2]), b, atol=1e-6)
    middle = stage.blend([a, b], [1, 1])
    assert torch.dot(middle, a) == pytest.approx(float(torch.dot(middle, b)), abs=1e-5)
    assert stage.blend([a, b, unit_style(3)], [1, 2, 3]).norm() == pytest.approx(1, abs=1e-5)
    quarter = stage.blend([a, b], [3, 1])
    whole, part = torch.acos(torch.dot(a, b)), torch.acos(torch.dot(a, quarter))
    assert part / whole == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("weights", [[], [1.0], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_impossible_mixes_are_refused(stage: Edit, weights: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        stage.blend([unit_style(1), unit_style(2)], weights)


def test_opposite_styles_have_no_way_between_them(stage: Edit) -> None:
    with pytest.raises(InvalidInputError, match="opposite"):
        stage.blend([unit_style(1), -unit_style(1)], [1, 1])


def test_a_head_comes_of_map_and_look_alone(stage: Edit, labels: Tensor) -> None:
    head = stage(EditOrder(CAMERA, map=labels, style=unit_style(0)), nothing)
    assert len(head.validate()) == 512


def test_an_edit_of_nothing_gives_the_parent_back(stage: Edit, labels: Tensor) -> None:
    parent = stage(EditOrder(CAMERA, map=labels, style=unit_style(7)), nothing)
    same = changed(stage, labels, parent)
    assert torch.equal(same.means, parent.means)
    assert torch.equal(same.colors, parent.colors)


def test_a_look_moves_nothing_and_a_map_does(stage: Edit, labels: Tensor) -> None:
    parent = stage(EditOrder(CAMERA, map=labels, style=unit_style(7)), nothing)
    restyled = changed(stage, labels, parent, style=unit_style(3))
    assert torch.equal(restyled.means, parent.means)
    assert torch.equal(restyled.opacities, parent.opacities)
    assert not torch.equal(restyled.colors, parent.colors)
    wide = labels.clone()
    wide[4:40, 6:58] = 14
    assert not torch.equal(changed(stage, labels, parent, map=wide).means, parent.means)


def test_undoing_an_edit_comes_back(stage: Edit, labels: Tensor) -> None:
    parent = stage(EditOrder(CAMERA, map=labels, style=unit_style(0)), nothing)
    there = changed(stage, labels, parent, style=unit_style(3))
    back = stage(EditOrder(CAMERA, there, labels, unit_style(3), None, unit_style(0)), nothing)
    assert (back.colors - parent.colors).abs().max() < 0.04


def test_the_same_order_gives_the_same_head_whatever_was_asked_before(
    editor: tuple[EditModel, StyleModel], stage: Edit, labels: Tensor
) -> None:
    order = EditOrder(CAMERA, map=labels, style=unit_style(0))
    first = stage(order, nothing)
    for seed in range(12):
        stage(EditOrder(CAMERA, map=labels, style=unit_style(seed + 1)), nothing)
    assert torch.equal(stage(order, nothing).means, first.means)
    assert len(stage._heads) <= 8


def test_work_stops_when_nobody_waits(stage: Edit, labels: Tensor) -> None:
    def refuse() -> None:
        raise StopError

    with pytest.raises(StopError):
        stage(EditOrder(CAMERA, map=labels, style=unit_style(0)), refuse)
    assert not stage._heads


def test_incomplete_orders_are_refused(stage: Edit, labels: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="map and a style"):
        stage(EditOrder(CAMERA, map=labels), nothing)
    parent = stage(EditOrder(CAMERA, map=labels, style=unit_style(0)), nothing)
    with pytest.raises(InvalidInputError, match="its map and its style"):
        stage(EditOrder(CAMERA, parent, None, None, labels, unit_style(0)), nothing)


def test_the_stage_loads_from_files(editor: tuple[EditModel, StyleModel], labels: Tensor, tmp_path: Path) -> None:
    model, style = editor
    save_checkpoint(tmp_path / "base.safetensors", model.reconstruction, Provenance())
    save_edit(tmp_path / "edit.safetensors", model, style, Provenance(), dtype=torch.float32)
    loaded = load_edit(tmp_path / "edit.safetensors", reconstruction=tmp_path / "base.safetensors")
    assert loaded.map_size == 64
    assert len(loaded.fingerprint) == 64
    assert torch.allclose(loaded.embed_text("red hair"), style.embed_texts(["red hair"])[0], atol=1e-6)
    head = loaded(EditOrder(CAMERA, map=labels, style=unit_style(0)), nothing)
    assert len(head.validate()) == 512


def test_a_network_in_memory_is_shared_unless_the_editing_weights_change_it(
    editor: tuple[EditModel, StyleModel], tmp_path: Path
) -> None:
    model, style = editor
    base = tmp_path / "base.safetensors"
    save_checkpoint(base, model.reconstruction, Provenance())
    loaded = load_checkpoint(base)[0].eval().requires_grad_(False)
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    for tuned in (False, True):
        path = tmp_path / f"edit{tuned}.safetensors"
        save_edit(path, model, style, Provenance(), tuned=tuned)
        stage = load_edit(path, reconstruction=base, loaded=loaded)
        assert (stage._model.reconstruction is loaded) is not tuned
    assert all(torch.equal(value, before[name]) for name, value in loaded.state_dict().items())


def test_words_that_are_shapes_are_painted_into_the_map(
    editor: tuple[EditModel, StyleModel], stage: Edit, labels: Tensor
) -> None:
    model, style = editor
    assert stage.paint_words(labels, "a hat", CAMERA) is labels  # weights without outlines
    style.vocabulary = Vocabulary(("hat",), silent=("a",), traits=(("hat", "hat", ("a hat",)),))
    outlines = MapWords()
    outlines.worn[0, 0, : SIDE // 8, SIDE // 4 : SIDE // 2] = 0.1  # right of the middle, seen from the front
    outlines.worn[1, 0, : SIDE // 8, : SIDE // 4] = 0.1
    stage = Edit(model, SmallClip(style, model), "outlined", outlines)
    front = stage.paint_words(labels, "a hat", CAMERA) == 16
    assert front[0, 16:32].all()
    assert int(front.sum()) == 8 * 16
    left = stage.paint_words(labels, "a hat", orbit_camera(45.0, size=64)) == 16
    right = stage.paint_words(labels, "a hat", orbit_camera(-45.0, size=64)) == 16
    assert left[0, :16].all()
    assert torch.equal(right, left.flip(-1))
    assert stage.paint_words(labels, "nothing", CAMERA) is labels


def test_what_traits_leave_on_faces_is_added_to_the_edited_head(
    editor: tuple[EditModel, StyleModel], stage: Edit, labels: Tensor
) -> None:
    model, style = editor
    complexion = Complexion(1, 512, 16)
    complexion.readout[0] = -unit_style(0)
    complexion.colors[0, :5] = 1.0
    with_marks = Edit(model, SmallClip(style, model), "marks", complexion=complexion)
    parent = stage(EditOrder(CAMERA, map=labels, style=unit_style(0)), nothing)
    same = EditOrder(CAMERA, parent, labels, unit_style(0), None, unit_style(0))
    assert torch.equal(with_marks(same, nothing).colors, parent.colors)
    painted = EditOrder(CAMERA, parent, labels, unit_style(0), labels.flip(1), None)
    assert torch.equal(with_marks(painted, nothing).colors, stage(painted, nothing).colors)
    order = EditOrder(CAMERA, parent, labels, unit_style(0), None, -unit_style(0))
    plain, marked = stage(order, nothing), with_marks(order, nothing)
    assert bool((marked.colors[:5] > plain.colors[:5]).all())
    assert torch.equal(marked.colors[5:], plain.colors[5:])
    assert torch.equal(marked.means, plain.means)


def test_models_of_the_papers_sizes_take_their_styles_from_clips_file(
    editor: tuple[EditModel, StyleModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    open_clip = pytest.importorskip("open_clip")
    small = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: small if name == "ViT-B-32" else None)
    save_file(
        {k: v.contiguous().clone() for k, v in open_clip.CLIP(**small).state_dict().items()},
        tmp_path / "clip.safetensors",
    )
    geometry = VitConfig(image_size=32, patch_size=16, dim=32, depth=1, num_heads=2, fusion_dim=32)
    size = EncoderConfig(
        image_size=56, dim=32, depth=1, num_heads=2, backbone="dinov2_vits14", backbone_layers=(2,), fusion_dim=32
    )
    decoder = DecoderConfig(dim=32, depth=2, num_heads=2, num_patches=32, gaussian_dim=8)
    base = PercHeadConfig("paper", 64, size, decoder, None)
    reconstruction = PercHead(base, editor[0].reconstruction.template)
    model = EditModel(EditConfig("paper", base.name, geometry, "ViT-B-32"), reconstruction)
    save_checkpoint(tmp_path / "base", reconstruction, Provenance())
    save_edit(tmp_path / "edit", model, None, Provenance())
    with pytest.raises(MissingWeightsError, match="HEADLIFT_CLIP_WEIGHTS"):
        load_edit(tmp_path / "edit", reconstruction=tmp_path / "base")
    loaded = load_edit(tmp_path / "edit", reconstruction=tmp_path / "base", clip=tmp_path / "clip.safetensors")
    red = loaded.embed_text("red hair")
    assert red.shape == (512,)
    labels = torch.zeros(256, 256, dtype=torch.uint8)
    labels[40:200, 60:180] = 2
    head = loaded(EditOrder(orbit_camera(0.0, size=256), map=labels, style=red), nothing)
    assert len(head.validate()) == 512
    assert loaded.paint_words(labels, "a hat", CAMERA) is labels
