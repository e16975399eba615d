"""Ava-256 (Martinez et al., NeurIPS 2024): a dome of 80 cameras, pictures as AVIF inside zip archives.

    m--20220809--1034--BJM420--GHS/decoder/        (or 20220809--1034--BJM420)
        camera_calibration.json    {"KRT": [{"cameraId", "K", "T"}, ...]}; K and T lie transposed; mm; 2668x4096 pixels
        frame_list.csv             seg_id,frame_id
        head_pose/head_pose.zip    000123.txt or .npy: 3x4, head to world, mm
        image/cam400943.zip        000123.avif (or cam400943/000123.avif), 667x1024 or 1334x2048
        segmentation_parts/cam400943.zip    000123.png: 0 background, 1 hair, 2 body, 3 chair, 4 apparel, ...
        keypoints_3d/keypoints_3d.zip       000123.npy: [n, 6] number, x, y, z (mm, world), confidence, inliers

The tracked head's axes are parallel to the face's, but neither signs nor origin are documented. The cameras tell the
signs (pictures are upright, and most cameras stand before the face), the middle of the key points tells the origin;
good to a centimetre, which a sidecar improves. Evaluation is not touched by it: it uses motions between cameras only.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from headlift.errors import FormatError, InvalidInputError
from headlift_trainer.datasets.filters import evenly
from headlift_trainer.datasets.headframe import HeadPose, camera_centers
from headlift_trainer.datasets.interface import F64
from headlift_trainer.datasets.layouts import MomentKey, Picture, RigCameras, RigLayout
from headlift_trainer.datasets.media import name_of, read_json, read_labels, read_picture, read_zipped, zipped_names
from headlift_trainer.datasets.poses import intrinsics, matrix_of, rigid

NOMINAL = (2668, 4096)  # width and height that K belongs to; pictures are released at a half and a quarter of it
MM = 1e-3
_FOLDER = re.compile(r"(?:m--)?(\d{8}--\d{4}--[A-Z]{3}\d{3})(?:--GHS)?")
_CHAIR = 3
_FACE_MIDDLE = np.array([0.0, 0.0, 0.058])  # m, middle of a face's key points in the head frame (D)
# Segments with hands before the face, flying hair, or a colour checker.
UNUSED = ("EXP_Neutral_color_checker", "EXP_hair_dynamics", "EXP_neutral_hairline", "EXP_ear")


class Ava256(RigLayout):
    """A folder of Ava-256's captures. A moment is a frame."""

    kind = "ava256"

    @cached_property
    def _folders(self) -> dict[str, Path]:
        found = ((_FOLDER.fullmatch(p.name), p) for p in sorted(self.root.iterdir()) if p.is_dir())
        return {match[1]: path / "decoder" for match, path in found if match}

    def subjects(self) -> list[str]:
        """See RigLayout."""
        return sorted(self._folders)

    def moments(self, subject: str, count: int) -> list[MomentKey]:
        """See RigLayout: of neutral segments where one moment is asked for, of all else."""
        folder = self._folders[subject]
        try:
            rows = [r for r in _frame_list(folder / "frame_list.csv") if not r[0].startswith(UNUSED)]
        except FormatError:
            return [MomentKey(subject, "", folder)]  # kept, so that it is found to be broken and not just gone
        neutral = [r for r in rows if "neutral" in r[0].lower()]
        chosen = neutral if count == 1 and neutral else rows
        return [
            MomentKey(subject, f"{chosen[i][0]}/{chosen[i][1]:06d}", folder, chosen[i][1])
            for i in evenly(len(chosen), count)
        ]

    def cameras(self, moment: MomentKey) -> RigCameras:
        """See RigLayout: the calibrated cameras whose pictures are there; millimetres."""
        path = moment.folder / "camera_calibration.json"
        entries = read_json(path).get("KRT")
        if not isinstance(entries, list) or not entries:
            raise FormatError(f"{name_of(path)} lacks KRT.")
        names, viewmats, Ks = [], [], []
        for entry in entries:
            name = str(entry.get("cameraId", ""))
            if not (moment.folder / "image" / f"cam{name}.zip").is_file():
                continue
            where = f"{moment.subject}: camera {name}"
            names.append(name)
            viewmats.append(rigid(_transposed(entry, "T", where), where))
            Ks.append(intrinsics(matrix_of(entry, "K", (3, 3), where).T, where))
        if not names:
            raise FormatError(f"{moment.key}: no calibrated camera has pictures.")
        return RigCameras(tuple(names), np.stack(viewmats), np.stack(Ks), NOMINAL)

    def picture(self, moment: MomentKey, view: str) -> Picture:
        """See RigLayout; the person is all that the segmentation shows but the chair."""
        rgb = read_picture(_member(moment, "image", view, "avif"), f"{moment.key} cam{view}")
        if not (moment.folder / "segmentation_parts" / f"cam{view}.zip").is_file():
            return Picture(rgb)
        labels = read_labels(_member(moment, "segmentation_parts", view, "png"), f"{moment.key} segmentation {view}")
        person = ((labels != 0) & (labels != _CHAIR)).astype(np.float32)
        (height, width), (rows, columns) = rgb.shape[:2], person.shape
        if abs(rows * width / (columns * height) - 1) > 0.02:
            raise FormatError(f"The mask of {moment.key} {view} is {person.shape}, its picture {(height, width)}.")
        if person.shape != rgb.shape[:2]:
            import cv2

            person = np.asarray(cv2.resize(person, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        return Picture(rgb, person)

    def pose(self, moment: MomentKey, cameras: RigCameras) -> HeadPose:
        """See RigLayout."""
        world_from_head = np.eye(4)
        world_from_head[:3] = _head_pose(moment)
        local_from_world = np.linalg.inv(world_from_head)
        axes = _axes(cameras.viewmats @ world_from_head)
        matrix = np.eye(4)
        matrix[:3, :3] = MM * axes @ local_from_world[:3, :3]
        matrix[:3, 3] = MM * axes @ local_from_world[:3, 3]
        middle = _keypoint_middle(moment)
        if middle is not None:
            matrix[:3, 3] += _FACE_MIDDLE - (matrix[:3, :3] @ middle + matrix[:3, 3])
        return HeadPose(matrix, "tracked" if middle is not None else "assumed")

    def audit(self, subject: str) -> list[str]:
        """See RigLayout."""
        folder = self._folders[subject]
        found: list[str] = []
        try:
            entries = read_json(folder / "camera_calibration.json").get("KRT") or []
            calibrated = {str(entry.get("cameraId")) for entry in entries}
            frames = {frame for _, frame in _frame_list(folder / "frame_list.csv")}
        except FormatError as error:
            return [error.message]
        archives = {p.stem.removeprefix("cam"): p for p in sorted((folder / "image").glob("cam*.zip"))}
        found += [f"{subject}: camera {n} has no calibration." for n in sorted(set(archives) - calibrated)]
        found += [
            f"{subject}: camera {n} is calibrated but has no pictures." for n in sorted(calibrated - set(archives))
        ]
        for name, path in archives.items():
            try:
                stored = {int(Path(p).stem) for p in zipped_names(path) if Path(p).stem.isdigit()}
            except FormatError as error:
                found.append(error.message)
                continue
            if len(frames - stored) > 0.01 * len(frames):  # a tenth of a percent is missing in the release itself
                found.append(f"{subject}: camera {name} lacks {len(frames - stored)} of {len(frames)} frames.")
        return found


def _transposed(entry: dict[str, object], name: str, where: str) -> F64:
    """A matrix that is stored with its columns as rows: [4, 4] or [4, 3] there, [3 or 4, 4] here."""
    stored = np.asarray(entry.get(name, ()), object)
    shape = (4, 3) if stored.shape == (4, 3) else (4, 4)
    return matrix_of(entry, name, shape, where).T


def _member(moment: MomentKey, folder: str, view: str, suffix: str) -> bytes:
    name = f"{moment.frame:06d}.{suffix}"
    return read_zipped(moment.folder / folder / f"cam{view}.zip", (name, f"cam{view}/{name}"))


def _frame_list(path: Path) -> list[tuple[str, int]]:
    """Segments and frame numbers, in order.

    Raises:
        FormatError: The file is missing or holds something else.
    """
    try:
        with path.open(newline="") as file:
            return [(row["seg_id"], int(row["frame_id"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise FormatError(f"{name_of(path)} is missing or cannot be read.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{name_of(path)} must have the columns seg_id and frame_id.") from error


def _head_pose(moment: MomentKey) -> F64:
    """[3, 4], head to world, mm."""
    archive = moment.folder / "head_pose" / "head_pose.zip"
    data = read_zipped(archive, tuple(f"{moment.frame:06d}.{suffix}" for suffix in ("txt", "npy")))
    try:
        matrix = np.load(io.BytesIO(data)) if data[:6] == b"\x93NUMPY" else np.loadtxt(io.BytesIO(data))
        return rigid(np.asarray(matrix, np.float64).reshape(3, 4), f"{moment.key}: head pose")[:3]
    except ValueError as error:
        raise FormatError(f"{moment.key}: its head pose is no 3x4 matrix.") from error


def _axes(viewmats: F64) -> F64:
    """The turn [3, 3] from the tracked head's axes to ours, of the 24 that keep axes parallel."""
    up, forward = -viewmats[:, 1, :3].mean(0), camera_centers(viewmats)
    forward = (forward / np.linalg.norm(forward, axis=1, keepdims=True)).mean(0)
    best, score = np.eye(3), -np.inf
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            value = (turn @ up)[1] + (turn @ forward)[2]
            if np.linalg.det(turn) > 0 and value > score:
                best, score = turn, value
    if score < 0.5:
        raise InvalidInputError("The cameras do not tell which way the tracked head's axes point; write a sidecar.")
    return best


def _keypoint_middle(moment: MomentKey) -> F64 | None:
    """Middle of the frame's 3D key points, mm, world; None where there are none."""
    archive = moment.folder / "keypoints_3d" / "keypoints_3d.zip"
    if not archive.is_file():
        return None
    data = read_zipped(archive, (f"{moment.frame:06d}.npy",))
    try:
        points = np.load(io.BytesIO(data)).reshape(-1, 6)[:, 1:4].astype(np.float64)
    except ValueError as error:
        raise FormatError(f"{moment.key}: its key points are no [n, 6] array.") from error
    return np.asarray(np.median(points, 0)) if len(points) else None
