"""Any method, from a folder of its renders.

Truths and renders lie under the same relative paths: ``GROUP/SUBJECT/INPUT__VIEW.png`` (or .jpg, .webp), where GROUP is
``novel`` or ``extreme`` (what the target is to the input), INPUT the view that the method was given and VIEW the one
that the picture shows. ``headlift eval avatars --export DIR`` writes such a folder of truths, with the pictures to give
to the method under ``inputs/SUBJECT/INPUT.png``. Suffixes may differ between the two folders. Pictures with alpha are
laid over black; a render of another size is resized to the truth's, and counted.

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from headlift.errors import InvalidInputError, NotFoundError, UnreadablePictureError
from headlift_trainer.evaluation.records import Record, Records
from headlift_trainer.metrics import MetricNetworks, measure

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
INPUTS = "inputs"  # folder of what the methods are given; no truth
GROUPS = ("novel", "extreme")


@dataclass
class Comparison:
    """What came out."""

    records: Records = field(default_factory=Records)
    missing: dict[str, list[str]] = field(default_factory=dict)  # method -> truths that it has no render of
    resized: dict[str, list[str]] = field(default_factory=dict)  # method -> renders that were of another size
    truths: int = 0

    @property
    def complete(self) -> Records:
        """Only the views that every method has: means over them are comparable even where renders are missing."""
        gone = {name for names in self.missing.values() for name in names}
        return self.records.where(
            keep=lambda row: target_name(row.group, row.subject, row.input_view, row.view) not in gone
        )


def target_name(group: str, subject: str, input_view: str, view: str) -> str:
    """The relative path of a target, without suffix."""
    return f"{group}/{subject}/{input_view}__{view}"


def compare_folders(
    truth: Path, renders: Mapping[str, Path], networks: MetricNetworks | None = None, *, quiet: bool = True
) -> Comparison:
    """Measure every method's renders against the truths.

    Args:
        truth: Folder of truths.
        renders: Method to the folder of its renders.
        networks: Learned metrics, where there are any.
        quiet: No progress bar.

    Raises:
        NotFoundError: A folder is absent, or the truths' holds no picture in the layout above.
        UnreadablePictureError: A file is no picture.
    """
    targets = find_targets(truth)
    for name, folder in renders.items():
        if not folder.is_dir():
            raise NotFoundError(f"There is no folder {folder.name} of renders of {name}.")
    comparison = Comparison(truths=len(targets), missing={n: [] for n in renders}, resized={n: [] for n in renders})
    for target, path in tqdm(targets.items(), desc="compare", unit="view", disable=quiet):
        true = read_picture(path)
        for name, folder in renders.items():
            render = with_any_suffix(folder / target)
            if render is None:
                comparison.missing[name].append(target)
                continue
            picture = read_picture(render)
            if picture.shape[-2:] != true.shape[-2:]:
                comparison.resized[name].append(target)
                picture = _resized(render, true.shape[-1], true.shape[-2])
            comparison.records.extend([_record(name, target, picture, true, networks)])
    return comparison


def find_targets(folder: Path) -> dict[str, Path]:
    """Targets of a folder of truths: relative path without suffix -> file, in order.

    Raises:
        NotFoundError: There are none.
    """
    comparison = {}
    for group in GROUPS:
        for path in sorted((folder / group).rglob("*")):
            relative = path.relative_to(folder)
            if path.suffix.lower() in SUFFIXES and len(relative.parts) == 3 and "__" in path.stem:
                comparison[str(relative.with_suffix(""))] = path
    if not comparison:
        raise NotFoundError(
            f"{folder.name}/ holds no truths: pictures {GROUPS[0]}/SUBJECT/INPUT__VIEW.png are needed, as "
            "`headlift eval avatars --export` writes them."
        )
    return comparison


def with_any_suffix(stem: Path) -> Path | None:
    """The picture of that name, whatever its suffix."""
    # Names may hold dots, so that Path.with_suffix would cut them.
    candidates = (stem.parent / f"{stem.name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_picture(path: Path) -> Tensor:
    """A picture file as [3, H, W], or [4, H, W] with alpha, RGB premultiplied: over black.

    Raises:
        UnreadablePictureError: It is none.
    """
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA" if "A" in file.getbands() or "transparency" in file.info else "RGB")
            values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UnreadablePictureError(f"{path.name} cannot be read as a picture; write it again.") from error
    return torch.cat([values[:3] * values[3:], values[3:]]) if len(values) == 4 else values


def write_picture(path: Path, picture: Tensor) -> None:
    """A picture [3 or 4, H, W], RGB premultiplied, as a PNG file with straight alpha."""
    if picture.shape[0] not in (3, 4):
        raise InvalidInputError(f"A picture has {picture.shape[0]} channels; 3 or 4 are needed.")
    if picture.shape[0] == 4:
        picture = torch.cat([picture[:3] / picture[3:].clamp_min(1 / 255), picture[3:]])
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (picture.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    Image.fromarray(values).save(path)


def _record(method: str, target: str, picture: Tensor, true: Tensor, networks: MetricNetworks | None) -> Record:
    group, subject, name = target.split("/")
    input_view, view = name.split("__", 1)
    values = measure(picture[None], true[None], networks)
    return Record(method, subject, input_view, view, group, {k: float(v[0]) for k, v in values.items()})


def _resized(path: Path, width: int, height: int) -> Tensor:
    picture = read_picture(path)
    return torch.nn.functional.interpolate(
        picture[None], size=(height, width), mode="bicubic", align_corners=False, antialias=True
    )[0].clamp(0, 1)
