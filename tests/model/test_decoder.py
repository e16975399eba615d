"""What must hold of decoded heads, whatever the weights."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_camera
from headlift.model.gaussians import multiply_quats, quats_from_normals
from headlift.model.mini.parsing_groups import ParsingGroup
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.template import Region, Template
from headlift.model.types import Gaussians, ImageTokens

Portraits = tuple[Tensor, Tensor]


@pytest.fixture
def tokens(model: PercHead, portraits: Portraits) -> ImageTokens:
    with torch.no_grad():
        return model.encode(*portraits)


def assert_same(a: Gaussians, b: Gaussians, atol: float = 1e-5) -> None:
    for f in fields(Gaussians):
        torch.testing.assert_close(getattr(a, f.name), getattr(b, f.name), atol=atol, rtol=1e-4)


def differ(a: Gaussians, b: Gaussians) -> bool:
    return any(not torch.allclose(getattr(a, f.name), getattr(b, f.name), atol=1e-6) for f in fields(Gaussians))


def rotated(quats: Tensor, v: Tensor) -> Tensor:
    pure = torch.cat([torch.zeros_like(v[..., :1]), v], -1)
    conjugate = quats * torch.tensor([1.0, -1, -1, -1])
    return multiply_quats(multiply_quats(quats, pure), conjugate)[..., 1:]


def test_means_stay_within_s_max_of_their_coarse_anchors(model: PercHead, tokens: ImageTokens) -> None:
    with torch.no_grad():
        model.decoder.heads["means"].weight.mul_(1e3)
        coarse, _ = model.decoder.coarse(tokens)
        for head, anchors in zip(model.decode(tokens), coarse, strict=True):
            assert (head.means - anchors).abs().max() <= model.config.decoder.s_max + 1e-6


def test_every_head_is_valid_and_of_full_count(model: PercHead, tokens: ImageTokens) -> None:
    heads = model.decode(tokens)
    assert len(heads) == 2
    for head in heads:
        assert len(head.validate()) == 512
        torch.testing.assert_close(head.quats.norm(dim=-1), torch.ones(512))
        assert (head.scales > 0).all()


def test_an_untrained_model_gives_the_grey_template(untrained: PercHead, template: Template) -> None:
    model, black = untrained, torch.zeros(1, 3, 64, 64)
    head = model(black, torch.zeros(1, 1, 64, 64))[0].detach()  # an empty matte: nothing to fetch colours from
    torch.testing.assert_close(head.means, template.anchors)
    torch.testing.assert_close(head.colors, torch.full((512, 3), 0.5))
    assert 0.8 < float(head.opacities.min()) < 0.95
    thinnest = head.scales.argmin(-1)
    assert (thinnest == 2).all()
    torch.testing.assert_close(
        rotated(head.quats, torch.tensor([0.0, 0, 1]).expand(512, 3)), template.normals, atol=1e-5, rtol=0
    )


def test_the_order_of_image_tokens_does_not_matter(model: PercHead, tokens: ImageTokens) -> None:
    order = torch.randperm(tokens.tokens.shape[1], generator=torch.Generator().manual_seed(3))
    shuffled = replace(
        tokens, tokens=tokens.tokens[:, order], mask=tokens.mask[:, order], positions=tokens.positions[:, order]
    )
    for a, b in zip(model.decode(tokens), model.decode(shuffled), strict=True):
        assert_same(a, b)


def test_masked_tokens_have_no_influence(model: PercHead, tokens: ImageTokens) -> None:
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


def test_some_patches_decoded_alone_are_rows_of_the_whole(model: PercHead, tokens: ImageTokens) -> None:
    patches = torch.tensor([5, 0, 31, 17])
    rows = (patches[:, None] * 16 + torch.arange(16)).flatten()
    for part, whole in zip(model.decode(tokens, patches=patches), model.decode(tokens), strict=True):
        assert_same(part, Gaussians(**{f.name: getattr(whole, f.name)[rows] for f in fields(Gaussians)}))


def test_switching_off_no_layer_changes_nothing_and_all_layers_forgets_the_image(
    model: PercHead, tokens: ImageTokens
) -> None:
    depth = model.config.decoder.depth
    for a, b in zip(model.decode(tokens), model.decode(tokens, active_layers=depth), strict=True):
        assert_same(a, b, atol=0)
    assert differ(model.decode(tokens)[0], model.decode(tokens, active_layers=1)[0])
    if model.config.decoder.guidance == "none":
        other = replace(tokens, tokens=torch.randn_like(tokens.tokens))
        assert_same(model.decode(tokens, active_layers=0)[0], model.decode(other, active_layers=0)[0], atol=0)


def test_the_image_matters(model: PercHead, tokens: ImageTokens) -> None:
    other = replace(tokens, tokens=torch.randn_like(tokens.tokens))
    assert differ(model.decode(tokens)[0], model.decode(other)[0])


def test_every_trained_weight_gets_a_gradient(model: PercHead, portraits: Portraits) -> None:
    heads = model(*portraits)
    weights = torch.linspace(0, 1, 512)[:, None]
    loss = sum((getattr(h, f.name).reshape(512, -1) * weights).square().sum() for h in heads for f in fields(Gaussians))
    loss.backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert idle == {n for n, p in model.named_parameters() if n.startswith("sharpener.") or not p.requires_grad}


def test_the_code_moves_and_colours_the_coarse_head(template: Template) -> None:
    model = PercHead(named_config("tiny"), template).eval()
    gen = torch.Generator().manual_seed(0)
    offsets, geometry = (0.01 * torch.randn(*s, 512, 3, generator=gen) for s in ((), (3,)))
    colors, basis = torch.rand(512, 3, generator=gen), 0.01 * torch.randn(2, 512, 3, generator=gen)
    model.set_head_code(offsets, geometry, colors, basis)
    code = torch.randn(2, 5, generator=gen)
    tokens = ImageTokens(torch.zeros(2, 1, 32), torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, 2), code)
    means, found = model.decoder.coarse(tokens)
    expected = template.anchors + offsets + torch.einsum("bk,knc->bnc", code[:, :3], geometry)
    torch.testing.assert_close(means, expected)
    torch.testing.assert_close(found, (colors + torch.einsum("bk,knc->bnc", code[:, 3:], basis)).clamp(0, 1))


def test_a_head_code_of_wrong_shape_is_refused(template: Template) -> None:
    model = PercHead(named_config("tiny"), template)
    with pytest.raises(InvalidInputError, match="geometry_basis"):
        model.set_head_code(torch.zeros(512, 3), torch.zeros(4, 512, 3), torch.zeros(512, 3), torch.zeros(2, 512, 3))


def test_discs_grow_where_the_code_pulls_a_patch_apart(template: Template) -> None:
    model = PercHead(named_config("tiny"), template).eval()
    basis = torch.zeros(3, 512, 3)
    basis[0, :16] = template.anchors[:16] - template.anchors[:16].mean(0)  # twice as wide at code 1
    model.set_head_code(torch.zeros(512, 3), basis, torch.full((512, 3), 0.5), torch.zeros(2, 512, 3))
    tokens = model.encode(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))
    plain = model.decode(tokens)[0].scales
    pulled = model.decode(replace(tokens, code=torch.tensor([[1.0, 0, 0, 0, 0]])))[0].scales
    torch.testing.assert_close(pulled[:16], 2 * plain[:16], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(pulled[16:], plain[16:])


def test_other_anchors_in_a_state_dict_bring_everything_derived_from_them(template: Template) -> None:
    config = named_config("tiny")
    moved = replace(template, anchors=template.anchors * 1.1, normals=-template.normals)
    source, target = PercHead(config, moved), PercHead(config, template)
    target.load_state_dict(source.state_dict())
    for name in ("anchor_features", "patch_normals", "disc_quats"):
        torch.testing.assert_close(getattr(target.decoder, name), getattr(source.decoder, name))


def test_tokens_without_what_guidance_needs_are_refused(template: Template) -> None:
    model = PercHead(named_config("tiny"), template)
    tokens = ImageTokens(torch.zeros(1, 1, 32), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 2))
    with pytest.raises(InvalidInputError, match="code"):
        model.decode(tokens)
    with pytest.raises(InvalidInputError, match="camera"):
        model.decode(replace(tokens, code=torch.zeros(1, 5)))
    with pytest.raises(InvalidInputError, match="active_layers"):
        model.decode(tokens, active_layers=-1)


def test_quats_from_normals_take_z_to_the_normal_even_backwards() -> None:
    normals = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    normals = torch.cat([normals, torch.tensor([[0.0, 0, -1], [0, 0, 1], [1e-4, 0, -1]])])
    turned = rotated(quats_from_normals(normals), torch.tensor([0.0, 0, 1]).expand_as(normals))
    torch.testing.assert_close(turned, torch.nn.functional.normalize(normals, dim=-1), atol=1e-3, rtol=0)


def test_what_hair_covers_takes_the_hairs_colour_where_it_is_hidden(template: Template) -> None:
    torch.manual_seed(0)
    model = PercHead(named_config("tiny"), template).eval()
    code = model.decoder.head_code
    assert code is not None
    red = torch.tensor([0.8, 0.1, 0.1])
    with torch.no_grad():
        tokens = model.encode(torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64), orbit_camera(0, size=64))
        assert tokens.parsing is not None
        assert tokens.pixels is not None
        pixels = torch.cat([red[None, :, None, None].expand(1, 3, *tokens.pixels.shape[2:]), tokens.pixels[:, 3:]], 1)
        all_hair = torch.zeros_like(tokens.parsing)
        all_hair[:, ParsingGroup.HAIR] = 1.0
        tokens = replace(tokens, parsing=all_hair, pixels=pixels, code=torch.zeros_like(tokens.code))
        hidden = (template.normals[:, 2] < -0.3) & (template.regions == Region.FACE)  # where no hair grows
        found = []
        for cover in (0.0, 1.0):
            code.fill_hair(torch.full_like(code.hair_mean, cover), torch.zeros_like(code.hair_basis))
            found.append(model.decode(tokens)[0].colors[hidden].mean(0))
    bare, covered = ((color - red).norm() for color in found)
    assert covered < 0.6 * bare
