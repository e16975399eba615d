"""The preprocess stage with a memory: the same portrait with the same options is looked at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import safetensors.torch
import torch
import zstandard

from headlift.errors import InvalidInputError
from headlift.gateway.validation import Creation
from headlift.model.types import Cameras, Portrait
from headlift.preprocess import Face, Preprocess, PreprocessOptions, PreprocessResult, SeveralFaces
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import head_pb2

_STAGE = "preprocess"
_QUALITY_CODEC, _PORTRAIT_CODEC = "quality", "tensors"


@dataclass(frozen=True)
class Seen:
    """A portrait, and the record of its quality."""

    portrait: Portrait
    quality: head_pb2.Quality


class Watch(Protocol):
    """Where times are noted."""

    cached: set[str]

    def timing(self, stage: str) -> AbstractContextManager[None]:
        """Add the time inside the block to ``stage``."""
        ...


class PortraitCache:
    """Preprocess in front of the stage cache.

    Portraits are kept exactly (float32, zstd), so that a cached one changes nothing.
    """

    def __init__(self, preprocess: Preprocess, cache: StageCache, fingerprint: str) -> None:
        """``fingerprint`` names everything that the result depends on besides picture and options."""
        self._preprocess = preprocess
        self._cache = cache
        self.fingerprint = fingerprint
        self.size = preprocess.size

    def look(self, creation: Creation, watch: Watch, *, keep: bool = True) -> Seen:
        """Preprocess the picture of ``creation``, or remember it; without ``keep`` the cache is left alone."""
        with watch.timing(_STAGE):
            seen = self._remembered(creation) if keep else None
            if seen is not None:
                watch.cached.add(_STAGE)
                return seen
            seen = seen_from(self._run(creation))
            if keep:
                self._cache.put(self._key(creation, "quality"), seen.quality.SerializeToString(), _QUALITY_CODEC)
                self._cache.put(self._key(creation, "portrait"), pack_portrait(seen.portrait), _PORTRAIT_CODEC)
            return seen

    def _run(self, creation: Creation) -> PreprocessResult:
        options = PreprocessOptions(SeveralFaces(creation.options.several_faces.upper()), creation.options.face_index)
        try:
            return self._preprocess(creation.picture, options)
        except InvalidInputError as error:
            # Whatever is wrong with the picture, the field at fault is the picture.
            error.field = error.field or "picture"
            raise

    def _remembered(self, creation: Creation) -> Seen | None:
        quality = self._cache.get(self._key(creation, "quality"), _QUALITY_CODEC)
        portrait = self._cache.get(self._key(creation, "portrait"), _PORTRAIT_CODEC) if quality is not None else None
        if quality is None or portrait is None:
            return None
        return Seen(unpack_portrait(portrait), head_pb2.Quality.FromString(quality))

    def _key(self, creation: Creation, what: str) -> StageKey:
        options: Mapping[str, str | int | None] = {
            "several_faces": creation.options.several_faces,
            "face_index": creation.options.face_index,
            "fingerprint": self.fingerprint,
        }
        return StageKey(creation.tenant, creation.input_sha256, what, options, "")


def seen_from(result: PreprocessResult) -> Seen:
    """A preprocessing result in the contract's words."""
    report, portrait = result.quality, result.portrait
    # The report names the chosen face by its box alone; its turn is with the faces.
    chosen = min(result.faces, key=lambda f: sum(abs(a - b) for a, b in zip(f.box, report.face_box, strict=True)))
    quality = head_pb2.Quality(
        score=report.score,
        reasons=[str(r) for r in report.reasons],
        notes=report.notes,
        face=_face_box(chosen),
        faces=[_face_box(f) for f in result.faces],
        sharpness=report.sharpness,
        exposure=report.exposure,
        matte_confidence=report.matte_confidence,
        cut_off_sides=report.cut_off,
        crop_from_source=portrait.crop_from_source.flatten().tolist(),
        crop_size_px=portrait.size,
    )
    return Seen(portrait, quality)


def pack_portrait(portrait: Portrait) -> bytes:
    """A portrait as bytes, exactly."""
    tensors = {"image": portrait.image, "alpha": portrait.alpha, "crop_from_source": portrait.crop_from_source}
    if portrait.camera is not None:
        tensors |= {"viewmats": portrait.camera.viewmats, "Ks": portrait.camera.Ks}
    if portrait.source_size is not None:
        tensors["source_size"] = torch.tensor(portrait.source_size)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return zstandard.compress(safetensors.torch.save(plain), 1)


def unpack_portrait(data: bytes) -> Portrait:
    """Inverse of ``pack_portrait``."""
    tensors = safetensors.torch.load(zstandard.decompress(data))
    side = tensors["image"].shape[-1]
    camera = Cameras(tensors["viewmats"], tensors["Ks"], side, side) if "viewmats" in tensors else None
    width_height = tensors["source_size"].tolist() if "source_size" in tensors else None
    source_size = (width_height[0], width_height[1]) if width_height is not None else None
    return Portrait(tensors["image"], tensors["alpha"], tensors["crop_from_source"], camera, source_size)


def _face_box(face: Face) -> head_pb2.FaceBox:
    x0, y0, x1, y1 = face.box
    return head_pb2.FaceBox(
        x_px=x0, y_px=y0, width_px=x1 - x0, height_px=y1 - y0, score=face.score, roll_deg=face.roll_deg
    )
