"""Both published layouts give the same network, and the network is DINOv2's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.perchead.config import BACKBONES
from headlift.pretrained.dinov2 import ARCHITECTURES, Architecture, Dinov2, _vision_transformer, fill, load_dinov2

SHAPES = {
    "plain": Architecture(32, 3, 2, grid=5),
    "registers": Architecture(32, 3, 2, registers=4, grid=5),
    "giant-like": Architecture(48, 2, 2, swiglu=True, grid=5),
}


def hub_weights(arch: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of the project's own files."""
    gen = torch.Generator().manual_seed(seed)
    d, hidden = arch.dim, 4 * arch.dim
    if arch.swiglu:
        hidden = int(arch.dim * 2.66667 * 2) // 2
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, d),
        "mask_token": (1, d),
        "pos_embed": (1, arch.grid**2 + 1, d),
        "patch_embed.proj.weight": (d, 3, 14, 14),
        "patch_embed.proj.bias": (d,),
        "norm.weight": (d,),
        "norm.bias": (d,),
    }
    if arch.registers:
        shapes["register_tokens"] = (1, arch.registers, d)
    first, second, width = ("w12", "w3", 2 * hidden) if arch.swiglu else ("fc1", "fc2", hidden)
    for i in range(arch.depth):
        for name, shape in {
            "norm1.weight": (d,),
            "norm1.bias": (d,),
            "attn.qkv.weight": (3 * d, d),
            "attn.qkv.bias": (3 * d,),
            "attn.proj.weight": (d, d),
            "attn.proj.bias": (d,),
            "ls1.gamma": (d,),
            "norm2.weight": (d,),
            "norm2.bias": (d,),
            f"mlp.{first}.weight": (width, d),
            f"mlp.{first}.bias": (width,),
            f"mlp.{second}.weight": (d, hidden),
            f"mlp.{second}.bias": (d,),
            "ls2.gamma": (d,),
        }.items():
            shapes[f"blocks.{i}.{name}"] = shape
    return {name: 0.3 * torch.randn(shape, generator=gen) for name, shape in shapes.items()}


