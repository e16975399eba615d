"""Fixtures that several rooms share: a tiny random network, and a portrait."""

from __future__ import annotations

import inspect
import io
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from headlift import weights
from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from headlift.model.edit.checkpoint import save_edit
from headlift.model.edit.map_words import SIDE, MapWords
from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.edit.style import StyleModel, Vocabulary, feature_width
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.template import Template
from headlift.pretrained import installed

# Real servers (tests/servers) for whoever needs one: they start when the first test asks.
pytest_plugins = ["real_browser", "real_cluster", "real_ray", "real_redis", "real_s3", "real_server"]
# Heads of the tests are made without pretrained models, whatever is installed here; who wants them says where they are.
INSTALLED_MODELS = installed.DEFAULT_FOLDER
installed.DEFAULT_FOLDER = Path(__file__).parent / "nothing-is-here"
os.environ["HEADLIFT_MODELS_DIR"] = str(installed.DEFAULT_FOLDER)
_SERVERS = Path(__file__).parent / "servers"


def _of_a_server(fixture: Any) -> bool:
    code = getattr(inspect.unwrap(fixture.func), "__code__", None)
    return code is not None and Path(code.co_filename).parent == _SERVERS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs a real server, a browser or Ray: whatever uses a fixture of tests/servers, however far down."""
    for item in items:
        found = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
        if any(_of_a_server(fixture) for same_name in found for fixture in same_name):
            item.add_marker("server")
    # Playwright's event loop stays in this thread until the session ends, and asyncio tests cannot run beside it.
    items.sort(key=lambda item: "chromium" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> None:
    """Collecting cannot see what is asked for by ``getfixturevalue``: such parameters carry the mark themselves."""
    if _of_a_server(fixturedef) and request._pyfuncitem.get_closest_marker("server") is None:
        pytest.fail(
            f"{fixturedef.argname} starts a server: mark the parameter that asks for it with pytest.mark.server"
        )


@pytest.fixture(scope="session")
def installed_models() -> Path:
    """Where this machine's pretrained models are, if any were installed."""
    return INSTALLED_MODELS


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the size ``tiny`` with random weights: everything that mini has, in milliseconds."""
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def tiny_weights(folder: Path) -> Path:
    """That checkpoint, written into a folder."""
    config = named_config("tiny")
    assert isinstance(config, MiniConfig)
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_checkpoint(path, MiniHead(config, _egg(config.decoder.num_gaussians)), Provenance(description="random"))
    return path


@pytest.fixture(scope="session")
def light_s_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random checkpoint of the paper's size ``light_s``, and a random DINOv2 ViT-S/14 as its project publishes it."""
    from headlift.pretrained.dinov2 import ARCHITECTURES, Dinov2

    folder = tmp_path_factory.mktemp("light_s")
    torch.manual_seed(2)
    config = named_config("light_s")
    assert isinstance(config, PercHeadConfig)
    template = load_checkpoint(Path(str(weights.__file__)).with_name("mini.safetensors"))[0].template
    checkpoint = folder / "light_s.safetensors"
    model = PercHead(config, template)
    for weight in model.decoder.parameters():
        if not weight.any():  # a new decoder's heads are zero, which gives the template whatever it sees
            weight.data.normal_(std=0.05)
    save_checkpoint(checkpoint, model, Provenance(description="random"), dtype=torch.float16)
    backbone = Dinov2(ARCHITECTURES["dinov2_vits14"], config.encoder.backbone_layers)
    # Without registers timm's names are the project's own, but for what only pre-training uses.
    published = {name: 0.05 * torch.randn_like(value) for name, value in backbone.vit.state_dict().items()}
    torch.save(published | {"mask_token": torch.zeros(1, 384)}, folder / "dinov2_vits14_pretrain.pth")
    return checkpoint, folder / "dinov2_vits14_pretrain.pth"


@pytest.fixture(scope="session")
def tiny_edit_weights(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Editing weights of the size ``tiny`` with random numbers, for ``tiny_checkpoint``."""
    perchead, _ = load_checkpoint(tiny_checkpoint)
    config = named_edit_config("tiny")
    assert isinstance(perchead, MiniHead)
    assert config.style is not None
    torch.manual_seed(1)
    model = EditModel(config, perchead)
    assert model.encoder.painter is not None
    for weight in model.encoder.painter.class_colors.parameters():
        weight.data *= 8  # so that looks differ by more than what counts as noise
    worn = (("hat", "none", ("bare",)), ("hat", "hat", ("hat",)))
    words = Vocabulary(("hair", "red", "black", "long", "hat", "bare"), traits=worn)
    style = StyleModel(config.style, words, feature_width(perchead.encoder.headnet.config))
    outlines = MapWords()
    outlines.worn[:, 0, : SIDE // 4] = 0.1  # a hat is the upper quarter of the picture
    path = tmp_path_factory.mktemp("weights") / "tiny_edit.safetensors"
    save_edit(path, model, style, Provenance(description="random"), outlines=outlines)
    return path


@pytest.fixture(scope="session")
def portrait_png() -> bytes:
    """The public-domain astronaut that scikit-image carries, at half size."""
    from skimage.data import astronaut

    buffer = io.BytesIO()
    Image.fromarray(astronaut()).resize((320, 320), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _egg(count: int) -> Template:
    """Anchors evenly over an egg of a head's size, mirror images in pairs."""
    i = torch.arange(count // 2) + 0.5
    polar, turn = torch.arccos(1 - 4 * i / count), math.pi * (1 + math.sqrt(5)) * i
    half = torch.stack([turn.cos() * polar.sin(), polar.cos(), turn.sin() * polar.sin()], -1)
    normals = torch.cat([half, half * torch.tensor([-1.0, 1.0, 1.0])])
    anchors = normals * torch.tensor([0.075, 0.11, 0.095]) + torch.tensor([0.0, 0.01, 0.0])
    distance, nearest = torch.cdist(anchors, anchors).topk(9, largest=False)
    mirror = torch.cdist(anchors * torch.tensor([-1.0, 1.0, 1.0]), anchors).argmin(1)
    return Template(
        anchors=anchors,
        normals=normals,
        spacing=distance[:, 1:7].mean(1),
        neighbors=nearest[:, 1:],
        mirror=mirror,
        regions=torch.zeros(count, dtype=torch.uint8),
        name="egg",
        sha256="0" * 64,
    )
