"""NeRSemble v2 (Kirschstein et al., SIGGRAPH 2023): 16 cameras, videos.

    059/calibration/camera_params.json    {"world_2_cam": {serial: 4x4}, "intrinsics": 3x3 for 2200x3208 pictures}
    059/sequences/EXP-1-head/images/cam_222200037.mp4

OpenCV cameras, metres. All cameras share one K. The rig stands before the person, so that without a sidecar the cameras
alone give a rough head frame. The release has no masks: see `MATTE_FOLDER`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from headlift.errors import FormatError
from headlift_trainer.datasets.filters import evenly
from headlift_trainer.datasets.layouts import MomentKey, Picture, RigCameras, RigLayout
from headlift_trainer.datasets.media import frame_count, read_frame, read_json
from headlift_trainer.datasets.poses import intrinsics, matrix_of, rigid

NOMINAL = (2200, 3208)  # width and height that the shared K belongs to
# Nobody is in it; hands are before the face; hair flies.
UNUSED = ("BACKGROUND", "HAIR")
_CALIBRATION = Path("calibration") / "camera_params.json"


class Nersemble(RigLayout):
    """A folder of NeRSemble v2. A moment is a frame of a sequence; the first of each sequence is nearly neutral."""

    kind = "nersemble"

    @cached_property
    def _folders(self) -> dict[str, Path]:
        return {p.name: p for p in sorted(self.root.iterdir()) if p.is_dir() and p.name.isdigit()}

    def subjects(self) -> list[str]:
        """See RigLayout."""
        return list(self._folders)

    def sequences(self, subject: str) -> list[Path]:
        """Folders of the sequences that show a face."""
        every = sorted(p for p in (self._folders[subject] / "sequences").glob("*/images") if p.is_dir())
        return [p for p in every if p.parent.name not in UNUSED]

    def moments(self, subject: str, count: int) -> list[MomentKey]:
        """See RigLayout: first frames of sequences; further frames where there are not enough sequences."""
        folders = self.sequences(subject)
        if not folders:
            return []
        if count <= len(folders):
            return [self._key(subject, folders[i], 0) for i in evenly(len(folders), count)]
        each = -(-count // len(folders))
        keys = []
        for folder in folders:
            video = next(iter(_videos(folder).values()), None)
            length = max(1, frame_count(video)) if video is not None else 1
            keys += [self._key(subject, folder, i * length // each) for i in range(min(each, length))]
        return keys[:count]

    def cameras(self, moment: MomentKey) -> RigCameras:
        """See RigLayout: the cameras that are calibrated and filmed the sequence."""
        where = f"{moment.subject}/{_CALIBRATION.as_posix()}"
        data = read_json(self._folders[moment.subject] / _CALIBRATION)
        world = data.get("world_2_cam")
        if not isinstance(world, dict) or not world:
            raise FormatError(f"{where} lacks world_2_cam.")
        K = intrinsics(matrix_of(data, "intrinsics", (3, 3), where), where)
        names = [serial for serial in sorted(world) if serial in _videos(moment.folder)]
        if not names:
            raise FormatError(f"{moment.key}: no calibrated camera filmed it.")
        viewmats = [rigid(matrix_of(world, serial, (4, 4), where), f"{where}: {serial}") for serial in names]
        return RigCameras(tuple(names), np.stack(viewmats), np.repeat(K[None], len(names), 0), NOMINAL)

    def picture(self, moment: MomentKey, view: str) -> Picture:
        """See RigLayout."""
        return Picture(read_frame(moment.folder / f"cam_{view}.mp4", moment.frame))

    def audit(self, subject: str) -> list[str]:
        """See RigLayout."""
        found: list[str] = []
        try:
            data = read_json(self._folders[subject] / _CALIBRATION)
            calibrated = set(data.get("world_2_cam") or {})
        except FormatError as error:
            return [error.message]
        folders = self.sequences(subject)
        if not folders:
            found.append(f"{subject} has no sequence with videos.")
        for folder in folders:
            found += _audit_sequence(f"{subject}/{folder.parent.name}", _videos(folder), calibrated)
        return found

    @staticmethod
    def _key(subject: str, images: Path, frame: int) -> MomentKey:
        return MomentKey(subject, f"{images.parent.name}/{frame}", images, frame)


def _videos(images: Path) -> dict[str, Path]:
    """Videos of a sequence by the camera's serial number."""
    return {path.stem.removeprefix("cam_"): path for path in sorted(images.glob("cam_*.mp4"))}


def _audit_sequence(name: str, videos: dict[str, Path], calibrated: set[str]) -> list[str]:
    found = [f"{name}: camera {serial} has no calibration." for serial in sorted(set(videos) - calibrated)]
    found += [f"{name}: camera {serial} is calibrated but has no video." for serial in sorted(calibrated - set(videos))]
    counts: dict[str, int] = {}
    for serial, path in videos.items():
        try:
            counts[serial] = frame_count(path)
        except FormatError as error:
            found.append(error.message)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{serial} {count}" for serial, count in counts.items())
        found.append(f"{name}: the videos differ in length (frames: {listed}).")
    return found
