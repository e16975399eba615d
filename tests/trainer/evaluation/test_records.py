from __future__ import annotations

import math

import torch

from headlift_trainer.evaluation.records import Records, rounded


def test_means_are_over_the_chosen_records_that_have_the_metric() -> None:
    records = Records()
    views = [("a", "novel"), ("b", "extreme")]
    records.add("ours", "x", "front", views, {"psnr": torch.tensor([20.0, 10.0]), "ssim": torch.tensor([0.5, 0.6])})
    records.add("ours", "y", "front", views, {"psnr": torch.tensor([22.0, math.inf])})
    assert records.mean("psnr", group="novel") == 21
    assert records.mean("psnr", group="extreme") == 10  # what is not finite is no figure
    assert abs((records.mean("ssim") or 0) - 0.55) < 1e-6
    assert records.mean("lpips") is None
    assert records.mean("psnr", method="other") is None
    assert records.by_subject("psnr", group="novel") == {"x": 20, "y": 22}
    assert records.distinct("subject") == ["x", "y"]


def test_metrics_are_rounded_as_their_metric_is_given() -> None:
    assert rounded(12.3456) == 12.35
    assert rounded(0.123456, "iou") == 0.1235
    assert rounded(None) is None
