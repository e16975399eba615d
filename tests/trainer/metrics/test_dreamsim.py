"""DreamSim from the published folder layout, small: updates are added, and CLIP's member is open_clip's network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift_trainer.metrics.dreamsim import MEMBERS, DreamSim, MemberNetwork, Shape, load_dreamsim

SMALL = Shape(dim=48, depth=2, num_heads=2, projection=24)
PREFIX = "base_model.model.base_model.model.model."


def base_weights(network: MemberNetwork) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.vit.state_dict().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Random weights as the release has them."""
    torch.manual_seed(0)
    network = DreamSim(SMALL)
    for member in MEMBERS:
        part = network.members[member.name]
        for p in part.parameters():
            p.data.normal_(0, 0.05)
        weights = base_weights(part)
        if member.clip:
            torch.save({"state_dict": weights | {"proj": part.projection.data}}, tmp_path / member.base_files[0])
        else:
            torch.save(weights, tmp_path / member.base_files[0])
        lora = tmp_path / f"{member.name}_lora"
        lora.mkdir()
        updates = {}
        for block in range(SMALL.depth):
            key = f"{PREFIX}blocks.{block}.attn.qkv.lora_"
            updates |= {f"{key}A.weight": torch.randn(4, 48), f"{key}B.weight": torch.randn(144, 4)}
        torch.save(updates, lora / "adapter_model.bin")
        (lora / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 0.5}))
    return tmp_path


def test_updates_are_added_to_the_base_weights_with_their_scale(folder: Path) -> None:
    network = load_dreamsim(folder, shape=SMALL)
    for member in MEMBERS:
        base = torch.load(folder / member.base_files[0], weights_only=True)
        base = base.get("state_dict", base)
        updates = torch.load(folder / f"{member.name}_lora" / "adapter_model.bin", weights_only=True)
        a, b = (updates[f"{PREFIX}blocks.1.attn.qkv.lora_{x}.weight"] for x in "AB")
        found = network.members[member.name].vit.blocks[1].attn
        assert torch.allclose(found.qkv.weight, base["blocks.1.attn.qkv.weight"] + 0.125 * b @ a)
        assert torch.equal(found.proj.weight, base["blocks.1.attn.proj.weight"])


def test_distance_is_a_symmetric_cosine_distance_that_is_zero_for_equal_pictures(folder: Path) -> None:
    network = load_dreamsim(folder, shape=SMALL)
    one, other = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).unbind()
    with torch.no_grad():
        assert torch.allclose(network(one, one), torch.zeros(2), atol=1e-5)
        assert torch.allclose(network(one, other), network(other, one), atol=1e-6)
        assert bool((network(one, other) > 1e-5).all())
        embedding = network.embed(one)
    assert embedding.shape == (2, 48 + 24 + 24)
    assert torch.allclose(embedding.mean(-1), torch.zeros(2), atol=1e-6)


def test_missing_and_wrong_files_are_named(folder: Path) -> None:
    lora = folder / "clip_vitb16_lora" / "adapter_model.bin"
    updates = torch.load(lora, weights_only=True)
    lora.unlink()
    with pytest.raises(MissingWeightsError, match="adapter_model"):
        load_dreamsim(folder, shape=SMALL)
    kept = {k: v for k, v in updates.items() if "blocks.0" in k}
    save_file(kept, lora.with_suffix(".safetensors"))
    with pytest.raises(CorruptWeightsError, match="updates of 1 blocks"):
        load_dreamsim(folder, shape=SMALL)
    (folder / "dino_vitbase16_pretrain.pth").unlink()
    with pytest.raises(MissingWeightsError, match="facebookresearch/dino"):
        load_dreamsim(folder, shape=SMALL)


def test_clip_members_compute_what_open_clip_computes() -> None:
    transformer = pytest.importorskip("open_clip.transformer")
    torch.manual_seed(0)
    oracle = transformer.VisionTransformer(224, 16, 48, 2, 2, 4.0, output_dim=24).eval()
    for p in oracle.parameters():
        p.data.normal_(0, 0.1)
    theirs = oracle.state_dict()
    member = next(m for m in MEMBERS if m.name == "open_clip_vitb16")
    ours = MemberNetwork(member, SMALL).eval()
    weights = {
        "cls_token": theirs["class_embedding"][None, None],
        "pos_embed": theirs["positional_embedding"][None],
        "patch_embed.proj.weight": theirs["conv1.weight"],
        "patch_embed.proj.bias": torch.zeros(48),
    }
    names = {"ln_pre": "pos_drop", "ln_post": "norm"}
    for i in range(2):
        block = f"transformer.resblocks.{i}."
        names |= {
            f"{block}ln_1": f"blocks.{i}.norm1",
            f"{block}ln_2": f"blocks.{i}.norm2",
            f"{block}attn.out_proj": f"blocks.{i}.attn.proj",
            f"{block}mlp.c_fc": f"blocks.{i}.mlp.fc1",
            f"{block}mlp.c_proj": f"blocks.{i}.mlp.fc2",
        }
        for kind in ("weight", "bias"):
            weights[f"blocks.{i}.attn.qkv.{kind}"] = theirs[f"{block}attn.in_proj_{kind}"]
    for their, our in names.items():
        for kind in ("weight", "bias"):
            weights[f"{our}.{kind}"] = theirs[f"{their}.{kind}"]
    ours.vit.load_state_dict(weights)
    ours.projection.data.copy_(theirs["proj"])
    pictures = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = oracle((pictures - ours.mean) / ours.std)
        assert torch.allclose(ours(pictures), expected, atol=1e-4)