def hugging_face_weights(hub: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as transformers names and splits them."""
    top = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inner = {
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    }
    out: dict[str, Tensor] = {}
    for name, value in hub.items():
        if name in top:
            out[top[name]] = value
            continue
        _, layer, rest = name.split(".", 2)
        if rest.startswith("attn.qkv"):
            for part, chunk in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[f"encoder.layer.{layer}.attention.attention.{part}.{rest.rsplit('.', 1)[1]}"] = chunk.clone()
            continue
        for ours, theirs in inner.items():
            rest = rest.replace(ours, theirs)
        out[f"encoder.layer.{layer}.{rest}"] = value
    return out


def filled(arch: Architecture, path: Path, layers: tuple[int, ...] = (1,), convention: str = "hub") -> Dinov2:
    network = Dinov2(arch, layers, convention)  # type: ignore[arg-type]
    fill(network, path, name="small one")
    return network


@pytest.fixture(params=SHAPES)
def arch(request: pytest.FixtureRequest) -> Architecture:
    return SHAPES[request.param]


@pytest.fixture
def hub_file(arch: Architecture, tmp_path: Path) -> Path:
    torch.save(hub_weights(arch), tmp_path / "hub.pth")
    return tmp_path / "hub.pth"


def test_all_layouts_give_the_same_features(arch: Architecture, hub_file: Path, tmp_path: Path) -> None:
    theirs = hugging_face_weights(hub_weights(arch))
    save_file({k: v.contiguous() for k, v in theirs.items()}, tmp_path / "model.safetensors")
    torch.save({f"dinov2.{k}": v for k, v in theirs.items()}, tmp_path / "pytorch_model.bin")
    images = torch.rand(2, 3, 42, 56)
    expected = filled(arch, hub_file)(images)[0]
    assert expected.shape == (2, 12, arch.dim)
    for name in ("model.safetensors", "pytorch_model.bin"):
        torch.testing.assert_close(filled(arch, tmp_path / name)(images)[0], expected, rtol=0, atol=0)


def test_features_are_those_of_timms_own_dinov2_at_the_native_size(arch: Architecture, hub_file: Path) -> None:
    """timm's loader and forward pass are another implementation; they differ only in how positions are resized."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    reference = _vision_transformer(arch).eval()
    reference.load_state_dict(checkpoint_filter_fn(torch.load(hub_file, weights_only=True), reference))
    images = torch.rand(2, 3, 70, 70)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = reference.get_intermediate_layers(normalised, n=[0, 1], norm=True, return_prefix_tokens=True)
        ours = filled(arch, hub_file, (0, 1)).features(images)
    for (patches, prefix), layer in zip(expected, ours, strict=True):
        torch.testing.assert_close(layer.patches, patches, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer.class_token, prefix[:, 0], atol=1e-4, rtol=1e-4)


def test_the_two_layer_conventions_are_one_apart_and_differ_by_the_norm(arch: Architecture, hub_file: Path) -> None:
    images = torch.rand(1, 3, 70, 70)
    hub, hf = filled(arch, hub_file, (0, 1)), filled(arch, hub_file, (1, 2), "hf")
    for ours, theirs in zip(hub.features(images), hf.features(images), strict=True):
        torch.testing.assert_close(hub.vit.norm(theirs.patches), ours.patches, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(hub.vit.norm(theirs.class_token), ours.class_token, atol=1e-5, rtol=1e-5)


def test_layers_come_in_the_order_asked_for(hub_file: Path, arch: Architecture) -> None:
    images = torch.rand(1, 3, 70, 70)
    first, second = filled(arch, hub_file, (0, 1))(images)
    swapped = filled(arch, hub_file, (1, 0))(images)
    assert torch.equal(swapped[0], second)
    assert torch.equal(swapped[1], first)


def test_positions_are_resized_as_the_project_does(tmp_path: Path) -> None:
    """With silent blocks and black-balanced pictures, what is left is the class token's and the patches' positions."""
    for arch in (SHAPES["plain"], SHAPES["registers"]):
        weights = hub_weights(arch)
        for name in weights:
            if "gamma" in name or name.startswith("patch_embed"):
                weights[name].zero_()
        torch.save(weights, tmp_path / "w.pth")
        found = filled(arch, tmp_path / "w.pth", (1,), "hf")(torch.rand(1, 3, 42, 84))[0]
        grid = weights["pos_embed"][:, 1:].reshape(1, 5, 5, arch.dim).permute(0, 3, 1, 2)
        if arch.registers:
            expected = F.interpolate(grid, size=(3, 6), mode="bicubic", antialias=True)
        else:
            expected = F.interpolate(grid, scale_factor=(3.1 / 5, 6.1 / 5), mode="bicubic")
        torch.testing.assert_close(found, expected.flatten(2).mT, atol=1e-5, rtol=1e-5)


def test_the_network_is_frozen_but_lets_gradients_through(arch: Architecture, hub_file: Path) -> None:
    network = filled(arch, hub_file).train()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    images = torch.rand(1, 3, 28, 28, requires_grad=True)
    network(images)[0].square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_named_networks_have_the_shapes_of_timms(name: str) -> None:
    size = {"vits14": "small", "vitb14": "base", "vitl14": "large", "vitg14": "giant"}[name.split("_")[1]]
    timm_name = f"vit_{size}_patch14_{'reg4_' if name.endswith('_reg') else ''}dinov2"
    with torch.device("meta"):
        ours = _vision_transformer(ARCHITECTURES[name]).state_dict()
        theirs = timm.create_model(timm_name, num_classes=0).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_models_config_knows_the_same_networks() -> None:
    assert {name: (a.dim, a.depth) for name, a in ARCHITECTURES.items()} == dict(BACKBONES)


def test_a_missing_file_says_which_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        load_dinov2("dinov2_vits14_reg", tmp_path / "absent.pth", layers=(2,))
    for told in (
        "absent.pth",
        "dinov2_vits14_reg4_pretrain.pth",
        "facebook/dinov2-with-registers-small",
        "facebookresearch/dinov2",
    ):
        assert told in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_wrong_hash_is_refused_and_a_right_one_is_not(hub_file: Path, arch: Architecture) -> None:
    network = Dinov2(arch, (1,))
    right = hashlib.sha256(hub_file.read_bytes()).hexdigest()
    fill(network, hub_file, name="x", sha256=right.upper())
    with pytest.raises(CorruptWeightsError, match="SHA-256"):
        fill(network, hub_file, name="x", sha256="0" * 64)


def test_weights_of_another_network_are_refused_with_the_first_difference(tmp_path: Path) -> None:
    torch.save(hub_weights(SHAPES["plain"]), tmp_path / "w.pth")
    with pytest.raises(CorruptWeightsError, match=r"blocks\.2"):
        fill(Dinov2(Architecture(32, 2, 2, grid=5), (1,)), tmp_path / "w.pth", name="shallow")


def test_damaged_files_and_pickles_with_code_are_refused(tmp_path: Path) -> None:
    network = Dinov2(SHAPES["plain"], (1,))
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x02garbage" * 9)
        with pytest.raises(CorruptWeightsError):
            fill(network, tmp_path / name, name="x")
    torch.save({"w": print}, tmp_path / "code.pth")
    with pytest.raises(CorruptWeightsError):
        fill(network, tmp_path / "code.pth", name="x")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CorruptWeightsError, match="plain table"):
        fill(network, tmp_path / "list.pth", name="x")


def test_unknown_networks_layers_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="dinov2_vits14"):
        load_dinov2("dinov9", tmp_path / "w.pth", layers=(1,))
    with pytest.raises(InvalidInputError, match=r"0\.\.2"):
        Dinov2(SHAPES["plain"], (3,))
    with pytest.raises(InvalidInputError, match=r"1\.\.3"):
        Dinov2(SHAPES["plain"], (0,), "hf")
    with pytest.raises(InvalidInputError, match="multiples of 14"):
        Dinov2(SHAPES["plain"], (0,))(torch.rand(1, 3, 30, 28))
