"""Mini's driver; what holds of every model is in ../test_sizes.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_camera, orbit_cameras
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.mini.parsing_groups import ParsingGroup
from headlift.model.mini.projection import facing
from headlift.model.template import Region, Template
from headlift.model.types import ImageTokens, Observation

Portraits = tuple[Tensor, Tensor]


def tokens_of(code: Tensor) -> ImageTokens:
    """Blank tokens with this head code [B, 5], seen from the front."""
    b = len(code)
    blank = Observation(code, torch.zeros(b, 4, 64, 64), torch.zeros(b, 6, 16, 16), torch.zeros(b, 2, 3, 3))
    tokens, mask = torch.zeros(b, 1, 32), torch.ones(b, 1, dtype=torch.bool)
    return ImageTokens(tokens, mask, torch.zeros(b, 1, 2), orbit_cameras([0.0] * b, width=64, height=64), blank)


def only(group: ParsingGroup, like: Tensor) -> Tensor:
    found = torch.zeros_like(like)
    found[:, group] = 1.0
    return found


def test_an_untrained_model_starts_from_the_grey_template(mini: MiniHead, template: Template) -> None:
    tokens = mini.encode(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))  # nothing to fetch colours from
    head = mini.decode_batch(tokens).detach()
    torch.testing.assert_close(head.means[0], template.anchors)
    torch.testing.assert_close(head.colors, torch.full((1, 512, 3), 0.5))
    assert 0.8 < float(head.opacities.min()) < 0.95


def test_the_code_moves_and_colours_the_head_that_decoding_starts_from(mini: MiniHead, template: Template) -> None:
    gen = torch.Generator().manual_seed(0)
    offsets, geometry = (0.01 * torch.randn(*s, 512, 3, generator=gen) for s in ((), (3,)))
    colors, basis = torch.rand(512, 3, generator=gen), 0.01 * torch.randn(2, 512, 3, generator=gen)
    mini.morphable.fill(offsets, geometry, colors, basis)
    tokens = tokens_of(torch.randn(2, 5, generator=gen))
    assert tokens.observation is not None
    assert tokens.camera is not None
    code = tokens.observation.code
    expected = template.anchors + offsets + torch.einsum("bk,knc->bnc", code[:, :3], geometry)
    torch.testing.assert_close(mini.start_means(tokens.observation, tokens.camera), expected)
    found = mini.start_colors(tokens.observation)
    torch.testing.assert_close(found, (colors + torch.einsum("bk,knc->bnc", code[:, 3:], basis)).clamp(0, 1))


def test_discs_grow_where_the_code_pulls_a_patch_apart(mini: MiniHead, template: Template) -> None:
    basis = torch.zeros(3, 512, 3)
    basis[0, :16] = template.anchors[:16] - template.anchors[:16].mean(0)  # twice as wide at code 1
    mini.morphable.fill(torch.zeros(512, 3), basis, torch.full((512, 3), 0.5), torch.zeros(2, 512, 3))
    plain, pulled = mini.decode_batch(tokens_of(torch.tensor([[0.0] * 5, [1.0, 0, 0, 0, 0]]))).scales
    torch.testing.assert_close(pulled[:16], 2 * plain[:16], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(pulled[16:], plain[16:])


def test_other_anchors_in_a_state_dict_bring_everything_derived_from_them(
    mini: MiniHead, mini_config: MiniConfig, template: Template
) -> None:
    moved = replace(template, anchors=template.anchors * 1.1, normals=-template.normals)
    source = MiniHead(mini_config, moved)
    mini.load_state_dict(source.state_dict())
    for name in ("patch_normals", "deform_weight", "hair_grain"):
        torch.testing.assert_close(getattr(mini, name), getattr(source, name))


def test_tokens_without_observation_or_camera_are_refused(mini: MiniHead) -> None:
    tokens = tokens_of(torch.zeros(1, 5))
    for lacking in (replace(tokens, observation=None), replace(tokens, camera=None)):
        with pytest.raises(InvalidInputError, match="observation and camera"):
            mini.decode(lacking)
        with pytest.raises(InvalidInputError, match="observation and camera"):
            mini.recolor_trust(lacking, mini.decode(tokens)[0])
    with pytest.raises(InvalidInputError, match="active_layers"):
        mini.decode(tokens, active_layers=-1)


def test_a_source_mask_of_another_size_is_refused(mini: MiniHead, portraits: Portraits) -> None:
    with pytest.raises(InvalidInputError, match="source_mask"):
        mini.encode(*portraits, source_mask=torch.ones(2, 1, 32, 32))


@torch.no_grad()
def test_what_hair_covers_takes_the_hairs_colour_where_it_is_hidden(mini: MiniHead, template: Template) -> None:
    red = torch.tensor([0.8, 0.1, 0.1])
    tokens = mini.encode(torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64), orbit_camera(0, size=64))
    observation = tokens.observation
    assert observation is not None
    pixels = observation.pixels
    pixels = torch.cat([red[None, :, None, None].expand(1, 3, *pixels.shape[2:]), pixels[:, 3:]], 1)
    parsing = only(ParsingGroup.HAIR, observation.parsing)
    tokens = replace(tokens, observation=replace(observation, pixels=pixels, parsing=parsing))
    hidden = (template.normals[:, 2] < -0.3) & (template.regions == Region.FACE)  # where no hair grows
    found, code = [], mini.morphable
    for cover in (0.0, 1.0):
        code.fill_hair(torch.full_like(code.hair_mean, cover), torch.zeros_like(code.hair_basis))
        found.append(mini.decode_batch(tokens).colors[0, hidden].mean(0))
    bare, covered = ((color - red).norm() for color in found)
    assert covered < 0.6 * bare


@torch.no_grad()
def test_seen_colours_come_from_the_picture_and_hidden_ones_do_not(mini_config: MiniConfig, template: Template) -> None:
    template = replace(template, regions=torch.zeros_like(template.regions))  # a bare face all around: no hair to tint
    mini = MiniHead(mini_config, template).eval()
    mini.guidance.pixel_mlp.fc2.bias[3] = 20.0  # the gate is wide open
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1.0
    tokens = mini.encode(red, torch.ones(1, 1, 64, 64))
    assert tokens.observation is not None
    skin = only(ParsingGroup.SKIN, tokens.observation.parsing)  # an untrained HeadNet parses at random
    colors = mini.decode_batch(replace(tokens, observation=replace(tokens.observation, parsing=skin))).colors[0]
    towards = facing(orbit_camera(0), template.anchors[None], template.normals)[0, :, 0]
    seen, hidden = colors[towards > 0.7], colors[towards < 0]
    torch.testing.assert_close(seen, torch.tensor([1.0, 0, 0]).expand_as(seen), atol=1e-3, rtol=0)
    torch.testing.assert_close(hidden, torch.full_like(hidden, 0.5))


def test_no_gradient_flows_into_the_places_of_the_samples(model: MiniHead) -> None:
    tokens = model.encode(torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64))
    assert tokens.camera is not None
    viewmats = tokens.camera.viewmats.detach().requires_grad_(True)
    head = model.decode_batch(replace(tokens, camera=replace(tokens.camera, viewmats=viewmats)))
    (gradient,) = torch.autograd.grad(head.colors.sum(), viewmats, allow_unused=True)
    assert gradient is None


@torch.no_grad()
def test_decoding_finishes_a_head_and_parts_of_it_stay_unfinished(model: MiniHead, portraits: Portraits) -> None:
    tokens = model.encode(*portraits)
    whole, raw = model.decode(tokens)[0], model.decode_batch(tokens)
    (part, _) = model.decode(tokens, patches=torch.arange(32))
    assert torch.equal(part.scales, raw.scales[0])
    assert (whole.scales >= raw.scales[0]).all()
    assert (whole.scales > raw.scales[0]).any()


@torch.no_grad()
def test_decoding_gives_a_grey_portrait_a_grey_head(mini: MiniHead) -> None:
    mini.morphable.mean_colors.uniform_(generator=torch.Generator().manual_seed(0))
    grey = torch.linspace(0.1, 0.9, 64).expand(1, 3, 64, 64)
    alpha = torch.ones(1, 1, 64, 64)
    tokens = mini.encode(grey, alpha)

    def spread(colors: Tensor) -> float:
        return float((colors.max(-1).values - colors.min(-1).values).mean())

    assert spread(mini.decode_batch(tokens).colors) > 0.01
    assert spread(mini.decode(tokens)[0].colors) < 0.001


@torch.no_grad()
def test_bfloat16_autocast_keeps_positions_in_full_precision(mini: MiniHead, portraits: Portraits) -> None:
    for parameter in mini.encoder.headnet.dense.classes.parameters():
        parameter.zero_()  # an untrained HeadNet parses at random, and rounding turns its guesses over
    exact = mini(*portraits)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rough = mini(*portraits)[0]
    assert rough.means.dtype == torch.float32
    torch.testing.assert_close(rough.means, exact.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(rough.colors, exact.colors, atol=0.02, rtol=0)
