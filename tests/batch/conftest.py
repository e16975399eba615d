"""Small portraits, and a batch of them in this process."""

import io
from pathlib import Path

import pytest
from PIL import Image

from headlift.batch.output_spec import OutputSpec
from headlift.batch.run import Job
from headlift.model.splat import available_backends
from headlift.settings import Settings


@pytest.fixture(scope="session")
def small_portrait(portrait_png) -> Image.Image:
    """The astronaut's face."""
    return Image.open(io.BytesIO(portrait_png)).convert("RGB").crop((80, 0, 208, 128))


@pytest.fixture
def folder(small_portrait, tmp_path) -> Path:
    """Four portraits, a picture without a face and a file that is no picture."""
    source = tmp_path / "in"
    (source / "deep er").mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "b.PNG", "deep er/a.jpg", "deep er/ä.webp")):
        small_portrait.point(lambda v, i=i: min(255, int(v * (0.9 + i / 100)))).save(source / name)
    Image.new("RGB", (128, 128), (90, 120, 90)).save(source / "grey.png")
    (source / "text.jpg").write_bytes(b"no picture")
    (source / "notes.txt").write_bytes(b"left alone")
    return source


@pytest.fixture
def settings(tiny_checkpoint) -> Settings:
    """A tiny network."""
    backend = "native" if "native" in available_backends() else "reference"
    return Settings(weights=tiny_checkpoint, device="cpu", rasterizer=backend)


@pytest.fixture
def job(folder, settings, tmp_path) -> Job:
    """All of the folder, in blocks of two."""
    return Job(str(folder), str(tmp_path / "out"), OutputSpec(size=64), settings, block_items=2)
