"""The composed model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_camera
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.template import Template

Portraits = tuple[Tensor, Tensor]


def test_forward_is_decode_of_encode(model: PercHead, portraits: Portraits) -> None:
    for a, b in zip(model(*portraits), model.decode(model.encode(*portraits)), strict=True):
        assert torch.equal(a.means, b.means)
        assert torch.equal(a.colors, b.colors)


def test_the_same_portrait_gives_the_same_head_bit_for_bit(model: PercHead, portraits: Portraits) -> None:
    assert torch.equal(model(*portraits)[0].means, model(*portraits)[0].means)


def test_sharpening_stays_within_0_and_1_and_may_be_absent(model: PercHead) -> None:
    rgb = torch.rand(2, 3, 10, 11)
    out = model.sharpen(rgb)
    assert out.shape == rgb.shape
    assert 0 <= float(out.detach().min()) <= float(out.detach().max()) <= 1
    if model.sharpener is None:
        assert out is rgb


def test_anchors_are_part_of_the_state_and_the_template_stays_at_hand(model: PercHead, template: Template) -> None:
    state = model.state_dict()
    for name in ("anchors", "normals", "spacing"):
        torch.testing.assert_close(state[f"decoder.{name}"], getattr(template, name))
    torch.testing.assert_close(model.template.anchors, template.anchors)


def test_a_template_of_another_size_is_refused(config: PercHeadConfig) -> None:
    n = 96
    small = Template(
        torch.zeros(n, 3), torch.ones(n, 3), torch.ones(n), torch.zeros(n, 8, dtype=torch.int64), torch.arange(n),
        torch.zeros(n, dtype=torch.uint8), name="small", sha256="",
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="96 anchors"):
        PercHead(config, small)


@pytest.mark.parametrize(
    ("image", "alpha"), [((1, 4, 8, 8), (1, 1, 8, 8)), ((1, 3, 8, 8), (1, 1, 4, 8)), ((1, 3, 8, 4), (1, 1, 8, 4))]
)
def test_shapes_that_do_not_belong_together_are_refused(
    model: PercHead, image: tuple[int, ...], alpha: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInputError):
        model.encode(torch.zeros(image), torch.zeros(alpha))


def test_one_camera_for_two_portraits_is_refused(model: PercHead, portraits: Portraits) -> None:
    with pytest.raises(InvalidInputError, match="1 cameras for 2"):
        model.encode(*portraits, camera=orbit_camera(0))


def test_bfloat16_autocast_keeps_positions_in_full_precision(template: Template, portraits: Portraits) -> None:
    tiny = named_config("tiny")
    # An untrained HeadNet parses at random, and rounding turns its guesses over.
    model = PercHead(replace(tiny, encoder=replace(tiny.encoder, headnet=None, headnet_layers=())), template).eval()
    with torch.no_grad():
        exact = model(*portraits)[0]
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(*portraits)[0]
    assert rough.means.dtype == torch.float32
    torch.testing.assert_close(rough.means, exact.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(rough.colors, exact.colors, atol=0.02, rtol=0)
