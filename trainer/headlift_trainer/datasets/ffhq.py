"""FFHQ (Karras et al., CVPR 2019): 70,000 aligned portraits.

    images1024x1024/00000/00042.png
    ffhq-dataset-v2.json     {"42": {"image": {"face_landmarks": 68x2, pixels of the aligned picture}, ...}}
    json/00042.json          (FFHQ Features Dataset, optional) what is occluded

The paper takes 3,000 pictures without occlusions and does not say which: headlift_subset.txt may list them; without it
they are chosen by the hash of their names among the pictures of the published training part.
"""

from __future__ import annotations

import json
from functools import cached_property

import numpy as np

from headlift.errors import FormatError
from headlift_trainer.datasets.filters import occlusion_of
from headlift_trainer.datasets.interface import F64
from headlift_trainer.datasets.layouts import Picture, WildKey, WildLayout
from headlift_trainer.datasets.media import name_of, read_json, read_picture

_FOLDER, _INDEX = "images1024x1024", "ffhq-dataset-v2.json"
_FEATURES = ("json", "ffhq-features-dataset/json")


class Ffhq(WildLayout):
    """A folder of FFHQ; a picture's key is its five-digit number."""

    kind = "ffhq"

    def pictures(self) -> list[WildKey]:
        """See WildLayout."""
        folder = self.root / _FOLDER
        paths = sorted(p for p in (folder if folder.is_dir() else self.root).glob("**/*.png") if p.stem.isdigit())
        return [WildKey(p.stem, p.stem, p) for p in paths if len(p.stem) == 5]

    @cached_property
    def _landmarks(self) -> dict[str, F64]:
        path = self.root / _INDEX
        if not path.is_file():
            return {}
        found = {}
        for number, entry in read_json(path).items():
            try:
                points = np.asarray(entry["image"]["face_landmarks"], np.float32)
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(f"{_INDEX}: entry {number} lacks image.face_landmarks.") from error
            found[f"{int(number):05d}"] = points.astype(np.float64)
        return found

    def picture(self, key: WildKey) -> Picture:
        """See WildLayout."""
        return Picture(read_picture(key.path))

    def landmarks(self, key: WildKey) -> F64 | None:
        """See WildLayout."""
        return self._landmarks.get(key.key)

    def occlusion(self, key: WildKey) -> str | None:
        """See WildLayout."""
        for folder in _FEATURES:
            path = self.root / folder / f"{key.key}.json"
            if path.is_file():
                try:
                    return occlusion_of(json.loads(path.read_text()))
                except ValueError as error:
                    raise FormatError(f"{name_of(path)} is not JSON.") from error
        return None

    def audit(self) -> list[str]:
        """See WildLayout."""
        pictures = self.pictures()
        if not pictures:
            return [f"There is no {_FOLDER}/00000/00000.png or any other picture of five digits."]
        gone = [p.key for p in pictures if self._landmarks and p.key not in self._landmarks]
        return [f"{_INDEX} lacks {len(gone)} pictures, {gone[0]} for one."] if gone else []
