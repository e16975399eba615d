"""The image encoder is that of the sam2 package, filled from the official layout of files."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from headlift.errors import BackendUnavailableError, CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift_trainer.metrics import sam2
from headlift_trainer.metrics.sam2 import ARCHITECTURES, Architecture, Sam2Encoder, fill_sam2, load_sam2

pytest.importorskip("sam2", reason="the optional package sam2 is not installed")
TINY = Architecture(8, 1, (1, 1, 2, 1), (3,), grid=3, windows=(2, 2, 4, 2), embedding=16)


def randomised(network: nn.Module) -> nn.Module:
    """Weights of which none is zero, so that each one matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return network


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As the project publishes: all of SAM under "model"."""
    state = randomised(Sam2Encoder(TINY)).state_dict()
    path = tmp_path / "sam2.1_hiera_small.pt"
    torch.save({"model": {**state, "memory_attention.norm.weight": torch.ones(3)}}, path)
    return path


@pytest.fixture
def tiny(checkpoint: Path) -> Sam2Encoder:
    network = Sam2Encoder(TINY)
    fill_sam2(network, checkpoint, "tiny")
    return network


def test_every_published_shape_is_that_of_the_packages_own_configs() -> None:
    """Read, not built: the largest would take two gigabytes."""
    import inspect

    from hydra import compose
    from sam2.modeling.backbones.hieradet import Hiera

    letters = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    defaults = {name: p.default for name, p in inspect.signature(Hiera).parameters.items()}
    for name, arch in ARCHITECTURES.items():
        letter = letters[name.removeprefix("sam2.1_hiera_")]
        config = compose(config_name=f"configs/sam2.1/sam2.1_hiera_{letter}.yaml").model.image_encoder
        trunk = defaults | {key: value for key, value in config.trunk.items() if key != "_target_"}
        assert (trunk["embed_dim"], trunk["num_heads"]) == (arch.dim, arch.num_heads)
        assert tuple(trunk["stages"]) == arch.stages
        assert tuple(trunk["global_att_blocks"]) == arch.global_blocks
        assert tuple(trunk["window_pos_embed_bkg_spatial_size"]) == (arch.grid, arch.grid)
        assert tuple(trunk["window_spec"]) == arch.windows
        assert list(config.neck.backbone_channel_list) == arch.widths
        assert (config.neck.d_model, config.scalp) == (arch.embedding, 1)
        assert (list(config.neck.fpn_top_down_levels), config.neck.fpn_interp_model) == ([2, 3], "nearest")


def test_an_official_checkpoint_gives_the_packages_own_embedding(tmp_path: Path) -> None:
    from sam2.build_sam import build_sam2

    theirs = randomised(build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", apply_postprocessing=False))
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": theirs.state_dict()}, path)
    images = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        features = theirs.forward_image((images - mean) / std)["vision_features"]
        assert features.shape == (1, 256, 8, 10)
        torch.testing.assert_close(load_sam2("sam2.1_hiera_tiny", path)(images), features)
        still = load_sam2("sam2.1_hiera_tiny", path, no_memory=True)(images)
        torch.testing.assert_close(still, features + theirs.no_mem_embed[0, 0, :, None, None])


def test_safetensors_hold_the_same_network(tiny: Sam2Encoder, tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in tiny.state_dict().items()}, tmp_path / "small.safetensors")
    other = Sam2Encoder(TINY)
    fill_sam2(other, tmp_path / "small.safetensors", "tiny")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(tiny(images), other(images))


def test_the_embedding_has_a_place_for_every_sixteen_pixels_and_gradients_reach_the_picture(tiny: Sam2Encoder) -> None:
    images = torch.rand(2, 3, 96, 64, requires_grad=True)
    embedding: Tensor = tiny.train()(images)
    assert embedding.shape == (2, 16, 6, 4)
    assert not tiny.training
    embedding.square().sum().backward()
    assert images.grad is not None
    assert bool((images.grad != 0).any(dim=1).all())
    assert all(p.grad is None for p in tiny.parameters())


def test_sides_must_be_multiples_of_32(tiny: Sam2Encoder) -> None:
    with pytest.raises(InvalidInputError, match="multiples of 32"):
        tiny(torch.zeros(1, 3, 64, 80))


def test_files_that_do_not_hold_it_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="choose one of"):
        load_sam2("sam2.1_hiera_huge", checkpoint)
    with pytest.raises(MissingWeightsError, match=r"sam2\.1_hiera_small\.pt.*github"):
        load_sam2("sam2.1_hiera_small", tmp_path / "nothing.pt")
    with pytest.raises(CorruptWeightsError, match="is not sam2"):
        load_sam2("sam2.1_hiera_tiny", checkpoint)
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(CorruptWeightsError, match="plain table"):
        load_sam2("sam2.1_hiera_tiny", other)
    save_file({"vision_encoder.backbone.pos_embed": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CorruptWeightsError, match="not the transformers layout"):
        load_sam2("sam2.1_hiera_tiny", tmp_path / "model.safetensors")
    other.write_bytes(b"nothing")
    with pytest.raises(CorruptWeightsError, match="readable"):
        load_sam2("sam2.1_hiera_tiny", other)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    torch.save({"model": {"image_encoder.x": Hostile()}}, tmp_path / "bad.pt")
    with pytest.raises(CorruptWeightsError, match="readable"):
        load_sam2("sam2.1_hiera_tiny", tmp_path / "bad.pt")


def test_a_wrong_hash_is_refused_and_the_right_one_is_not(checkpoint: Path) -> None:
    right = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    fill_sam2(Sam2Encoder(TINY), checkpoint, "tiny", sha256=right.upper())
    with pytest.raises(CorruptWeightsError, match=right):
        fill_sam2(Sam2Encoder(TINY), checkpoint, "tiny", sha256="0" * 64)


def test_without_the_package_the_error_says_how_to_install_it(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sam2.modeling.backbones.hieradet", None)
    with pytest.raises(BackendUnavailableError, match="pip install") as caught:
        sam2.load_sam2("sam2.1_hiera_small", checkpoint)
    assert caught.value.reason == "MISSING_PACKAGE"
