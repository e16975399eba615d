"""The preprocess stage with a memory: the same portrait with the same options is preprocessed once."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
import torch
import zstandard

from headlift.backend.protocol import Backend, PreprocessedPortrait
from headlift.errors import InvalidInputError
from headlift.gateway.validation import Creation
from headlift.model.types import Cameras, Portrait
from headlift.stages.clock import Stopwatch
from headlift.stages.preprocess import PreprocessOptions, SeveralFaces
from headlift.stages.stop_token import StopToken
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import head_pb2

_STAGE = "preprocess"
_QUALITY_CODEC, _PORTRAIT_CODEC = "quality", "tensors"


class PortraitCache:
    """Preprocessing behind the stage cache.

    Portraits are kept exactly (float32, zstd), so that a cached one changes nothing.
    """

    def __init__(self, backend: Backend, cache: StageCache) -> None:
        self._backend = backend
        self._cache = cache

    def preprocess(
        self, creation: Creation, watch: Stopwatch, token: StopToken, *, keep: bool = True
    ) -> PreprocessedPortrait:
        """Preprocess the picture of ``creation``, or remember it; without ``keep`` the cache is left alone."""
        with watch.timing(_STAGE):
            if not keep:
                return self._run(creation, token)
            computed: list[PreprocessedPortrait] = []
            fingerprint = self._backend.network().portraits
            quality, portrait = (_key(creation, what, fingerprint) for what in ("quality", "portrait"))

            def compute() -> PreprocessedPortrait:
                preprocessed, kept = self._run(creation, token), creation.durability
                computed.append(preprocessed)
                self._cache.put(quality, preprocessed.quality.SerializeToString(), _QUALITY_CODEC, kept)
                self._cache.put(portrait, pack_portrait(preprocessed.portrait), _PORTRAIT_CODEC, kept)
                return preprocessed

            preprocessed = self._cache.once(portrait, lambda: self._remembered(quality, portrait), compute, token.check)
            if not computed:
                watch.cached.add(_STAGE)
            return preprocessed

    def key(self, creation: Creation) -> StageKey:
        """Where the portrait is kept."""
        return _key(creation, "portrait", self._backend.network().portraits)

    def recall(self, path: str) -> Portrait | None:
        """The portrait that is kept at ``path``; None where it is no longer."""
        data = self._cache.read(path, _PORTRAIT_CODEC)
        return unpack_portrait(data) if data is not None else None

    def _run(self, creation: Creation, token: StopToken) -> PreprocessedPortrait:
        several = SeveralFaces(creation.options.several_faces.upper())
        options = PreprocessOptions(several, creation.options.face_index, near=creation.near)
        try:
            return self._backend.preprocess(creation.picture, options, token)
        except InvalidInputError as error:
            # Whatever is wrong with the picture, the field at fault is the picture.
            error.field = error.field or "picture"
            raise

    def _remembered(self, quality_key: StageKey, portrait_key: StageKey) -> PreprocessedPortrait | None:
        quality = self._cache.get(quality_key, _QUALITY_CODEC)
        portrait = self._cache.get(portrait_key, _PORTRAIT_CODEC) if quality is not None else None
        if quality is None or portrait is None:
            return None
        return PreprocessedPortrait(unpack_portrait(portrait), head_pb2.Quality.FromString(quality))


def _key(creation: Creation, what: str, fingerprint: str) -> StageKey:
    options: Mapping[str, str | int | None] = {
        "several_faces": creation.options.several_faces,
        "face_index": creation.options.face_index,
        "fingerprint": fingerprint,
    }
    return StageKey(creation.tenant, creation.input_sha256, what, options, "")


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
