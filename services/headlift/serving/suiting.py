"""Settings that suit what draws on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headlift.backend.local import device_of
from headlift.model.splat import native
from headlift.settings import Settings

# Drawing in plain torch takes some hundred times as long: two seconds a picture and six a refinement step on two cores.
_SLOW: dict[str, Any] = {"refine_steps": 0, "deadline_s": 3600.0, "timeout_s": 3600.0}


def slow_because(settings: Settings) -> str | None:
    """Why a server with these settings draws with the torch rasteriser; None where a fast one draws.

    Builds the native rasteriser where it has not been built yet. BackendUnavailableError: the device is not here.
    """
    if settings.rasterizer == "reference":
        return "HEADLIFT_RASTERIZER is reference; auto takes a faster one."
    if device_of(settings.device).type != "cpu":
        return None
    return native.unavailable_because()


def suited(settings: Settings) -> Settings:
    """``settings`` with those that were left at their defaults changed to what a slow rasteriser can keep.

    Only for stages that are computed on this machine.
    """
    if slow_because(settings) is None:
        return settings
    chosen = settings.changed()
    return replace(settings, **{name: value for name, value in _SLOW.items() if name not in chosen})
