"""The baselines' small file, which ships beside the weights: every training head as a code and two thumbnails.

Codes are in the low-rank head code of the weights that the file belongs to. Coding costs detail and saves noise: coded
heads have come out a little nearer to held-out ones than the true ones (``coding_gap`` measures it). New weights need
a new file, in one line; what lies beside the weights is found without being named:

    headlift eval baselines --train-shards HEADS --targets TARGETS --shards HEADS

Legend: M training heads, N anchors, K code numbers, t thumbnail side.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from headlift.errors import CorruptWeightsError, IncompatibleWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.checkpoint import weights_hash
from headlift.model.mini.model import MiniHead
from headlift.model.mini.morphable import MorphableHead
from headlift.model.sizes import HeadModel
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.evaluation.baselines import (
    THUMBNAIL,
    THUMBNAIL_VIEWS,
    TrainingBaselines,
    anchor_head,
    known_view,
    nearest_row,
    thumbnail,
)
from headlift_trainer.evaluation.held_out import HeldOutHeads
from headlift_trainer.metrics import psnr

_SPRITE_COLUMNS = 32
_QUALITIES = (80, 60, 40, 20)  # of WebP, until the file fits
LARGEST_FILE = 3_000_000  # bytes


@dataclass(frozen=True)
class CodedBaselines:
    """From the shipped file: training heads as codes, and their mean.

    Attributes:
        model: Whose head code the codes are in; also the decoder's start shape.
        codes: [M, K].
        thumbnails: For each rig view, [M, 4, t, t].
        note: What the file says of itself: heads, and how much nearer or farther coded heads are than true ones.
    """

    model: HeadModel
    codes: Tensor
    thumbnails: dict[int, Tensor]
    note: dict[str, str]

    @property
    def description(self) -> dict[str, Any]:
        """See Baselines."""
        about = {"from": "file", "heads": len(self.codes), "numbers_a_head": self.codes.shape[1]}
        return about | {k: float(v) for k, v in self.note.items()}

    def mean(self) -> Gaussians:
        """See Baselines."""
        return self.head(self.codes.mean(0))

    def nearest(self, picture: Tensor, view: int) -> Gaussians:
        """See Baselines."""
        thumbnails = self.thumbnails[known_view(view, self.thumbnails)]
        return self.head(self.codes[nearest_row(thumbnail(picture), thumbnails)])

    def head(self, code: Tensor) -> Gaussians:
        """The head of a code [K]."""
        morphable, codes = _morphable(self.model), code[None]
        anchors = self.model.decoder.anchors + morphable.offsets(codes)[0]
        return anchor_head(self.model, anchors, morphable.colors(codes)[0])


def encode_head(model: HeadModel, means: Tensor, colors: Tensor) -> Tensor:
    """The code [K] of anchors [N, 3] and colours [N, 3] that comes nearest to them."""
    code = _morphable(model)
    return torch.cat(
        [
            _nearest_code(code.geometry_basis, means - (model.decoder.anchors + code.mean_offsets)),
            _nearest_code(code.color_basis, colors - code.mean_colors),
        ]
    )


def _nearest_code(basis: Tensor, field: Tensor) -> Tensor:
    """Least squares [K] of a field [N, 3] in a basis [K, N, 3], which its fit left orthogonal under weights alone."""
    flat = basis.flatten(1)
    # A component that an untrained code leaves at zero takes no part.
    inverse = torch.linalg.pinv((flat @ flat.T).double(), hermitian=True)
    code: Tensor = (inverse @ (flat @ field.flatten()).double()).float()
    return code


def save_baselines(path: Path, model: HeadModel, weights: Path, training: TrainingBaselines) -> int:
    """Write the compact file of all training heads; returns its size in bytes.

    Args:
        path: Where to; beside the weights it is found without being named.
        model: The model of ``weights``, whose head code is used.
        weights: The checkpoint's file; the baselines are good with it alone.
        training: The training heads.
    """
    codes = torch.stack([encode_head(model, *training.anchors(row)) for row in range(len(training.entries))]).half()
    every, tensors = 1, dict[str, Tensor]()
    while not tensors:  # worse thumbnails first, then fewer heads
        rows = slice(None, None, every)
        entries = torch.tensor(training.entries, dtype=torch.int32)[rows].contiguous()
        thumbnails = {view: training.thumbnails(view)[rows] for view in THUMBNAIL_VIEWS}
        for quality in _QUALITIES:
            sprites = {f"thumbnails_{v}": torch.from_numpy(_sprite(t, quality)) for v, t in thumbnails.items()}
            found = {"codes": codes[rows].contiguous(), "entries": entries} | sprites
            if sum(value.nbytes for value in found.values()) < LARGEST_FILE - 4096 or len(entries) == 1:
                tensors = found
                break
        every *= 2
    metadata = {"format": "headlift-baselines-1", "weights": weights_hash(weights)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, metadata))
    return path.stat().st_size


def add_note(path: Path, note: dict[str, float]) -> int:
    """Keep further numbers in a file of baselines, such as what the coding costs; returns its size in bytes."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() | {f"note.{name}": repr(value) for name, value in note.items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    path.write_bytes(save(tensors, metadata))
    return path.stat().st_size


