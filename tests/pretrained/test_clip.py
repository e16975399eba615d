"""CLIP from files in open_clip's format, small: it answers what open_clip's own network answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.pretrained.clip import Clip, load_clip

open_clip = pytest.importorskip("open_clip")
SMALL: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(**SMALL).eval()


@pytest.fixture(params=["clip.safetensors", "clip.bin"])
def clip(request: pytest.FixtureRequest, network: Any, tmp_path: Path) -> Clip:
    file = tmp_path / request.param
    tensors = {k: v.contiguous().clone() for k, v in network.state_dict().items()}
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save(tensors, file)
    return load_clip(file, "small", config=SMALL)


@torch.no_grad()
def test_words_are_embedded_as_open_clip_embeds_them(clip: Clip, network: Any) -> None:
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a woman with red hair"])
    wanted = network.encode_text(tokens, normalize=True)[0]
    assert torch.allclose(clip.embed_text("a woman with red hair"), wanted, atol=1e-5)
    assert clip.unknown_words("any blorb") == []


@torch.no_grad()
def test_pictures_are_put_on_grey_and_embedded_as_open_clip_embeds_them(clip: Clip, network: Any) -> None:
    rgba = torch.zeros(4, 32, 32)
    rgba[:3, :, :16] = 0.5  # the same grey as behind it
    rgba[3, :, :16] = 1
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    spread = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    wanted = network.encode_image(((torch.full((3, 32, 32), 0.5) - mean) / spread)[None], normalize=True)[0]
    assert torch.allclose(clip.embed_picture(rgba), wanted, atol=1e-4)


def test_a_change_starts_from_the_look_it_is_about(clip: Clip) -> None:
    about = clip.embed_text("an old man")
    assert torch.allclose(clip.embed_text("a photo of a person", about), about, atol=1e-5)
    assert clip.embed_text("red hair", about).norm() == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(clip.embed_text("red hair", about), about)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"nothing\.bin"):
        load_clip(tmp_path / "nothing.bin", "ViT-B-32")
    with pytest.raises(InvalidInputError, match="ViT-L-14"):
        load_clip(tmp_path / "nothing.bin", "ViT-no-such")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CorruptWeightsError, match="architecture"):
        load_clip(tmp_path / "other.safetensors", "small", config=SMALL)
