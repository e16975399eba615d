"""Once before training: head poses and masks by HeadNet for data that have none, kept beside the data.

Landmarks of HeadNet are anchors of the template, so that what was triangulated from a rig's views can be fitted to the
template row by row. Training then reads files only.

Legend: V views, L landmarks, S crop side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from headlift.errors import HeadliftError, InvalidInputError
from headlift.model.mini.headnet import HeadNet
from headlift.model.types import DISTANCE, HEAD_CENTER
from headlift_trainer.datasets.checking import Opaque
from headlift_trainer.datasets.cropping import crop_map, face_box, warp
from headlift_trainer.datasets.filters import EXCLUDE_FILE, occluded, occluded_share, read_list
from headlift_trainer.datasets.headframe import HeadPose, fit_similarity, triangulate
from headlift_trainer.datasets.interface import F64, U8, LandmarkDetector
from headlift_trainer.datasets.landmarks import IBUG_PLACES, FittedCamera, fit_camera
from headlift_trainer.datasets.layouts import Picture, WildKey
from headlift_trainer.datasets.opening import open_dataset
from headlift_trainer.datasets.poses import read_poses
from headlift_trainer.datasets.reader import FACE_CLASSES, SIDE, HeadNetReader
from headlift_trainer.datasets.rig import MATTE_FOLDER, RigDataset, RigMoment
from headlift_trainer.datasets.wild import WildDataset

_ROUNDS = 2  # the second time with crops that the first result made
_OUTLIER = 0.012  # m between a person's landmark and the template's
_WORST = 0.02  # m, rms of a fit that is kept
_REPROJECTION = 4.0  # expected errors that a triangulated place may be off in its views
_WINDOW = 0.252  # m that an aligned FFHQ picture shows: four times the distance of the eyes


def solve_moment(moment: RigMoment, detector: LandmarkDetector) -> HeadPose:
    """The head pose of a moment from landmarks in all of its views, starting from the pose that it has.

    Raises:
        InvalidInputError: Too few landmarks were seen by two views, or what they form is not a head.
        FormatError: A picture is broken.
    """
    points, spread, viewmats, Ks = [], [], [], []
    for view in range(len(moment.view_names)):
        rgba, viewmat, K = moment.crop(view)
        seen = detector.detect((rgba[:3].permute(1, 2, 0) * 255 + 0.5).byte().numpy())
        if seen is not None:
            points.append(seen.points)
            spread.append(seen.spread)
            viewmats.append(viewmat)
            Ks.append(K)
    if len(points) < 2:
        raise InvalidInputError(f"{moment.key.key}: a face was seen in {len(points)} views; two are needed.")
    places, error = triangulate(np.stack(points), np.stack(spread), np.stack(viewmats), np.stack(Ks))
    weights = np.where(error < _REPROJECTION, 1 / (1 + np.where(np.isfinite(error), error, 0.0)), 0.0)
    matrix, off = fit_similarity(places, detector.canonical, weights, outlier=_OUTLIER)
    rms = float(np.sqrt(np.median(off[weights > 0] ** 2)))
    if rms > _WORST:
        raise InvalidInputError(f"{moment.key.key}: its landmarks are {1e3 * rms:.0f} mm off a head.")
    # Where the crops' cameras put the head is relative to the pose that the moment had.
    return HeadPose(matrix @ moment.pose.head_from_world, "sidecar", rms)


def framing_camera(width: int, height: int) -> FittedCamera:
    """The rough camera of a picture aligned as FFHQ's are, taken to be frontal."""
    density = width / _WINDOW  # pixels a metre at the face
    viewmat = np.diag([1.0, -1.0, -1.0, 1.0])
    viewmat[1, 3], viewmat[2, 3] = HEAD_CENTER[1], DISTANCE + HEAD_CENTER[2]
    focal = density * (DISTANCE - 0.045)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2 + density * (0.0207 - HEAD_CENTER[1])], [0, 0, 1.0]])
    return FittedCamera(viewmat, K, float("inf"))


def solve_picture(rgb: U8, start: FittedCamera, detector: LandmarkDetector) -> FittedCamera:
    """The camera of a picture from landmarks, starting from one that shows the face roughly in place.

    Raises:
        InvalidInputError: No face is seen.
    """
    camera = start
    for _ in range(_ROUNDS):
        homography, _, _ = crop_map(camera.viewmat, camera.K, SIDE)
        half = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        crop = cv2.warpPerspective(rgb, np.linalg.inv(half) @ homography @ half, (SIDE, SIDE), flags=cv2.INTER_AREA)
        seen = detector.detect(np.asarray(crop, np.uint8))
        if seen is None:
            raise InvalidInputError("No face is seen in it.")
        back = np.linalg.inv(homography)
        at = np.concatenate([seen.points, np.ones((len(seen.points), 1))], 1) @ back.T
        scale = float(np.sqrt(abs(np.linalg.det(back[:2, :2]))))
        camera = fit_camera(at[:, :2] / at[:, 2:], detector.canonical, seen.spread * scale)
    return camera


