"""FaRL's face parsing (Zheng et al., CVPR 2022) as ``facer`` publishes it: a TorchScript network and a face's own crop.

Two files exist: ``face_parsing.farl.celebm.main_ema_181500_jit.pt`` (19 classes) and
``face_parsing.farl.lapa.main_ema_136500_jit191.pt`` (11 classes, without neck, cloth, ears, glasses and hats). Each was
trained on its own crop of the face, made from five points and undone afterwards: CelebAMask's oriented square, or
LaPa's aligned face whose surroundings are squeezed by tanh (Lin et al., CVPR 2019). Both answer in celebm's order here.

Legend: B faces, H W picture, S 448, C classes of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import CorruptWeightsError, InvalidInputError
from headlift.pretrained.torchscript import load_script, steady_execution

SIDE = 448
NUM_CLASSES = 19
_PAGE = "https://github.com/FacePerceiver/facer/releases/tag/models-v1"
# LaPa's classes (background, face, rb, lb, re, le, nose, ulip, imouth, llip, hair) as celebm's.
_LAPA_TO_CELEBM = (0, 2, 6, 7, 8, 9, 10, 13, 11, 12, 14)
# Where LaPa's aligned crop of 512 pixels has eye, eye, nose tip, mouth corner, mouth corner.
_LAPA_POINTS = ((196.0, 226.0), (316.0, 226.0), (256.0, 286.0), (220.0, 360.4), (292.0, 360.4))


@dataclass(frozen=True)
class Layout:
    """What distinguishes the two files."""

    name: str
    classes: tuple[int, ...]  # celebm's number of each class of the file
    warp: float  # share of the crop's half that is squeezed by tanh; 0 squeezes nothing
    crop_from_picture: Callable[[Tensor], Tensor]  # five points [B, 5, 2] -> [B, 3, 3] pixels of the crop


class FaceParsing:
    """A parsing network with its crop; safe to call from several threads."""

    def __init__(self, network: torch.jit.ScriptModule, layout: Layout) -> None:
        """Join them; see ``load_face_parsing``."""
        self._network, self.layout = network, layout

    @torch.no_grad()
    def __call__(
        self,
        pictures: Tensor,  # [B, 3, H, W] 0..1 sRGB
        points: Tensor,  # [B, 5, 2] pixels: eye and eye (left of the picture first), nose tip, mouth corners
    ) -> Tensor:
        """Class probabilities [B, 19, H, W] in celebm's order; what the face's crop does not reach is background.

        Raises:
            InvalidInputError: Points are missing, not finite, or all in one place.
        """
        spread = (points.amax(1) - points.amin(1)).amax(-1) if points.shape[1:] == (5, 2) else points.new_zeros(1)
        if len(points) != len(pictures) or not bool(torch.isfinite(spread).all()) or float(spread.min()) < 1.0:
            raise InvalidInputError("Face parsing needs five points of each face: two eyes, nose tip, mouth corners.")
        height, width = pictures.shape[-2:]
        matrix = self.layout.crop_from_picture(points.float())
        crops = F.grid_sample(pictures.float(), self._crop_grid(matrix, height, width), align_corners=False)
        with steady_execution():
            logits = logits_of(self._network(crops))
        back = self._picture_grid(matrix, height, width)
        probabilities = F.grid_sample(logits, back, align_corners=False).softmax(1)
        reached = ((back.abs() < 1).all(-1))[:, None]
        probabilities = torch.where(
            reached,
            probabilities,
            F.one_hot(torch.tensor(0), probabilities.shape[1]).view(1, -1, 1, 1).to(probabilities),
        )
        answer = probabilities.new_zeros(len(probabilities), NUM_CLASSES, height, width)
        answer[:, list(self.layout.classes)] = probabilities
        return answer

    def _crop_grid(self, matrix: Tensor, height: int, width: int) -> Tensor:
        """Where each pixel of the crop lies in the picture, [B, S, S, 2] in -1..1."""
        unit = unsqueezed(_centers(SIDE, SIDE) / SIDE * 2 - 1, self.layout.warp)
        places = ((unit + 1) / 2 * SIDE).reshape(1, -1, 2).expand(len(matrix), -1, -1)
        onto = _mapped(places, torch.linalg.inv(matrix)) / places.new_tensor([width, height]) * 2 - 1
        return onto.reshape(-1, SIDE, SIDE, 2)

    def _picture_grid(self, matrix: Tensor, height: int, width: int) -> Tensor:
        """Where each pixel of the picture lies in the crop, [B, H, W, 2] in -1..1."""
        places = _centers(height, width).reshape(1, -1, 2).expand(len(matrix), -1, -1)
        unit = squeezed(_mapped(places, matrix) / SIDE * 2 - 1, self.layout.warp)
        return unit.reshape(-1, height, width, 2)


def load_face_parsing(path: Path | str) -> FaceParsing:
    """The network of one of facer's two files; which one it is, its answer tells.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: The file is no TorchScript archive, is not safe to run, or is another network.
    """
    source = Path(path)
    network = load_script(source, "FaRL face parsing", _PAGE)
    try:
        with torch.no_grad(), steady_execution():
            shape = tuple(logits_of(network(torch.zeros(1, 3, SIDE, SIDE))).shape)
    except (RuntimeError, TypeError, IndexError, AttributeError) as error:
        raise CorruptWeightsError(
            f"{source.name} does not parse a face crop of {SIDE} pixels: no FaRL file."
        ) from error
    layouts = {len(layout.classes): layout for layout in (CELEBM, LAPA)}
    if len(shape) != 4 or shape[2:] != (SIDE, SIDE) or shape[1] not in layouts:
        raise CorruptWeightsError(
            f"{source.name} answers {shape} for one crop of {SIDE} pixels; facer's files answer 19 classes (celebm) or "
            f"11 (lapa) at that size. Take one from {_PAGE}."
        )
    return FaceParsing(network, layouts[shape[1]])


def logits_of(answer: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The class scores; the published networks give them first, with features behind."""
    return (answer[0] if isinstance(answer, tuple | list) else answer).float()


