"""Data sets of many calibrated cameras: the `HeadDataset` that all of them share.

Legend: V cameras of a moment, C target views, S crop side, H W picture size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from headlift.errors import FormatError, InvalidInputError
from headlift.model.types import Cameras
from headlift_trainer.datasets.cropping import as_cameras, crop, crop_camera, face_box
from headlift_trainer.datasets.filters import EXCLUDE_FILE, FURTHEST_DEG, Filtered, Split, in_split, read_list
from headlift_trainer.datasets.headframe import HeadPose, facing_degrees
from headlift_trainer.datasets.interface import F32, F64, Matter, PictureSample
from headlift_trainer.datasets.layouts import MomentKey, RigCameras, RigLayout
from headlift_trainer.datasets.media import read_mask
from headlift_trainer.datasets.poses import PoseBook, read_poses

MATTE_FOLDER = "headlift_mattes"  # MOMENT/VIEW.png beside the data: masks for pictures that have none of their own
_ASPECT = 0.02  # how far a picture's aspect may differ from its calibration's


@dataclass(frozen=True)
class RigMoment:
    """One moment in the head frame, with the views that pass the filters; also what the evaluation calls a Moment."""

    dataset: RigDataset
    key: MomentKey
    pose: HeadPose
    view_names: tuple[str, ...]
    world: F64  # [V, 4, 4] view matrices of the pictures as taken, in the head frame, m
    Ks: F64  # [V, 3, 3]
    nominal: tuple[int, int] | None

    @property
    def subject(self) -> str:
        """Who and when, without slashes."""
        return self.key.key.replace("/", "_")

    @property
    def viewmats(self) -> Tensor:
        """[V, 4, 4] of the portrait crops, which turn each camera about its own centre."""
        return torch.from_numpy(np.stack([crop_camera(viewmat, 1)[0] for viewmat in self.world])).float()

    def picture(self, view: int) -> tuple[Tensor, Cameras]:
        """The portrait crop [4, S, S] of a view and its camera."""
        rgba, viewmat, K = self.crop(view)
        return rgba, as_cameras(viewmat[None], K[None], rgba.shape[-1])

    def crop(self, view: int) -> tuple[Tensor, F64, F64]:
        """The portrait crop [4, S, S] of a view, its view matrix and K.

        Raises:
            FormatError: The picture or its mask is missing or broken.
        """
        name = self.view_names[view]
        picture = self.dataset.layout.picture(self.key, name)
        height, width = picture.rgb.shape[:2]
        K = self.intrinsics_for(view, width, height)
        matte = picture.matte if picture.matte is not None else self.dataset.stored_matte(self.key, name, height, width)
        if matte is not None and matte.shape != picture.rgb.shape[:2]:
            raise FormatError(f"The mask of {self.key.key} {name} is {matte.shape}, its picture {(height, width)}.")
        rgba, viewmat, crop_K = crop(picture.rgb, matte, self.world[view], K, self.dataset.size)
        return (rgba if matte is not None else self.dataset.matted(rgba, f"{self.key.key} {name}")), viewmat, crop_K

    def intrinsics_for(self, view: int, width: int, height: int) -> F64:
        """K of a view for a picture of this size.

        Raises:
            FormatError: The picture's aspect is not the calibration's.
        """
        if self.nominal is None:
            return np.asarray(self.Ks[view])
        sx, sy = width / self.nominal[0], height / self.nominal[1]
        if abs(sx / sy - 1) > _ASPECT:
            raise FormatError(
                f"{self.key.key} {self.view_names[view]} is {width}x{height}; its calibration is for "
                f"{self.nominal[0]}x{self.nominal[1]}, another aspect."
            )
        return np.asarray(np.diag([sx, sy, 1.0]) @ self.Ks[view])


class RigDataset:
    """A data set of many cameras as a `HeadDataset`; an item is a moment, its input view is drawn.

    Args:
        layout: How the data lie on disk.
        size: Side of the crops, pixels.
        split: Which subjects.
        moments_per_subject: Moments of each person; the paper takes one.
        furthest_deg: Views from further round the head are left out, as inputs and as targets; the paper drops those
            in which no face is detected.
        matter: For pictures without a mask; without one such pictures are refused.
        precise_only: Leave out moments whose head pose is rough.
        poses: None reads headlift_pose.json.
    """

    def __init__(
        self,
        layout: RigLayout,
        *,
        size: int = 512,
        split: Split = "train",
        moments_per_subject: int = 1,
        furthest_deg: float = FURTHEST_DEG,
        matter: Matter | None = None,
        precise_only: bool = False,
        poses: PoseBook | None = None,
    ) -> None:
        self.layout, self.size, self.matter = layout, size, matter
        self.name = layout.kind
        self.filtered = Filtered()
        self._furthest, self._precise_only = furthest_deg, precise_only
        self._poses = read_poses(layout.root) if poses is None else poses
        self._excluded = read_list(layout.root / EXCLUDE_FILE)
        self._items: list[MomentKey] = []
        for subject in layout.subjects():
            if not in_split(layout.kind, subject, split):
                self.filtered.add(f"subject not in the {split} split", subject)
                continue
            for moment in layout.moments(subject, moments_per_subject):
                if (found := self.exclusion(moment)) is not None:
                    self.filtered.add(found, moment.key)
                else:
                    self._items.append(moment)
        self.moment = lru_cache(4096)(self._moment)

    def __len__(self) -> int:
        return len(self._items)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "moment"}  # caches do not travel to other processes

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.moment = lru_cache(4096)(self._moment)

    @property
    def subjects(self) -> Sequence[str]:
        """Who is in it, each once."""
        return list(dict.fromkeys(item.subject for item in self._items))

    @property
    def items(self) -> Sequence[MomentKey]:
        """The moments, in order."""
        return self._items

    def exclusion(self, moment: MomentKey) -> str | None:
        """Why the user's list leaves a moment out, if it does."""
        for name in (moment.subject, moment.key):
            if name in self._excluded:
                return f"{EXCLUDE_FILE}: {self._excluded[name] or 'listed'}"
        return None

    def _moment(self, index: int) -> RigMoment:
        """An item with its cameras in the head frame.

        Raises:
            FormatError: Calibration or pose are missing or broken, or no view is left.
        """
        key = self._items[index]
        cameras = self.layout.cameras(key)
        pose = self.pose_of(key, cameras)
        if pose.rough and self._precise_only:
            raise FormatError(f"{key.key} has a rough head pose only; run `headlift data prepare`.")
        viewmats = pose.viewmats(cameras.viewmats)
        keep = [
            i
            for i, (name, angle) in enumerate(zip(cameras.names, facing_degrees(viewmats), strict=True))
            if self.view_exclusion(key, name, float(angle)) is None
        ]
        if not keep:
            raise FormatError(f"{key.key} has no view that shows the face; check its head pose.")
        names = tuple(cameras.names[i] for i in keep)
        return RigMoment(self, key, pose, names, viewmats[keep], cameras.Ks[keep], cameras.nominal)

    def pose_of(self, key: MomentKey, cameras: RigCameras) -> HeadPose:
        """The head's pose: the sidecar's, else the data set's own, else what its cameras suggest.

        Raises:
            FormatError: Nothing tells.
        """
        pose = self._poses.moment(key.key, key.subject)
        if pose is not None:
            return pose
        try:
            return self.layout.pose(key, cameras)
        except InvalidInputError as error:
            raise FormatError(f"{key.key}: {error.message}") from error

    def view_exclusion(self, key: MomentKey, name: str, angle: float) -> str | None:
        """Why a view is left out, if it is."""
        listed = f"{key.key}/{name}"
        if listed in self._excluded:
            return f"{EXCLUDE_FILE}: {self._excluded[listed] or 'listed'}"
        if angle > self._furthest:
            return f"back of the head (over {self._furthest:.0f} degrees from the face)"
        return self.layout.refused(key, name)

    def sample(self, index: int, rng: np.random.Generator, targets: int) -> PictureSample:
        """See HeadDataset."""
        moment = self.moment(index)
        order = rng.permutation(len(moment.view_names))[: targets + 1]
        crops = [moment.crop(int(view)) for view in order]
        pictures = torch.stack([rgba for rgba, _, _ in crops])
        cameras = as_cameras(np.stack([v for _, v, _ in crops]), np.stack([K for _, _, K in crops]), self.size)
        views = tuple(moment.view_names[view] for view in order)
        return PictureSample(pictures[0], cameras[0], pictures, cameras, moment.key.subject, views)

    def stored_matte(self, key: MomentKey, view: str, height: int, width: int) -> F32 | None:
        """The mask that lies beside the data for a picture without one of its own."""
        path = self.layout.root / MATTE_FOLDER / key.key / f"{view}.png"
        return read_mask(path) if path.is_file() else None

    def matted(self, rgba: Tensor, where: str) -> Tensor:
        """A crop whose alpha says only how far the picture reaches, with the person cut out.

        Raises:
            FormatError: There is no matter.
        """
        if self.matter is None:
            raise FormatError(
                f"{where} has no mask: run `headlift data prepare`, put masks into {MATTE_FOLDER}/, or give a matter."
            )
        return matted(rgba, self.matter)


def matted(rgba: Tensor, matter: Matter) -> Tensor:
    """A crop [4, S, S] whose alpha says how far the picture reaches, times the person's opacity."""
    rgb = (rgba[:3].permute(1, 2, 0) * 255 + 0.5).byte().numpy()
    opacity = torch.from_numpy(np.ascontiguousarray(matter.matte(rgb, face_box(rgba.shape[-1])))).to(rgba)
    return rgba * opacity