def made_for(path: Path) -> str:
    """Hash of the weights that a file of baselines was made for.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is no file of baselines.
    """
    if not path.is_file():
        raise MissingWeightsError(
            f"There is no {path.name} beside the weights; make it with `headlift eval baselines`, or give "
            "--train-shards and --targets."
        )
    try:
        with safe_open(path, "pt") as file:
            return str((file.metadata() or {})["weights"])
    except (SafetensorError, KeyError, OSError) as error:
        raise CorruptWeightsError(f"{path.name} is no file of baselines; make it again.") from error


@torch.no_grad()
def coding_gap(training: TrainingBaselines, coded: CodedBaselines, heads: HeldOutHeads) -> dict[str, float]:
    """How the file's baselines do against the training heads' own, on held-out heads: a positive gap is a harder one.

    Returns:
        ``gap_nearest_db`` and ``gap_mean_db``, coded less true, over the rig's novel views, front picture in.
    """
    sums: dict[str, list[float]] = {"gap_nearest_db": [], "gap_mean_db": []}
    for head in heads:
        cameras, truth = crop_cameras(head.viewmats[1:5], head.pictures.shape[-1]), head.pictures[1:5, :3]
        picture = head.pictures[0]
        for name, one, other in (
            ("gap_nearest_db", coded.nearest(picture, 0), training.nearest(picture, 0)),
            ("gap_mean_db", coded.mean(), training.mean()),
        ):
            scores = [psnr(rasterize(cloud, cameras).rgb, truth) for cloud in (one, other)]
            sums[name].append(float((scores[0] - scores[1]).mean()))
    return {name: round(sum(values) / len(values), 3) for name, values in sums.items()}


def load_baselines(path: Path, model: HeadModel, weights: Path) -> CodedBaselines:
    """Read what ``save_baselines`` wrote for these weights.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is no file of baselines.
        IncompatibleWeightsError: It belongs to other weights.
    """
    if (owner := made_for(path)) != weights_hash(weights):
        raise IncompatibleWeightsError(
            f"{path.name} was made for weights {owner[:12]}, not for {weights.name}; "
            "make it again with `headlift eval baselines`."
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        codes = tensors["codes"].float()
        thumbnails = {
            int(key.removeprefix("thumbnails_")): _unpacked(value.numpy(), len(codes))
            for key, value in tensors.items()
            if key.startswith("thumbnails_")
        }
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CorruptWeightsError(f"{path.name} is no file of baselines; make it again.") from error
    note = {k.removeprefix("note."): v for k, v in metadata.items() if k.startswith("note.")}
    return CodedBaselines(model, codes, thumbnails, note)


def _morphable(model: HeadModel) -> MorphableHead:
    if not isinstance(model, MiniHead):
        raise InvalidInputError(
            f"The model {model.config.name!r} has no head code to hold training heads in; "
            "give --train-shards and --targets for the baselines."
        )
    return model.morphable


def _sprite(thumbnails: Tensor, quality: int) -> NDArray[np.uint8]:
    """Thumbnails [M, 4, t, t] side by side as the bytes of one WebP picture."""
    count = len(thumbnails)
    rows = -(-count // _SPRITE_COLUMNS)
    sheet = np.zeros((rows * THUMBNAIL, _SPRITE_COLUMNS * THUMBNAIL, 4), np.uint8)
    for i, tile in enumerate((thumbnails * 255 + 0.5).byte().permute(0, 2, 3, 1).numpy()):
        sheet[_tile(i)] = tile
    # To WebP, colours and alpha are two pictures; `exact` keeps what alpha hides.
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=quality, alpha_quality=quality, method=4, exact=True)
    return np.frombuffer(buffer.getvalue(), np.uint8).copy()


def _unpacked(packed: NDArray[np.uint8], count: int) -> Tensor:
    with Image.open(io.BytesIO(packed.tobytes())) as picture:
        sheet = np.asarray(picture.convert("RGBA"))
    tiles: Sequence[NDArray[np.uint8]] = [sheet[_tile(i)] for i in range(count)]
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255


def _tile(index: int) -> tuple[slice, slice]:
    y, x = divmod(index, _SPRITE_COLUMNS)
    return slice(y * THUMBNAIL, (y + 1) * THUMBNAIL), slice(x * THUMBNAIL, (x + 1) * THUMBNAIL)
