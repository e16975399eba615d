"""The closed-form first guess learns what a linear answer can tell."""

from dataclasses import replace

import torch

from headlift.model.mini.thumbnail import ThumbnailHead
from headlift.model.sizes import named_config
from headlift_trainer.closed_form import _best_ridge


def test_the_best_ridge_recovers_a_linear_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 20, generator=generator, dtype=torch.float64)
    truth = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    answers = features @ truth + 5
    weight, offset = _best_ridge(features[:300], answers[:300], features[300:], answers[300:])
    error = features[300:] @ weight + offset - answers[300:]
    assert float(error.square().mean()) < 1e-3 * float(answers.var())


def test_an_unfilled_thumbnail_head_says_nothing() -> None:
    config = replace(named_config("tiny").encoder, thumbnail=8, thumbnail_features=16, headnet=None, headnet_layers=())
    head = ThumbnailHead(config, 14)
    assert float(head(torch.rand(3, 4, 40, 40)).detach().abs().max()) == 0
