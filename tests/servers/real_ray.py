"""Fixtures: one Ray of this machine for the whole session, and Headlift's applications in it.

The test process is Ray's driver, as ``headlift serve --runtime ray`` is. Starting takes most of the time, so each
application is deployed once, when the first test asks for it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headlift.model.splat import available_backends

if TYPE_CHECKING:
    from headlift.backend.protocol import Backend


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray runs, and this process is connected to it; skips where Ray is not installed."""
    pytest.importorskip("ray.serve")
    from headlift.serving.ray_app import connected

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about versions to come
        with connected(""):
            yield


@pytest.fixture(scope="session")
def replica_settings(tiny_checkpoint: Path) -> dict[str, Any]:
    """What the replicas of tests are told: a tiny network on one thread."""
    backend = "native" if "native" in available_backends() else "reference"
    return {"weights": str(tiny_checkpoint), "device": "cpu", "rasterizer": backend, "threads": 1}


@pytest.fixture(scope="session")
def ray_app(ray_cluster: None, replica_settings: dict[str, Any]) -> Iterator[Callable[[str], Backend]]:
    """The stages of a topology; its application is called ``headlift-{topology}``."""
    from headlift.serving.deployments import AppConfig
    from headlift.serving.ray_app import deployed

    running: dict[str, Backend] = {}
    with ExitStack() as stack:

        def ask(topology: str) -> Backend:
            if topology not in running:
                config = AppConfig(topology, replica_settings)
                running[topology] = stack.enter_context(deployed(config, f"headlift-{topology}"))
            return running[topology]

        yield ask


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Training brings clusters of its own, and a process can be in one only."""
    ray = sys.modules.get("ray")
    if ray is not None and "trainer" in item.path.parts and hasattr(ray, "is_initialized") and ray.is_initialized():
        ray.shutdown()
