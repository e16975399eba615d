"""The closed-form first guess learns what a linear answer can tell."""

import torch

from headlift.model.cameras import FRONTAL_POSE
from headlift.model.mini.config import MiniEncoderConfig
from headlift.model.mini.thumbnail import ThumbnailHead
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
    head = ThumbnailHead(MiniEncoderConfig(thumbnail=8, thumbnail_features=16), 5, summary_dim=7)
    code, pose = head(torch.rand(3, 4, 40, 40), torch.rand(3, 7))
    assert float(code.detach().abs().max()) == 0
    assert torch.equal(pose, torch.tensor(FRONTAL_POSE).expand(3, -1))
