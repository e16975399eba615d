"""MediaPipe's face mesh with attention in plain torch: 478 points of a face, the last ten of them on the irises.

Apache-2.0, Copyright The MediaPipe Authors; see NOTICE. The network reads an upright square of 192 pixels about the
face and answers in its pixels; a face's own points give a better square for a second round.

Legend: B faces, P = 478 points, S picture side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.pretrained.graph import GraphNetwork

SIDE = 192  # pixels of the network's picture
POINTS, IRIS_POINTS = 478, 10
_MARGIN = 1.5  # side of the square over that of the box round the points
_LEFT_EYE, _RIGHT_EYE = 33, 263  # outer corners, as the picture shows them
_OVERSAMPLING = 2
# Numbers of the points that the attention branches place, as the network's own graph lists them too.
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78, 95, 88, 178, 87, 14,
    317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415, 76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306,
    184, 74, 73, 72, 11, 302, 303, 304, 408, 62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268,
    271, 272, 407,
)  # fmt: skip
LEFT = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173, 130, 25, 110, 24, 23, 22, 26, 112, 243,
    247, 30, 29, 27, 28, 56, 190, 226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189, 35,
    124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193,
)  # fmt: skip
RIGHT = (
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398, 359, 255, 339, 254, 253, 252, 256,
    341, 463, 467, 260, 259, 257, 258, 286, 414, 446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442,
    441, 413, 265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336,
    285, 417,
)  # fmt: skip


class FaceMesh(nn.Module):
    """The mesh of faces whose places are roughly known; gradients reach the pictures."""

    def __init__(self, network: GraphNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Detect the points of one face in each picture.

        Args:
            pictures: [B, 3, S, S] sRGB 0..1.
            regions: [B, 4] squares about the faces, as ``face_regions`` gives them.

        Returns:
            Points [B, P, 2], 0..1 of the picture, and the network's confidence [B] 0..1 that there is a face.
        """
        crops, matrix = _cropped(pictures, regions)
        outputs = [output.flatten(1) for output in self.network(crops)]
        points = _merged(*outputs[:6]) / SIDE
        return points @ matrix[:, :, :2].mT + matrix[:, None, :, 2], outputs[6][:, 0].sigmoid()


def face_regions(points: Tensor) -> Tensor:
    """The squares that the network wants to see: middle x, y and side (0..1 of the picture), clockwise turn (rad).

    Args:
        points: [B, P, 2] 0..1 of the picture.

    Returns:
        [B, 4].
    """
    across = points[:, _RIGHT_EYE] - points[:, _LEFT_EYE]
    turn = torch.atan2(across[:, 1], across[:, 0])
    c, s = turn.cos(), turn.sin()
    back = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], 1)  # row vectors: turned upright
    upright = points[:, : POINTS - IRIS_POINTS] @ back
    low, high = upright.amin(1), upright.amax(1)
    middle = ((low + high) / 2)[:, None] @ back.mT
    return torch.cat([middle[:, 0], _MARGIN * (high - low).amax(1, keepdim=True), turn[:, None]], 1)


def _cropped(pictures: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The squares [B, 3, SIDE, SIDE], and the [B, 2, 3] maps from their 0..1 to that of the picture."""
    x, y, side, turn = regions.unbind(-1)
    c, s = side * turn.cos(), side * turn.sin()
    matrix = torch.stack(
        [torch.stack([c, -s, x - (c - s) / 2], -1), torch.stack([s, c, y - (s + c) / 2], -1)], 1
    )  # [B, 2, 3]
    fine = SIDE * _OVERSAMPLING
    line = (torch.arange(fine, device=pictures.device, dtype=pictures.dtype) + 0.5) / fine
    at = torch.stack([line.repeat(fine), line.repeat_interleave(fine)], -1)
    grid = (at @ matrix[:, :, :2].mT + matrix[:, None, :, 2]).reshape(len(pictures), fine, fine, 2) * 2 - 1
    return F.avg_pool2d(F.grid_sample(pictures, grid, padding_mode="border", align_corners=False), 2), matrix


def _merged(mesh: Tensor, lips: Tensor, left: Tensor, right: Tensor, left_iris: Tensor, right_iris: Tensor) -> Tensor:
    """All points [B, P, 2] in pixels of the square: the attention branches know lips and eyes better."""
    points = mesh.reshape(len(mesh), -1, 3)[..., :2].clone()
    for numbers, part in ((LIPS, lips), (LEFT, left), (RIGHT, right)):
        points[:, numbers] = part.reshape(len(mesh), -1, 2)
    return torch.cat([points, *(iris.reshape(len(mesh), -1, 2) for iris in (left_iris, right_iris))], 1)


class GuidedFaceMesh:
    """Faces from a guess of their points: one round where the guess is, further ones where the last one found them."""

    def __init__(self, mesh: FaceMesh, rounds: int = 2) -> None:
        self._mesh, self._rounds = mesh.eval().requires_grad_(False), rounds

    @torch.no_grad()
    def __call__(self, pictures: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, 3, S, S] and guessed points [B, P, 2] (0..1) -> points [B, P, 2] and confidence [B] 0..1."""
        points = guess
        for _ in range(self._rounds):
            points, score = self._mesh(pictures, face_regions(points))
        return points, score
