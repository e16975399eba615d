"""Mini's encoder: a first guess, and what HeadNet says."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.model.cameras import orbit_cameras
from headlift.model.mini.encoder import summarise, summary_dim
from headlift.model.mini.model import MiniHead

Portraits = tuple[Tensor, Tensor]


def test_an_untrained_head_says_the_front_camera_and_the_mean_code(mini: MiniHead, portraits: Portraits) -> None:
    tokens = mini.encode(*portraits)
    assert tokens.observation is not None
    assert tokens.camera is not None
    assert tokens.observation.code.abs().max() == 0
    assert tokens.observation.deformation.abs().max() == 0
    torch.testing.assert_close(tokens.camera.viewmats, orbit_cameras([0, 0]).viewmats, atol=1e-5, rtol=0)
    assert (tokens.camera.width, tokens.camera.height) == (64, 64)


def test_a_given_camera_takes_the_place_of_the_estimate(model: MiniHead, portraits: Portraits) -> None:
    given = orbit_cameras([20, -20], width=64, height=64)
    assert model.encode(*portraits, camera=given).camera is given


def test_the_matte_reaches_the_trained_branch_and_not_headnet(model: MiniHead) -> None:
    pixels = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    pixels[:, 3] = 1.0
    other = pixels.clone()
    other[:, 3, 20:40] = 0.6
    (one, seen), (two, again) = model.encoder(pixels), model.encoder(other)
    assert not torch.allclose(one.tokens, two.tokens)
    torch.testing.assert_close(seen.parsing, again.parsing)
    torch.testing.assert_close(seen.summary, again.summary)


def test_the_summary_has_its_length(model: MiniHead) -> None:
    output, layers = model.encoder.headnet.read(torch.rand(2, 3, 32, 32))
    assert summarise(output, layers[-1]).shape == (2, summary_dim(model.config.encoder.headnet))


def test_headnet_is_frozen(model: MiniHead, portraits: Portraits) -> None:
    assert not any(p.requires_grad for p in model.encoder.headnet.parameters())
    _, features = model.encoder(torch.cat(portraits, 1))
    assert not any(t.requires_grad for t in (*features.tokens, features.summary, features.landmarks, features.parsing))
