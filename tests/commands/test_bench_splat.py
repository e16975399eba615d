"""The benchmark's report holds what its readers rely on."""

from __future__ import annotations

import pytest
import torch

from headlift.commands.bench_splat import bench_splat, head_cloud
from headlift.errors import BackendUnavailableError
from headlift.model.splat import build_native


@pytest.fixture
def native() -> None:
    """The library that is measured."""
    try:
        build_native()
    except BackendUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("native")
def test_the_report_has_its_keys_and_the_native_image_is_the_oracles() -> None:
    report = bench_splat(count=2048, size=96, repeats=2)
    assert set(report) == {
        "forward_ms", "forward_backward_ms", "ratio_to_oracle", "differing_fraction", "peak_extra_mb",
        "backend", "threads", "isa",
    }  # fmt: skip
    assert report["forward_ms"] > 0
    assert report["forward_backward_ms"] > 0
    assert report["differing_fraction"] <= 1e-4


def test_the_cloud_is_valid_and_repeatable() -> None:
    first, second = head_cloud(1000, seed=3), head_cloud(1000, seed=3)
    first.validate()
    assert torch.equal(first.means, second.means)
    assert len(head_cloud(0)) == 0
