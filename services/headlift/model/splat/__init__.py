"""Gaussians to pictures: ``rasterize(gaussians, cameras)`` and its backends."""

from headlift.model.splat.library import build_native
from headlift.model.splat.native import drawing_threads
from headlift.model.splat.rasterize import available_backends, rasterize

__all__ = ["available_backends", "build_native", "drawing_threads", "rasterize"]
