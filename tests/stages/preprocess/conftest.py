"""Pictures that the preprocess tests share."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from headlift.model.checkpoint import load_checkpoint
from headlift.model.mini.model import MiniHead
from headlift.stages.preprocess.detect.haar import HaarFaceDetector
from headlift.stages.preprocess.detect.headnet import HeadNetDetector, headnet_detector
from headlift.stages.preprocess.geometry.crop import crop_from_face
from headlift.stages.preprocess.geometry.resample import compose, invert, similarity, warp
from headlift.stages.preprocess.interfaces import Face
from headlift_trainer.synthetic.render.views import orbit_view
from headlift_trainer.synthetic.source.procedural import ProceduralSource

_SEED = 80_012  # of a generated head that HeadNet was not trained on
Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """The public-domain portrait that scikit-image carries, [512, 512, 3]."""
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Array or Pillow picture to file bytes."""

    def encoded(picture: np.ndarray | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture(scope="session")
def mini() -> MiniHead:
    """The shipped network."""
    path = Path(str(resources.files("headlift") / "weights" / "mini.safetensors"))
    return load_checkpoint(path)[0].eval().requires_grad_(False)


@pytest.fixture(scope="session")
def headnet(mini: MiniHead) -> HeadNetDetector:
    """Its HeadNet."""
    detection = headnet_detector(mini)
    assert detection is not None
    return detection


@pytest.fixture(scope="session")
def rough_face(astronaut: np.ndarray) -> Face:
    """The astronaut's face as cascades find it."""
    return HaarFaceDetector().detect(astronaut)[0]


@pytest.fixture(scope="session")
def astronaut_frame(rough_face: Face) -> np.ndarray:
    """[2, 3] the portrait crop of side 1 about it."""
    return crop_from_face(rough_face, 1)


@pytest.fixture(scope="session")
def headless() -> dict[str, np.ndarray]:
    """Pictures without a head: noise, one colour, a shaded wall, writing, a cup of coffee, a drawn cat."""
    generator = np.random.default_rng(0)
    wall = np.linspace(60, 220, 320)[None, :, None] * np.array([1.0, 0.9, 0.8])
    cat = np.full((320, 320, 3), (190, 205, 220), np.uint8)
    fur = (150, 110, 80)
    cv2.circle(cat, (160, 150), 70, fur, -1)
    cv2.ellipse(cat, (160, 330), (95, 120), 0, 0, 360, fur, -1)
    for side in (-1, 1):
        ear = [[160 + side * 65, 140], [160 + side * 58, 45], [160 + side * 15, 95]]
        cv2.fillPoly(cat, [np.array(ear)], fur)
        cv2.ellipse(cat, (160 + side * 28, 140), (12, 16), 0, 0, 360, (200, 220, 60), -1)
        cv2.ellipse(cat, (160 + side * 28, 140), (4, 14), 0, 0, 360, (0, 0, 0), -1)
    return {
        "noise": generator.integers(0, 256, (256, 300, 3), dtype=np.uint8),
        "plain": np.full((200, 240, 3), 128, np.uint8),
        "wall": np.repeat(wall, 240, 0).astype(np.uint8),
        "writing": np.ascontiguousarray(np.repeat(skimage.data.text()[..., None], 3, 2)),
        "coffee": cv2.resize(skimage.data.coffee(), (300, 200), interpolation=cv2.INTER_AREA),
        "cat": cat,
    }


@pytest.fixture(scope="session")
def back_of_head() -> np.ndarray:
    """[256, 256, 4] a portrait crop of a generated head, from behind and a little from the side, premultiplied 0..1."""
    head = ProceduralSource().head(_SEED).dress(np.random.default_rng([_SEED, 0]))
    return head.renderer.draw(orbit_view(150.0, 5.0, 256), 256).rgba.astype(np.float32) / 255


def before_wall(head: np.ndarray, onto: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A premultiplied head placed by ``onto`` before a shaded wall, uint8, and its matte 0..1."""
    placed = np.clip(warp(head, onto, size), 0, 1)
    wall = np.linspace(0.85, 0.6, size[0])[None, :, None] * np.array([0.9, 0.95, 1.0])
    picture = placed[..., :3] + (1 - placed[..., 3:]) * wall
    return (picture * 255).astype(np.uint8), placed[..., 3]


@pytest.fixture(scope="session")
def from_behind(back_of_head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture of that head, [240, 320, 3], and the [2, 3] map to its portrait crop of side 1."""
    onto = similarity((128, 128), (140, 130), scale=220 / 256, turn_deg=8.0)
    picture, _ = before_wall(back_of_head, onto, (320, 240))
    return picture, compose(similarity((0, 0), (0, 0), scale=1 / 256), invert(onto))


@pytest.fixture(scope="session")
def from_behind_matte(back_of_head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A portrait crop of that head, [256, 256, 3], and its true matte."""
    return before_wall(back_of_head, np.eye(2, 3), (256, 256))