def squeezed(unit: Tensor, warp: float) -> Tensor:
    """Coordinates -1..1 and beyond drawn into -1..1: beyond 1 - warp from the middle they follow tanh."""
    if warp == 0:
        return unit
    past = (unit.abs() - 1 + warp).clamp_min(0)
    return torch.where(past > 0, unit.sign() * (1 - warp + warp * torch.tanh(past / warp)), unit)


def unsqueezed(unit: Tensor, warp: float) -> Tensor:
    """Inverse of ``squeezed`` within -1..1; what tanh sends to the border is cut at 0.999 of it, as facer does."""
    if warp == 0:
        return unit
    past = ((unit.abs() - 1 + warp) / warp).clamp(0, 0.999)
    return torch.where(past > 0, unit.sign() * (1 - warp + warp * torch.atanh(past)), unit)


def similarity_onto(points: Tensor, targets: Tensor) -> Tensor:
    """The least-squares turn, scale and shift that takes points [B, N, 2] to targets [N, 2]: [B, 3, 3]."""
    middle, goal = points.mean(1, keepdim=True), targets.mean(0)
    p, q = points - middle, (targets - goal).expand_as(points)
    power = p.square().sum((1, 2)).clamp_min(1e-12)
    cos = (p * q).sum((1, 2)) / power
    sin = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(1) / power
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    shift = goal - (linear @ middle[:, 0, :, None])[..., 0]
    last = points.new_tensor([0.0, 0.0, 1.0]).expand(len(points), 1, 3)
    return torch.cat([torch.cat([linear, shift[..., None]], -1), last], 1)


def celebm_crop(points: Tensor) -> Tensor:
    """CelebAMask's crop [B, 3, 3]: a square along the face, half as wide as 2 eye distances or 1.8 eye-mouth ones."""
    eyes = points[:, :2].mean(1) + 0.5  # facer counts pixels from their corners here
    down = points[:, 3:].mean(1) + 0.5 - eyes
    across = points[:, 1] - points[:, 0]
    axis = across + torch.stack([down[:, 1], -down[:, 0]], -1)
    half = torch.maximum(2.0 * across.norm(dim=-1), 1.8 * down.norm(dim=-1))
    x = F.normalize(axis, dim=-1) * half[:, None]
    y = torch.stack([-x[:, 1], x[:, 0]], -1)
    middle = eyes + 0.1 * down
    corners = torch.stack([middle - x - y, middle + x - y, middle + x + y, middle - x + y], 1)
    square = points.new_tensor([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]])
    return similarity_onto(corners, square)


def lapa_crop(points: Tensor) -> Tensor:
    """LaPa's crop [B, 3, 3]: the five points as near to their places as a similarity brings them."""
    return similarity_onto(points, points.new_tensor(_LAPA_POINTS) / 512 * (SIDE - 1))


def _centers(height: int, width: int) -> Tensor:
    """Pixel centres (x, y), [H, W, 2]."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y], -1)


def _mapped(places: Tensor, matrix: Tensor) -> Tensor:
    """Places [B, N, 2] through similarities [B, 3, 3]."""
    return places @ matrix[:, :2, :2].mT + matrix[:, None, :2, 2]


CELEBM = Layout("celebm", tuple(range(NUM_CLASSES)), 0.0, celebm_crop)
LAPA = Layout("lapa", _LAPA_TO_CELEBM, 0.8, lapa_crop)
