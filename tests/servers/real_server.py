"""An embedded server with a tiny network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headlift.model.splat import available_backends
from headlift.serving.background import BackgroundServer
from headlift.settings import Settings


@pytest.fixture(scope="session")
def settings(tiny_checkpoint, tiny_edit_weights, tmp_path_factory) -> Settings:
    """No refinement unless asked for."""
    backend = "native" if "native" in available_backends() else "reference"
    folder = tmp_path_factory.mktemp("store")
    return Settings(
        weights=tiny_checkpoint,
        edit_weights=tiny_edit_weights,
        data_dir=folder,
        device="cpu",
        rasterizer=backend,
        refine_steps=0,
        drain_s=5.0,
        port=0,
    )


@pytest.fixture(scope="session")
def server(settings) -> Iterator[BackgroundServer]:
    """Running."""
    with BackgroundServer(settings) as running:
        yield running
