"""The template decoder alone; what holds of heads of every model is in ../test_sizes.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.gaussians import multiply_quats
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.decoder import TemplateDecoder
from headlift.model.perchead.model import PercHead
from headlift.model.template import Template
from headlift.model.types import ImageTokens


def rotated(quats: Tensor, v: Tensor) -> Tensor:
    pure = torch.cat([torch.zeros_like(v[..., :1]), v], -1)
    conjugate = quats * torch.tensor([1.0, -1, -1, -1])
    return multiply_quats(multiply_quats(quats, pure), conjugate)[..., 1:]


def test_an_untrained_model_gives_exactly_the_grey_template(
    paper: PercHead, template: Template, portraits: tuple[Tensor, Tensor]
) -> None:
    for head in paper(*portraits):
        found = head.detach()
        assert torch.equal(found.means, template.anchors)
        assert torch.equal(found.colors, torch.full((512, 3), 0.5))
        assert 0.8 < float(found.opacities.min()) < 0.95
        assert (found.scales.argmin(-1) == 2).all()
        torch.testing.assert_close(
            rotated(found.quats, torch.tensor([0.0, 0, 1]).expand(512, 3)), template.normals, atol=1e-5, rtol=0
        )


def test_a_negative_number_of_layers_is_refused(paper: PercHead) -> None:
    tokens = ImageTokens(torch.zeros(1, 1, 32), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 2))
    with pytest.raises(InvalidInputError, match="active_layers"):
        paper.decode(tokens, active_layers=-1)


def test_other_anchors_in_a_state_dict_bring_everything_derived_from_them(
    paper_config: PercHeadConfig, template: Template
) -> None:
    moved = replace(template, anchors=template.anchors * 1.1, normals=-template.normals)
    source, target = (TemplateDecoder(paper_config.decoder, t, token_dim=32) for t in (moved, template))
    target.load_state_dict(source.state_dict())
    for name in ("anchor_features", "disc_quats", "disc_scales"):
        torch.testing.assert_close(getattr(target, name), getattr(source, name))


def test_the_same_anchors_in_a_state_dict_derive_nothing_anew(paper_config: PercHeadConfig, template: Template) -> None:
    decoder = TemplateDecoder(paper_config.decoder, template, token_dim=32)
    tables = decoder.anchor_features, decoder.disc_quats
    decoder.load_state_dict(decoder.state_dict())
    assert decoder.anchor_features is tables[0]
    assert decoder.disc_quats is tables[1]
