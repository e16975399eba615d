"""VFHQ (Xie et al., CVPRW 2022): clips of interviews, as pictures.

    Clip+-91nXXjrVo+P0+C0+F1537-1825/00000001.png         (also below a folder of the video, or of a split)
    meta_info/Clip+-91nXXjrVo+P0+C0+F1537-1825.txt        frames with boxes and five landmarks, and the crop

A line of the meta file is "FRAME INDEX X0 Y0 W H x1 y1 ... x5 y5" in pixels of the video; "CROP x0 y0 x1 y1" is what
the pictures show. The k-th picture of a clip is its frame start + 1 + k. Clips move little: a few frames
of each are taken.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from headlift_trainer.datasets.filters import evenly
from headlift_trainer.datasets.interface import F64
from headlift_trainer.datasets.layouts import Picture, WildKey, WildLayout
from headlift_trainer.datasets.media import read_picture

_CLIP = re.compile(r"Clip\+(?P<video>.+)\+P(?P<person>\d+)\+C(?P<clip>\d+)\+F(?P<start>\d+)-(?P<end>\d+)")
_META = "meta_info"
_SUFFIXES = (".png", ".jpg", ".jpeg")


class Vfhq(WildLayout):
    """A folder of VFHQ; a picture's key is CLIP/FILE, its subject the video and the person in it.

    Args:
        root: The folder.
        frames_per_clip: Pictures of each clip, evenly spread.
    """

    kind = "vfhq"

    def __init__(self, root: Path, frames_per_clip: int = 4) -> None:
        super().__init__(root)
        self._frames = frames_per_clip

    @cached_property
    def _clips(self) -> list[Path]:
        return sorted(p for p in self.root.glob("**/Clip+*") if p.is_dir() and _CLIP.fullmatch(p.name))

    def pictures(self) -> list[WildKey]:
        """See WildLayout."""
        found = []
        for clip in self._clips:
            match = _CLIP.fullmatch(clip.name)
            assert match is not None
            files = _files(clip)
            subject = f"{match['video']}+P{match['person']}"
            found += [
                WildKey(subject, f"{clip.name}/{files[i].stem}", files[i]) for i in evenly(len(files), self._frames)
            ]
        return found

    def picture(self, key: WildKey) -> Picture:
        """See WildLayout."""
        return Picture(read_picture(key.path))

    def landmarks(self, key: WildKey) -> F64 | None:
        """See WildLayout."""
        clip = key.path.parent
        match = _CLIP.fullmatch(clip.name)
        if match is None:
            return None
        frames = _meta(self.root / _META / f"{clip.name}.txt")
        order = [path.name for path in _files(clip)].index(key.path.name)
        return frames.get(int(match["start"]) + 1 + order)

    def audit(self) -> list[str]:
        """See WildLayout."""
        if not self._clips:
            return ["There is no folder Clip+VIDEO+P0+C0+F0-100."]
        found = [f"{clip.name} is empty." for clip in self._clips if not _files(clip)]
        for clip in self._clips:
            path = self.root / _META / f"{clip.name}.txt"
            if path.is_file() and not _meta(path):
                found.append(f"{_META}/{path.name} holds no frame with five landmarks.")
        return found


@lru_cache(4096)
def _files(clip: Path) -> list[Path]:
    return sorted(p for p in clip.iterdir() if p.suffix.lower() in _SUFFIXES)


@lru_cache(256)
def _meta(path: Path) -> dict[int, F64]:
    """Landmarks [5, 2] by frame, pixels of the clip's pictures; empty where there is no file."""
    if not path.is_file():
        return {}
    origin, frames = np.zeros(2), {}
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("CROP"):
            origin = np.array([float(word) for word in words[-4:-2]])
        elif len(words) >= 16 and words[0].isdigit():
            frames[int(words[0])] = np.array([float(word) for word in words[6:16]]).reshape(5, 2)
    return {frame: points - origin for frame, points in frames.items()}
