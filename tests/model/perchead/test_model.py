"""The composed model of the paper; what holds of every model is in ../test_sizes.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headlift.errors import MissingWeightsError
from headlift.model.cameras import orbit_cameras
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.model import PercHead
from headlift.model.template import Template

Portraits = tuple[Tensor, Tensor]


def test_a_camera_is_passed_on_and_changes_no_head(model: PercHead, portraits: Portraits) -> None:
    given = orbit_cameras([20, -20], width=64, height=64)
    tokens = model.encode(*portraits, camera=given)
    assert tokens.camera is given
    plain = model.encode(*portraits)
    assert plain.camera is None
    assert plain.observation is None
    assert torch.equal(model.decode(tokens)[1].means, model.decode(plain)[1].means)


def test_without_its_backbone_it_decodes_but_does_not_encode(
    paper_config: PercHeadConfig, template: Template, model: PercHead, portraits: Portraits
) -> None:
    alone = PercHead(paper_config, template).eval()
    alone.load_state_dict(model.state_dict())
    tokens = model.encode(*portraits)
    assert torch.equal(alone.decode(tokens)[0].means, model.decode(tokens)[0].means)
    with pytest.raises(MissingWeightsError, match="dinov2_vits14"):
        alone.encode(*portraits)


def test_refinement_may_recolour_everything(model: PercHead, portraits: Portraits) -> None:
    tokens = model.encode(*portraits)
    assert model.recolor_trust(tokens, model.decode(tokens)[0]) is None


def test_bfloat16_autocast_keeps_positions_in_full_precision(paper: PercHead, portraits: Portraits) -> None:
    with torch.no_grad():
        exact = paper(*portraits)[0]
        with torch.autocast("cpu", torch.bfloat16):
            rough = paper(*portraits)[0]
    assert rough.means.dtype == torch.float32
    torch.testing.assert_close(rough.means, exact.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(rough.colors, exact.colors, atol=0.02, rtol=0)
