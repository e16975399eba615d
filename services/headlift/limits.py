"""Limits of requests that several layers check, each in one place."""

from __future__ import annotations

SIDE_MIN, SIDE_MAX = 16, 2048  # pixels a side of pictures and maps; 64 views of the largest side are 4.3 GB of floats
CAMERAS_MAX = 64  # of one request
REFINE_STEPS_MAX = 1000
