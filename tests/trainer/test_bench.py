"""The bench of training: figures that belong together."""

import pytest
import torch

from headlift_trainer.bench import PHASES, BenchTask, bench_train, peak_flops


def test_the_phases_add_up_and_the_share_of_the_peak_is_a_share():
    what = BenchTask(batch_size=1, target_views=1, target_size=64)
    figures = bench_train(what, steps=1, device=torch.device("cpu"))
    assert sum(figures[f"{name}_ms"] for name in PHASES) == pytest.approx(figures["step_ms"], rel=1e-3)
    assert figures["samples_per_s"] == pytest.approx(1e3 / figures["step_ms"])
    assert figures["views_per_s"] == pytest.approx(2 * figures["samples_per_s"])
    assert 0 < figures["share_of_peak"] < 1.5  # the product that the peak is taken from is noisy, too
    assert figures["network_ms"] > figures["other_ms"]
    assert figures["flops_per_step"] > 1e9


def test_the_peak_is_a_speed():
    assert peak_flops(torch.device("cpu"), torch.float32, repeats=1) > 1e8