class Preparation:
    """A data set's poses and masks; what a sidecar already has is kept, so that a run can be stopped and started again.

    Args:
        folder: In a published layout. kind: One of opening.KINDS but synthetic.
        net: Landmarks and mattes.
        moments: Moments of each subject.
        masks: Whether masks are made as well.

    Raises:
        InvalidInputError: Generated heads, which need nothing.
    """

    def __init__(self, folder: Path, kind: str, net: HeadNet, *, moments: int = 1, masks: bool = True) -> None:
        reader = HeadNetReader(net)
        self._reader = reader
        self._make_masks, self._folder = masks, folder
        self._book = read_poses(folder)
        self.poses = self.masks = self.occluded = 0
        self.failed: list[str] = []
        if kind in ("synthetic", "generated"):
            raise InvalidInputError("Generated heads have poses and masks of their own; there is nothing to prepare.")
        if kind in ("ffhq", "vfhq"):
            every = open_dataset(
                kind, folder, split="all", matter=Opaque(), poses=self._book, estimator=_Framing(reader)
            )
        else:
            options = {"moments_per_subject": moments, "furthest_deg": 180.0, "matter": Opaque(), "poses": self._book}
            every = open_dataset(kind, folder, size=SIDE, split="all", **options)
        assert isinstance(every, RigDataset | WildDataset)
        self._dataset = every

    def __len__(self) -> int:
        return len(self._dataset)

    def run(self) -> Iterator[str]:
        """Work through everything; yields the name of each item that is done."""
        try:
            for index in range(len(self._dataset)):
                key = self._dataset.items[index].key
                try:
                    if isinstance(self._dataset, RigDataset):
                        self._rig(self._dataset, index)
                    else:
                        self._wild(self._dataset, self._dataset.items[index])
                except HeadliftError as error:
                    self.failed.append(f"{key}: {error.message}")
                yield key
        finally:
            if self.poses:
                self._book.write(self._folder)

    def _rig(self, dataset: RigDataset, index: int) -> None:
        key = dataset.items[index]
        if self._book.moment(key.key, key.subject) is None:
            for _ in range(_ROUNDS):
                self._book.moments[key.key] = solve_moment(dataset.moment(index), self._reader)
                dataset.moment.cache_clear()
            self.poses += 1
        moment = dataset.moment(index)
        for view, name in enumerate(moment.view_names if self._make_masks else ()):
            path = self._folder / MATTE_FOLDER / key.key / f"{name}.png"
            picture = dataset.layout.picture(key, name)
            if picture.matte is None and not path.is_file():
                height, width = picture.rgb.shape[:2]
                homography, _, _ = crop_map(moment.world[view], moment.intrinsics_for(view, width, height), 2 * SIDE)
                self._mask(path, picture.rgb, homography)

    def _wild(self, dataset: WildDataset, key: WildKey) -> None:
        picture = dataset.layout.picture(key)
        camera = dataset.camera_of(key, picture)
        if key.key not in self._book.pictures:
            self._book.pictures[key.key] = camera
            self.poses += 1
        self._look_for_occlusion(key, picture.rgb, camera)
        path = self._folder / MATTE_FOLDER / f"{key.key}.png"
        if self._make_masks and picture.matte is None and not path.is_file():
            self._mask(path, picture.rgb, crop_map(camera.viewmat, camera.K, 2 * SIDE)[0])

    def _look_for_occlusion(self, key: WildKey, rgb: U8, camera: FittedCamera) -> None:
        """List a picture as occluded where its parsing shows something else inside the face's outline."""
        homography, viewmat, K = crop_map(camera.viewmat, camera.K, SIDE)
        small = warp((rgb / 255).astype(np.float32), homography, SIDE, SIDE)
        labels = self._reader.parse((small * 255 + 0.5).astype(np.uint8))
        cast = (np.array(list(IBUG_PLACES.values())) @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.T
        outline = cast[:, :2] / cast[:, 2:] * (len(labels) / SIDE)
        share = occluded_share(labels, outline, FACE_CLASSES)
        if occluded(share) and key.key not in read_list(self._folder / EXCLUDE_FILE):
            with (self._folder / EXCLUDE_FILE).open("a") as file:
                file.write(f"{key.key} occluded\n")
            self.occluded += 1

    def _mask(self, path: Path, rgb: U8, homography: F64) -> None:
        """Matte the crop, and lay it back onto the picture."""
        side, (height, width) = 2 * SIDE, rgb.shape[:2]
        crop = warp((rgb / 255).astype(np.float32), homography, side, side)
        matte = self._reader.matte((crop * 255 + 0.5).astype(np.uint8), face_box(side))
        whole = warp(matte[..., None], np.asarray(np.linalg.inv(homography), np.float64), width, height)[..., 0]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        Image.fromarray((whole * 255 + 0.5).astype(np.uint8)).save(partial, "PNG")
        partial.replace(path)
        self.masks += 1


class _Framing:
    """Estimates cameras of pictures without landmarks from how aligned portraits are framed."""

    def __init__(self, detector: LandmarkDetector) -> None:
        self._detector = detector

    def estimate(self, picture: Picture) -> FittedCamera | None:
        """See PictureCameraEstimator."""
        height, width = picture.rgb.shape[:2]
        try:
            return solve_picture(picture.rgb, framing_camera(width, height), self._detector)
        except InvalidInputError:
            return None
