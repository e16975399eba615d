"""The runtimes by name: what ``headlift serve`` and the bench put in front of their callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from headlift.backend.protocol import Backend
from headlift.errors import BackendUnavailableError
from headlift.serving.deployments import AppConfig, read_config
from headlift.settings import Settings


@contextmanager
def running(settings: Settings, config: Path | None = None) -> Iterator[Backend | None]:
    """The stages that ``settings`` name, as long as the block; None stands for those of this process.

    Without ``ray_address`` a Ray of this machine alone is started and ended again, and the application of ``config``
    (or of ``settings``) deployed in it. With an address the application that runs there already is used.

    Raises:
        InvalidInputError: ``config`` cannot be used.
        BackendUnavailableError: Ray is not installed, or the application does not answer.
    """
    if settings.runtime == "embedded" and config is None:
        yield None
        return
    app = read_config(config) if config is not None else AppConfig(settings.topology, replica_settings(settings))
    try:
        from headlift.serving import ray_app
    except ImportError as error:
        raise BackendUnavailableError(
            f"The runtime ray needs the package {error.name}; install headlift[ray], or use --runtime embedded."
        ) from None
    with ray_app.connected(settings.ray_address, settings.ray_node_ip):
        if settings.ray_address:
            yield ray_app.ray_backend(app.topology)
            return
        with ray_app.deployed(app) as backend:
            yield backend


def replica_settings(settings: Settings) -> dict[str, str | int | float | bool]:
    """What replicas need to know of ``settings``; where they run is not theirs to decide."""
    return replace(settings, runtime="embedded", ray_address="", ray_node_ip="").changed()
