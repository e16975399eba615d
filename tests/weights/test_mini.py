"""The shipped weights: loadable, described, and a head of the person in the picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import headlift.weights
from headlift import formats
from headlift.backend.local import LocalBackend, local_backend
from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint, weights_hash
from headlift.model.mini.hair import hair_color
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.settings import Settings
from headlift.stages.reconstruct import Reconstruct

FOLDER = Path(headlift.weights.__file__).parent
MINI = FOLDER / "mini.safetensors"


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    """The chain as it is served."""
    return local_backend(Settings(weights=MINI, device="cpu"))


@pytest.fixture(scope="module")
def reconstruct(backend: LocalBackend) -> Reconstruct:
    return backend.stage_reconstruct


@pytest.fixture(scope="module")
def portrait(backend: LocalBackend) -> Portrait:
    from skimage.data import astronaut

    buffer = io.BytesIO()
    Image.fromarray(astronaut()).save(buffer, "PNG")
    return backend.stage_preprocess(buffer.getvalue()).portrait


@pytest.fixture(scope="module")
def head(reconstruct: Reconstruct, portrait: Portrait) -> tuple[Gaussians, Cameras]:
    made = reconstruct(portrait)
    assert made.camera is not None
    return made.gaussians, made.camera


def test_the_weights_are_small_and_their_card_names_them() -> None:
    assert MINI.stat().st_size < 60e6
    assert weights_hash(MINI) in (FOLDER / "MODEL_CARD.md").read_text()


def test_the_weights_say_where_they_come_from() -> None:
    provenance = load_checkpoint(MINI)[1]
    assert provenance.license == "Apache-2.0"
    assert provenance.data
    assert provenance.samples > 0


def test_the_astronaut_is_seen_from_the_front(head: tuple[Gaussians, Cameras]) -> None:
    camera = head[1]
    forward = camera.viewmats[0, 2, :3]
    assert float(-forward[2]) > np.cos(np.radians(25))


def test_the_head_covers_the_matte_of_its_portrait(portrait: Portrait, head: tuple[Gaussians, Cameras]) -> None:
    gaussians, camera = head
    alpha = rasterize(gaussians, camera).alpha[0] > 0.5
    matte = (portrait.alpha > 0.5) & (portrait.source_mask() > 0.5)
    assert float((alpha & matte).sum() / matte.sum()) > 0.85


def test_a_photograph_that_ends_beside_a_shoulder_does_not_cut_the_shoulder(
    reconstruct: Reconstruct, portrait: Portrait, head: tuple[Gaussians, Cameras]
) -> None:
    size = portrait.size
    border = size // 4
    seen = (torch.arange(size) >= border).float()
    cut = replace(
        portrait,
        image=portrait.image * seen,
        alpha=portrait.alpha * seen,
        crop_from_source=torch.tensor([[1, 0, border], [0, 1, 0]], dtype=torch.float64),
        source_size=(size - border, size),
    )

    def likeness(portrait: Portrait) -> float:
        """To the head of the whole portrait, on the side that is cut."""
        views = (rasterize(g, head[1].resized(128, 128)) for g in (head[0], reconstruct(portrait).gaussians))
        whole, ours = (v.alpha[0, 0, :, :36] > 0.5 for v in views)
        return float((whole & ours).sum() / (whole | ours).sum())

    assert likeness(cut) > likeness(replace(cut, source_size=None)) + 0.1
    assert likeness(cut) > 0.6


def test_the_head_is_closed_all_around(head: tuple[Gaussians, Cameras]) -> None:
    views = rasterize(head[0], orbit_cameras([0, 45, 90, 135, 180, 225, 270, 315], width=128, height=128))
    middle = views.alpha[:, 0, 40:76, 50:78]
    assert float(middle.min()) > 0.9


def test_hidden_hair_has_the_colour_of_the_visible_hair(
    reconstruct: Reconstruct, portrait: Portrait, head: tuple[Gaussians, Cameras]
) -> None:
    (tokens,) = reconstruct.encode([portrait])
    assert tokens.observation is not None
    seen, share = hair_color(tokens.observation.pixels, tokens.observation.parsing)
    assert float(share) > 0.05
    back = rasterize(head[0], orbit_cameras([180.0], width=128, height=128)).rgb[0, :, 30:60, 50:78].flatten(1)
    assert float((back.median(1).values - seen[0]).abs().max()) < 0.15


def test_refinement_brings_the_input_view_to_the_portrait(
    reconstruct: Reconstruct, portrait: Portrait, head: tuple[Gaussians, Cameras]
) -> None:
    gaussians, camera = head
    result = reconstruct(portrait, refine_steps=60)
    assert result.camera is not None

    def psnr(g: Gaussians, c: Cameras) -> float:
        error = (rasterize(g, c).rgb[0] - portrait.image).square().mean()
        return float(-10 * torch.log10(error))

    before, after = psnr(gaussians, camera), psnr(result.gaussians, result.camera)
    assert after > before + 3
    assert after > 22


@pytest.mark.parametrize(("kind", "least"), [("wire", 60.0), ("spz", 45.0), ("splat", 45.0)])
def test_a_real_head_survives_a_round_trip_through_files(
    head: tuple[Gaussians, Cameras], kind: formats.Format, least: float
) -> None:
    cameras = orbit_cameras([0.0, 60.0, 180.0], width=256, height=256)
    back = formats.read(formats.write(head[0], kind), kind)
    error = (rasterize(back, cameras).rgb - rasterize(head[0], cameras).rgb).square().mean()
    assert float(-10 * torch.log10(error)) >= least
