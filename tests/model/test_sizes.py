"""The named sizes, and what holds of a head model of either kind, whatever its weights."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_camera
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.encoder import Backbone
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import HeadModel, HeadModelConfig, build_model, build_unset_model, named_config
from headlift.model.template import Template
from headlift.model.types import Gaussians, ImageTokens

Portraits = tuple[Tensor, Tensor]


def test_base_is_the_papers_model() -> None:
    base = named_config("base")
    assert isinstance(base, PercHeadConfig)
    assert base == PercHeadConfig()
    assert (base.decoder.depth, base.decoder.dim, base.decoder.num_heads) == (10, 1024, 16)
    assert (base.decoder.num_patches, base.decoder.num_gaussians) == (4096, 65536)
    assert (base.encoder.depth, base.encoder.dim, base.encoder.grid) == (2, 128, 36)
    assert (base.encoder.backbone, base.encoder.backbone_layers) == ("dinov2_vitg14", (9, 19, 29, 39))
    assert base.encoder.backbone_dim == 4 * 1536
    assert base.decoder.residual == "paper"
    assert base.sharpener is not None


def test_light_models_have_four_layers_and_no_sharpener() -> None:
    for name in ("light", "light_s"):
        assert (named_config(name).decoder.depth, named_config(name).sharpener) == (4, None)
    small = named_config("light_s")
    assert isinstance(small, PercHeadConfig)
    assert small.encoder.backbone == "dinov2_vits14"


def test_every_real_size_makes_65536_gaussians() -> None:
    assert {named_config(n).decoder.num_gaussians for n in ("base", "light", "light_s", "mini")} == {65536}


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="light_s"):
        named_config("huge")


def test_a_config_becomes_the_model_of_its_kind(untrained: HeadModel, config: HeadModelConfig) -> None:
    assert isinstance(untrained, PercHead if isinstance(config, PercHeadConfig) else MiniHead)
    assert untrained.config is config


def test_a_backbone_for_a_model_without_is_refused(template: Template, backbone: Backbone) -> None:
    with pytest.raises(InvalidInputError, match="backbone"):
        build_model(named_config("tiny"), template, backbone)


def test_forward_is_decode_of_encode(model: HeadModel, portraits: Portraits) -> None:
    for a, b in zip(model(*portraits), model.decode(model.encode(*portraits)), strict=True):
        assert torch.equal(a.means, b.means)
        assert torch.equal(a.colors, b.colors)


def test_the_same_portrait_gives_the_same_head_bit_for_bit(model: HeadModel, portraits: Portraits) -> None:
    assert torch.equal(model(*portraits)[0].means, model(*portraits)[0].means)


def test_sharpening_stays_within_0_and_1_and_may_be_absent(model: HeadModel) -> None:
    rgb = torch.rand(2, 3, 10, 11)
    out = model.sharpen(rgb)
    assert out.shape == rgb.shape
    assert 0 <= float(out.detach().min()) <= float(out.detach().max()) <= 1
    if model.sharpener is None:
        assert out is rgb


def test_anchors_are_part_of_the_state_and_the_template_stays_at_hand(model: HeadModel, template: Template) -> None:
    state = model.state_dict()
    for name in ("anchors", "normals", "spacing"):
        torch.testing.assert_close(state[f"decoder.{name}"], getattr(template, name))
    torch.testing.assert_close(model.template.anchors, template.anchors)


def test_a_template_of_another_size_is_refused(config: HeadModelConfig) -> None:
    n = 96
    small = Template(
        torch.zeros(n, 3), torch.ones(n, 3), torch.ones(n), torch.zeros(n, 8, dtype=torch.int64), torch.arange(n),
        torch.zeros(n, dtype=torch.uint8), name="small", sha256="",
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="96 anchors"):
        build_model(config, small)


@pytest.mark.parametrize(
    ("image", "alpha"), [((1, 4, 8, 8), (1, 1, 8, 8)), ((1, 3, 8, 8), (1, 1, 4, 8)), ((1, 3, 8, 4), (1, 1, 8, 4))]
)
def test_shapes_that_do_not_belong_together_are_refused(
    model: HeadModel, image: tuple[int, ...], alpha: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInputError):
        model.encode(torch.zeros(image), torch.zeros(alpha))


def test_one_camera_for_two_portraits_is_refused(model: HeadModel, portraits: Portraits) -> None:
    with pytest.raises(InvalidInputError, match="1 cameras for 2"):
        model.encode(*portraits, camera=orbit_camera(0))


# -- decoded heads ----------------------------------------------------------------------


def assert_same(a: Gaussians, b: Gaussians, atol: float = 1e-5) -> None:
    for f in fields(Gaussians):
        torch.testing.assert_close(getattr(a, f.name), getattr(b, f.name), atol=atol, rtol=1e-4)


def differ(a: Gaussians, b: Gaussians) -> bool:
    return any(not torch.allclose(getattr(a, f.name), getattr(b, f.name), atol=1e-6) for f in fields(Gaussians))


@pytest.fixture
def tokens(model: HeadModel, portraits: Portraits) -> ImageTokens:
    with torch.no_grad():
        return model.encode(*portraits)


def test_means_stay_within_s_max_of_where_they_start(model: HeadModel, tokens: ImageTokens) -> None:
    with torch.no_grad():
        model.decoder.heads["means"].weight.mul_(1e3)
        starts = model.decoder.anchors
        if isinstance(model, MiniHead):
            assert tokens.observation is not None
            assert tokens.camera is not None
            starts = model.start_means(tokens.observation, tokens.camera)
        means = model.decode_batch(tokens).means
    assert (means - model.decoder.anchors).abs().max() > 1e-3
    assert (means - starts).abs().max() <= model.config.decoder.s_max + 1e-6


def test_every_head_is_valid_and_of_full_count(model: HeadModel, tokens: ImageTokens) -> None:
    heads = model.decode(tokens)
    assert len(heads) == 2
    for head in heads:
        assert len(head.validate()) == 512
        torch.testing.assert_close(head.quats.norm(dim=-1), torch.ones(512))
        assert (head.scales > 0).all()


def test_the_order_of_image_tokens_does_not_matter(model: HeadModel, tokens: ImageTokens) -> None:
    order = torch.randperm(tokens.tokens.shape[1], generator=torch.Generator().manual_seed(3))
    shuffled = replace(
        tokens, tokens=tokens.tokens[:, order], mask=tokens.mask[:, order], positions=tokens.positions[:, order]
    )
    for a, b in zip(model.decode(tokens), model.decode(shuffled), strict=True):
        assert_same(a, b)


def test_masked_tokens_have_no_influence(model: HeadModel, tokens: ImageTokens) -> None:
    extra = 3
    junk = torch.cat([tokens.tokens, torch.full((2, extra, tokens.tokens.shape[2]), 7.0)], 1)
    padded = replace(
        tokens,
        tokens=torch.where(torch.nn.functional.pad(tokens.mask, (0, extra))[..., None], junk, 7.0),
        mask=torch.nn.functional.pad(tokens.mask, (0, extra)),
        positions=torch.cat([tokens.positions, torch.full((2, extra, 2), 0.3)], 1),
    )
    for a, b in zip(model.decode(tokens), model.decode(padded), strict=True):
        assert_same(a, b)


def test_some_patches_decoded_alone_are_rows_of_the_whole(model: HeadModel, tokens: ImageTokens) -> None:
    patches = torch.tensor([5, 0, 31, 17])
    rows = (patches[:, None] * 16 + torch.arange(16)).flatten()
    part, whole = model.decode_batch(tokens, patches=patches), model.decode_batch(tokens)
    assert_same(part, Gaussians(**{f.name: getattr(whole, f.name)[:, rows] for f in fields(Gaussians)}))
    for i, alone in enumerate(model.decode(tokens, patches=patches)):
        assert_same(alone, Gaussians(**{f.name: getattr(part, f.name)[i] for f in fields(Gaussians)}), atol=0)


def test_switching_off_no_layer_changes_nothing_and_all_layers_forgets_the_image(
    model: HeadModel, tokens: ImageTokens
) -> None:
    depth = model.config.decoder.depth
    for a, b in zip(model.decode(tokens), model.decode(tokens, active_layers=depth), strict=True):
        assert_same(a, b, atol=0)
    assert differ(model.decode(tokens)[0], model.decode(tokens, active_layers=1)[0])
    if isinstance(model, PercHead):
        other = replace(tokens, tokens=torch.randn_like(tokens.tokens))
        assert_same(model.decode(tokens, active_layers=0)[0], model.decode(other, active_layers=0)[0], atol=0)


def test_the_image_matters(model: HeadModel, tokens: ImageTokens) -> None:
    other = replace(tokens, tokens=torch.randn_like(tokens.tokens))
    assert differ(model.decode(tokens)[0], model.decode(other)[0])


def test_every_trained_weight_gets_a_gradient(model: HeadModel, portraits: Portraits) -> None:
    heads = model.decode_batch(model.encode(*portraits))
    weights = torch.linspace(0, 1, 512)[:, None]
    parts = (getattr(heads, f.name).reshape(2, 512, -1) * weights for f in fields(Gaussians))
    loss = sum((part.square().sum() for part in parts), torch.zeros(()))
    loss.backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert idle == {n for n, p in model.named_parameters() if n.startswith("sharpener.") or not p.requires_grad}


def test_a_model_that_is_to_be_loaded_draws_no_random_numbers(config: HeadModelConfig, template: Template) -> None:
    before = torch.get_rng_state()
    build_unset_model(config, template)
    assert torch.equal(torch.get_rng_state(), before)
    build_model(config, template)
    assert not torch.equal(torch.get_rng_state(), before)
