"""Headlift: one portrait in, one 3D head of 65,536 Gaussians out."""

from __future__ import annotations

__version__ = "0.1.0"
