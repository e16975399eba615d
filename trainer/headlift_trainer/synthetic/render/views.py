"""Cameras round a head: the portrait crop of `headlift.model.types`, a fixed rig, random views, data sets' rigs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headlift.errors import InvalidInputError
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift_trainer.synthetic.arrays import Floats

# yaw, pitch of the fixed rig, degrees: always the first views of a file, in this order
RIG_DEG = ((0, 0), (45, 0), (-45, 0), (90, 0), (-90, 0), (180, 0), (135, 15), (-135, 15))
INPUT_VIEWS = 4  # random views near the front; then one of any yaw and one from above
RANDOM_VIEWS = INPUT_VIEWS + 2
_NERSEMBLE_ROWS = (  # pitch, yaws: 16 cameras on a frontal arc
    (22.0, (-60.0, -30.0, 0.0, 30.0, 60.0)),
    (2.0, (-70.0, -42.0, -14.0, 14.0, 42.0, 70.0)),
    (-16.0, (-60.0, -30.0, 0.0, 30.0, 60.0)),
)
# yaw, pitch, roll: what a face mesh can see, a little uneven on purpose
_FACE_DEG = ((0, 0, 4), (18, 10, -8), (-20, -8, 6), (38, -12, 0), (-36, 14, -5), (55, 4, 8), (-57, -2, 0))
_CAFCA_ROWS = ((-18.0, 0.0), (8.0, 18.0), (36.0, 0.0))  # pitch, first yaw of ten cameras
# HQ-Head's grid (ID-TS)
IDTS_PITCH_DEG = (-10.0, 0.0, 10.0, 20.0, 30.0, 40.0)
_IDTS_HALF_DEG = (0.0, 4.04, 15.47, 33.22, 56.25, 83.5, 113.91, 146.43, 180.0)
IDTS_YAW_DEG = (*_IDTS_HALF_DEG, *(-yaw for yaw in _IDTS_HALF_DEG[-2:0:-1]))
_STRENGTH_SPREAD = 0.35  # of the logarithm of perspective strength
_STRENGTHS = (0.5, 2.4)  # telephoto from 3.4 m .. a phone at 0.7 m


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
    strength: float = 1.0,
) -> View:
    """A camera that looks at HEAD_CENTER.

    Args:
        yaw_deg: Positive moves the camera toward the head's left (+X).
        pitch_deg: Positive moves it up.
        size: Side of the picture, pixels.
        roll_deg: Positive turns the picture's content clockwise.
        distance: From HEAD_CENTER at strength 1, m.
        shift: Moves the crop; the head moves right and down by this share of the picture.
        strength: Of the perspective: the camera comes nearer by this factor and its focal length falls by it, so that
            the middle of the head keeps its size.
    """
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    back = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    upright = np.stack([right, np.cross(right, back), -back])  # rows: right, down, forward
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = turn @ upright
    viewmat = np.eye(4, dtype=np.float32)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ (np.array(HEAD_CENTER) + distance / strength * back)
    focal = FOCAL * size / strength
    K = np.array([[focal, 0, (0.5 + shift[0]) * size], [0, focal, (0.5 + shift[1]) * size], [0, 0, 1]], np.float32)
    return View(viewmat, K)


def portrait_viewmats(viewmats: Floats, Ks: Floats, size: int) -> Floats:
    """View matrices [V, 4, 4] of the portrait crop's focal length that show the middle of the head as these cameras do.

    A camera of another focal length is moved along its axis until HEAD_CENTER has its size again; what remains is the
    difference in perspective. Cameras that have the crop's focal length stay as they are. Shifts of the principal point
    are left to the caller.
    """
    moved = viewmats.copy()
    center = np.append(np.array(HEAD_CENTER, np.float32), 1)
    depth = viewmats[:, 2] @ center
    moved[:, 2, 3] += depth * (FOCAL * size / Ks[:, 0, 0] - 1)
    return moved


def rig_views(size: int) -> list[View]:
    """The fixed rig."""
    return [orbit_view(yaw, pitch, size) for yaw, pitch in RIG_DEG]


def random_views(rng: np.random.Generator, size: int, *, random_focal: bool = False) -> list[View]:
    """Views as photographs take them: INPUT_VIEWS near the front, one of any yaw, one steeply from above.

    Args:
        rng: Every choice comes from it; poses are the same with and without `random_focal`.
        size: Side of the picture, pixels.
        random_focal: Vary the strength of the perspective, as cameras from telephoto to phone do.
    """
    poses = [(float(np.clip(rng.normal(0, 30), -85, 85)), float(rng.normal(2, 11))) for _ in range(INPUT_VIEWS)]
    poses.append((float(rng.uniform(-180, 180)), float(np.clip(rng.normal(3, 14), -30, 35))))
    poses.append((float(rng.uniform(-180, 180)), float(rng.uniform(35, 60))))
    held = [
        (
            float(rng.normal(0, 6)),
            DISTANCE * float(rng.uniform(0.85, 1.2)),
            (float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        )
        for _ in poses
    ]
    strengths = np.ones(len(poses))
    if random_focal:
        strengths = np.clip(np.exp(rng.normal(0, _STRENGTH_SPREAD, len(poses))), *_STRENGTHS)
    return [
        orbit_view(yaw, pitch, size, roll_deg=roll, distance=distance, shift=shift, strength=float(strength))
        for (yaw, pitch), (roll, distance, shift), strength in zip(poses, held, strengths, strict=True)
    ]


def nersemble_views(size: int) -> list[View]:
    """16 cameras before the face, as in NeRSemble's rig: yaws to 70 degrees on three heights."""
    return [orbit_view(yaw, pitch, size) for pitch, yaws in _NERSEMBLE_ROWS for yaw in yaws]


def face_views(size: int) -> list[View]:
    """7 cameras that see the face: to 57 degrees of yaw, from above and below, some of them tilted."""
    return [orbit_view(yaw, pitch, size, roll_deg=roll) for yaw, pitch, roll in _FACE_DEG]


def cafca_views(size: int) -> list[View]:
    """30 cameras all around, as in Cafca: three rings of ten, the middle one turned by half a step."""
    return [orbit_view(first + 36 * k, pitch, size) for pitch, first in _CAFCA_ROWS for k in range(10)]


def idts_views(size: int) -> list[View]:
    """96 cameras of ID-TS's grid: six elevations, and 16 azimuths that are denser near the front."""
    return [orbit_view(yaw, pitch, size) for pitch in IDTS_PITCH_DEG for yaw in IDTS_YAW_DEG]


_FIXED: dict[str, Callable[[int], list[View]]] = {
    "nersemble": nersemble_views,
    "face": face_views,
    "cafca": cafca_views,
    "idts": idts_views,
}
PRESETS = ("rig", *_FIXED)


def preset_views(name: str, rng: np.random.Generator, size: int, *, random_focal: bool = False) -> list[View]:
    """The views of a preset: `rig` is the fixed rig and random views, the others are fixed.

    Raises:
        InvalidInputError: No such preset.
    """
    if name == "rig":
        return [*rig_views(size), *random_views(rng, size, random_focal=random_focal)]
    if name not in _FIXED:
        raise InvalidInputError(f"There is no preset of views {name!r}; there are {', '.join(PRESETS)}.")
    return _FIXED[name](size)
