"""The portrait crop of a picture whose camera is known, and the exact camera of that crop.

The crop's camera stands where the picture's stands, turned to look at HEAD_CENTER with the head upright: a homography,
exact at every depth. Its focal length is chosen so that the window at the head is the portrait crop's 0.40 m however
far the camera is; at DISTANCE it is FOCAL.

Pixel centres at +0.5. Legend: S crop side, H W picture size.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from headlift.errors import InvalidCameraError
from headlift.model.cameras import look_at
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER, Cameras
from headlift_trainer.datasets.headframe import camera_centers
from headlift_trainer.datasets.interface import F32, F64, U8

FACE_BOX = (0.290, 0.286, 0.710, 0.706)  # of a frontal face in the crop, x0 y0 x1 y1, shares of its side
_NEAREST, _FURTHEST = 0.25, 20.0  # m from the head; anything else is a wrong unit


def crop_camera(viewmat: F64, size: int) -> tuple[F64, F64]:
    """View matrix [4, 4] and K [3, 3] of the crop of side `size` from a camera [4, 4] of the head frame.

    Raises:
        InvalidCameraError: It looks away from the head, or stands too near or far for metres.
    """
    center = viewmat[:3, :3] @ np.array(HEAD_CENTER) + viewmat[:3, 3]
    distance = float(np.linalg.norm(center))
    if not _NEAREST <= distance <= _FURTHEST:
        raise InvalidCameraError(
            f"A camera stands {distance:.3g} m from the head; {_NEAREST} to {_FURTHEST} m is plausible. Check the unit."
        )
    if center[2] <= 0.3 * distance:
        raise InvalidCameraError("A camera does not look at the head: the head lies beside or behind it.")
    turned = look_at(torch.from_numpy(camera_centers(viewmat[None]))).viewmats[0].double().numpy()
    # The centre comes from the picture's camera: look_at may round to single precision.
    turned[:3, 3] = -turned[:3, :3] @ camera_centers(viewmat[None])[0]
    focal = FOCAL * size * distance / DISTANCE
    return turned, np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])


def crop_map(viewmat: F64, K: F64, size: int) -> tuple[F64, F64, F64]:
    """Homography [3, 3] from picture pixels to crop pixels, and the crop's view matrix and K."""
    turned, crop_K = crop_camera(viewmat, size)
    return crop_K @ turned[:3, :3] @ viewmat[:3, :3].T @ np.linalg.inv(K), turned, crop_K


def crop(rgb: U8, matte: F32 | None, viewmat: F64, K: F64, size: int) -> tuple[Tensor, F64, F64]:
    """The portrait crop.

    Args:
        rgb: [H, W, 3] sRGB.
        matte: [H, W] 0..1; None leaves everything opaque where the picture reaches.
        viewmat: [4, 4] head frame to camera. K: [3, 3] of this picture.
        size: S.

    Returns:
        [4, S, S] premultiplied RGB and alpha, zero where the picture does not reach; its view matrix and K.
    """
    homography, turned, crop_K = crop_map(viewmat, K, size)
    opacity = np.ones(rgb.shape[:2], np.float32) if matte is None else matte.astype(np.float32)
    rgba = warp(np.dstack([rgb.astype(np.float32) / 255 * opacity[..., None], opacity]), homography, size, size)
    return torch.from_numpy(np.ascontiguousarray(rgba.transpose(2, 0, 1))).clamp_(0, 1), turned, crop_K


def warp(pixels: F32, homography: F64, width: int, height: int) -> F32:
    """Resample [H, W, k] by a homography of pixel coordinates; where it shrinks, areas are averaged first."""
    part, onto_part = _seen_part(pixels, homography, width, height)
    shrink = _pixels_each(homography @ np.linalg.inv(onto_part), width, height)
    if shrink > 1.05:
        w, h = (max(1, round(side / shrink)) for side in part.shape[1::-1])
        onto_part = np.diag([w / part.shape[1], h / part.shape[0], 1.0]) @ onto_part
        part = np.asarray(cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA), np.float32)
    half = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    final = np.linalg.inv(half) @ homography @ np.linalg.inv(onto_part) @ half  # OpenCV's centres are whole numbers
    warped = cv2.warpPerspective(part, final, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped, np.float32).reshape(height, width, -1)


def _seen_part(pixels: F32, homography: F64, width: int, height: int) -> tuple[F32, F64]:
    """The rectangle of the source that the target shows, and the shift onto it."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]]) @ np.linalg.inv(homography).T
    corners = corners[:, :2] / corners[:, 2:]
    margin = 2 + 0.02 * np.ptp(corners, axis=0).max()
    limit = np.array(pixels.shape[1::-1])
    low = np.clip(np.floor(corners.min(0) - margin), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin), low + 1, limit).astype(int)
    shift = np.array([[1.0, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]])
    return np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]]), shift


def _pixels_each(homography: F64, width: int, height: int) -> float:
    """Source pixels under one target pixel, along a side, in the target's middle."""
    back = np.linalg.inv(homography)
    x, y, w = back @ np.array([width / 2, height / 2, 1.0])
    jacobian = (back[:2, :2] - np.outer([x / w, y / w], back[2, :2])) / w
    return float(np.sqrt(abs(np.linalg.det(jacobian))))


def as_cameras(viewmats: F64, Ks: F64, size: int) -> Cameras:
    """Crop cameras [V, 4, 4] and [V, 3, 3] as the model's type."""
    return Cameras(torch.from_numpy(viewmats).float(), torch.from_numpy(Ks).float(), size, size)


def face_box(size: int) -> tuple[float, float, float, float]:
    """Where the face of a frontal head lies in a crop, pixels."""
    x0, y0, x1, y1 = (share * size for share in FACE_BOX)
    return x0, y0, x1, y1
