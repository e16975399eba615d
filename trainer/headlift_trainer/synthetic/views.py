"""Cameras round a head: the portrait crop of `headlift.model.types`, a fixed rig and random input views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift_trainer.synthetic.assets import Floats

# yaw, pitch of the fixed rig, degrees: always the first views of a file, in this order
RIG_DEG = ((0, 0), (45, 0), (-45, 0), (90, 0), (-90, 0), (180, 0), (135, 15), (-135, 15))
INPUT_VIEWS = 4  # random views near the front; then one of any yaw and one from above
RANDOM_VIEWS = INPUT_VIEWS + 2


@dataclass(frozen=True)
class View:
    """One OpenCV camera for square pictures."""

    viewmat: Floats  # [4, 4] world to camera
    K: Floats  # [3, 3] pixels

    @property
    def center(self) -> Floats:
        """Where the camera stands, [3] m."""
        return np.asarray(-self.viewmat[:3, :3].T @ self.viewmat[:3, 3], np.float32)


def orbit_view(
    yaw_deg: float,
    pitch_deg: float,
    size: int,
    *,
    roll_deg: float = 0.0,
    distance: float = DISTANCE,
    shift: tuple[float, float] = (0.0, 0.0),
) -> View:
    """A camera that looks at HEAD_CENTER.

    Args:
        yaw_deg: Positive moves the camera toward the head's left (+X).
        pitch_deg: Positive moves it up.
        size: Side of the picture, pixels.
        roll_deg: Positive turns the picture's content clockwise.
        distance: From HEAD_CENTER, m.
        shift: Moves the crop; the head moves right and down by this share of the picture.
    """
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    back = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    upright = np.stack([right, np.cross(right, back), -back])  # rows: right, down, forward
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = turn @ upright
    viewmat = np.eye(4, dtype=np.float32)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ (np.array(HEAD_CENTER) + distance * back)
    focal = FOCAL * size
    K = np.array([[focal, 0, (0.5 + shift[0]) * size], [0, focal, (0.5 + shift[1]) * size], [0, 0, 1]], np.float32)
    return View(viewmat, K)


def rig_views(size: int) -> list[View]:
    """The fixed rig."""
    return [orbit_view(yaw, pitch, size) for yaw, pitch in RIG_DEG]


def random_views(rng: np.random.Generator, size: int) -> list[View]:
    """Views as photographs take them: INPUT_VIEWS near the front, one of any yaw, one steeply from above."""
    poses = [(float(np.clip(rng.normal(0, 30), -85, 85)), float(rng.normal(2, 11))) for _ in range(INPUT_VIEWS)]
    poses.append((float(rng.uniform(-180, 180)), float(np.clip(rng.normal(3, 14), -30, 35))))
    poses.append((float(rng.uniform(-180, 180)), float(rng.uniform(35, 60))))
    return [
        orbit_view(
            yaw,
            pitch,
            size,
            roll_deg=float(rng.normal(0, 6)),
            distance=DISTANCE * float(rng.uniform(0.85, 1.2)),
            shift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        )
        for yaw, pitch in poses
    ]
