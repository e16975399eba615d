"""Data sets of single pictures: the `HeadDataset` that all of them share.

The input is its own and only target. Its camera comes from headlift_pose.json, else from published landmarks, fitted to
the template; a picture with neither is left out, unless an estimator of cameras is given.

Legend: S crop side, H W picture size, L landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from headlift.errors import FormatError, InvalidInputError
from headlift.model.types import Cameras
from headlift_trainer.datasets.cropping import as_cameras, crop
from headlift_trainer.datasets.filters import EXCLUDE_FILE, SUBSET_FILE, Filtered, Split, in_split, read_list, subset
from headlift_trainer.datasets.interface import F32, Matter, PictureSample
from headlift_trainer.datasets.landmarks import FittedCamera, fit_camera, places_of
from headlift_trainer.datasets.layouts import Picture, WildKey, WildLayout
from headlift_trainer.datasets.media import read_mask
from headlift_trainer.datasets.poses import PoseBook, read_poses
from headlift_trainer.datasets.rig import MATTE_FOLDER, matted

_WORST_FIT = 0.015  # m; landmarks further off are of another face, or wrong


class PictureCameraEstimator(Protocol):
    """Tells the camera of a picture; `headlift_trainer.datasets.prepare` has one made of HeadNet."""

    def estimate(self, picture: Picture) -> FittedCamera | None:
        """The camera, None where no face is seen."""
        ...


class WildDataset:
    """Single pictures as a `HeadDataset`.

    Args:
        layout: How the data lie on disk.
        size: Side of the crops, pixels.
        split: Which pictures.
        limit: Take only so many, chosen by the hash of their names; None takes all. headlift_subset.txt has the last
            word.
        matter: For pictures without a mask; without one such pictures are refused.
        estimator: For pictures without landmarks.
        poses: None reads headlift_pose.json.
    """

    def __init__(
        self,
        layout: WildLayout,
        *,
        size: int = 512,
        split: Split = "train",
        limit: int | None = None,
        matter: Matter | None = None,
        estimator: PictureCameraEstimator | None = None,
        poses: PoseBook | None = None,
    ) -> None:
        self.layout, self.size, self.matter, self._estimator = layout, size, matter, estimator
        self.name = layout.kind
        self.filtered = Filtered()
        self._poses = read_poses(layout.root) if poses is None else poses
        self._items = self._kept(split, limit)

    def _kept(self, split: Split, limit: int | None) -> list[WildKey]:
        listed, excluded = read_list(self.layout.root / SUBSET_FILE), read_list(self.layout.root / EXCLUDE_FILE)
        kept: list[WildKey] = []
        for item in self.layout.pictures():
            why = None
            if listed and item.key not in listed:
                why = f"not in {SUBSET_FILE}"
            elif not in_split(self.layout.kind, item.subject, split):
                why = f"subject not in the {split} split"
            elif item.key in excluded or item.subject in excluded:
                why = f"{EXCLUDE_FILE}: {excluded.get(item.key) or excluded.get(item.subject) or 'listed'}"
            elif self._estimator is None and not self.has_camera(item):
                why = "no camera: neither landmarks nor headlift_pose.json"
            else:
                why = self.layout.occlusion(item)
            if why is None:
                kept.append(item)
            else:
                self.filtered.add(why, item.key)
        if listed or limit is None or len(kept) <= limit:
            return kept
        chosen = set(subset((item.key for item in kept), limit))
        for item in kept:
            if item.key not in chosen:
                self.filtered.add(f"over the {limit} pictures that are wanted", item.key)
        return [item for item in kept if item.key in chosen]

    def __len__(self) -> int:
        return len(self._items)

    @property
    def subjects(self) -> Sequence[str]:
        """Who is in it, each once."""
        return list(dict.fromkeys(item.subject for item in self._items))

    @property
    def items(self) -> Sequence[WildKey]:
        """The pictures, in order."""
        return self._items

    def has_mask(self, key: WildKey) -> bool:
        """Whether a picture's mask is on disk."""
        return self._stored_matte(key) is not None or self.layout.picture(key).matte is not None

    def has_camera(self, key: WildKey) -> bool:
        """Whether anything on disk tells a picture's camera."""
        return key.key in self._poses.pictures or self.layout.landmarks(key) is not None

    def camera_of(self, key: WildKey, picture: Picture) -> FittedCamera:
        """The camera of a picture: the sidecar's, else from landmarks, else estimated.

        Raises:
            FormatError: Nothing tells, or the landmarks belong to no face like the template's.
        """
        stored = self._poses.pictures.get(key.key)
        if stored is not None:
            return stored
        points = self.layout.landmarks(key)
        if points is not None:
            try:
                fitted = fit_camera(*places_of(points))
            except InvalidInputError as error:
                raise FormatError(f"{key.key}: {error.message}") from error
            if fitted.rms_m > _WORST_FIT:
                raise FormatError(f"{key.key}: its landmarks are {1e3 * fitted.rms_m:.0f} mm off a head; exclude it.")
            return fitted
        estimated = self._estimator.estimate(picture) if self._estimator is not None else None
        if estimated is None:
            raise FormatError(f"{key.key} has no camera; run `headlift data prepare`.")
        return estimated

    def crop(self, index: int) -> tuple[Tensor, Cameras]:
        """The portrait crop [4, S, S] of an item and its camera.

        Raises:
            FormatError: The picture, its mask or its camera are missing or broken.
        """
        key = self._items[index]
        picture = self.layout.picture(key)
        camera = self.camera_of(key, picture)
        matte = picture.matte if picture.matte is not None else self._stored_matte(key)
        if matte is not None and matte.shape != picture.rgb.shape[:2]:
            raise FormatError(f"The mask of {key.key} is {matte.shape}, its picture {picture.rgb.shape[:2]}.")
        rgba, viewmat, K = crop(picture.rgb, matte, camera.viewmat, camera.K, self.size)
        if matte is None:
            if self.matter is None:
                raise FormatError(
                    f"{key.key} has no mask: run `headlift data prepare`, or put masks into {MATTE_FOLDER}/, or give a "
                    "matter."
                )
            rgba = matted(rgba, self.matter)
        return rgba, as_cameras(viewmat[None], K[None], self.size)

    def sample(self, index: int, rng: np.random.Generator, targets: int) -> PictureSample:
        """See HeadDataset; there is nothing to draw."""
        rgba, camera = self.crop(index)
        key = self._items[index]
        return PictureSample(rgba, camera, rgba[None], camera, key.subject, (key.key,))

    def _stored_matte(self, key: WildKey) -> F32 | None:
        path = self.layout.root / MATTE_FOLDER / f"{key.key}.png"
        return read_mask(path) if path.is_file() else None
