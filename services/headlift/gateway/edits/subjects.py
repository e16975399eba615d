"""What edits start from: heads with their maps and styles, read from what is kept or computed anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import safetensors.torch
import torch
import zstandard
from torch import Tensor

from headlift.backend.protocol import Backend, HeadRef
from headlift.codec import matrix
from headlift.errors import NotFoundError
from headlift.gateway.edits.maps import U8, resize_map
from headlift.gateway.edits.parsing import Segment, by_stage
from headlift.gateway.edits.stage import EditStage
from headlift.gateway.edits.state import PART, EditState, state_of
from headlift.gateway.edits.styles import embedding_message, embedding_of
from headlift.gateway.portraits import PortraitCache
from headlift.gateway.validation import parse_name
from headlift.media.pictures import RenderOptions
from headlift.model.cameras import orbit_camera
from headlift.model.types import Cameras, Portrait
from headlift.stages.clock import Stopwatch
from headlift.stages.stop_token import StopToken
from headlift.store.heads import HeadName, HeadStore
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import edit_pb2, head_pb2
from headlift.v1 import edit_service_pb2 as pb

_RENDER_SIZE = 512  # px, where a head has to stand in for its portrait


@dataclass(frozen=True)
class Geometry:
    """A map and how it came to be."""

    labels: U8  # [S, S] 0..18
    confidence: U8  # [S, S], 255 is certain
    camera: Cameras  # of the map, C = 1, S x S
    origin: pb.MapOrigin.ValueType


@dataclass(frozen=True)
class Subject:
    """A stored head, as far as editing needs to know it."""

    name: HeadName
    record: head_pb2.Head
    state: EditState | None  # None where it was not edited


class Subjects:
    """Finds what edits start from; blocks."""

    def __init__(
        self,
        heads: HeadStore,
        cache: StageCache,
        portraits: PortraitCache,
        backend: Backend,
        segment: Segment = by_stage,
    ) -> None:
        self._heads, self._cache, self._portraits, self._backend = heads, cache, portraits, backend
        self._segment = segment

    def find(self, name: HeadName, stage: EditStage) -> Subject:
        """The head of this name. NotFoundError: there is none."""
        record = self._heads.get(name)
        part = self._heads.part(name, PART)
        state = state_of(pb.GetEditHistoryResponse.FromString(part), stage.map_size) if part is not None else None
        return Subject(name, record, state)

    def history(self, name: HeadName) -> pb.GetEditHistoryResponse:
        """All edits of a head. NotFoundError: there is no such head."""
        self._heads.get(name)
        return pb.GetEditHistoryResponse.FromString(self._heads.part(name, PART) or b"")

    def origin(self, subject: Subject, stage: EditStage) -> Subject:
        """Where the subject's line of edits began; the subject itself once that was deleted, or if it began there."""
        if not subject.record.origin:
            return subject
        try:
            return self.find(parse_name(subject.record.origin), stage)
        except NotFoundError:
            return subject

    def geometry(self, subject: Subject, stage: EditStage, watch: Stopwatch, token: StopToken) -> Geometry:
        """The map of a head: its own where it was edited, else the segmentation of its portrait."""
        if subject.state is not None:
            certain = np.full_like(subject.state.labels, 255)
            return Geometry(subject.state.labels, certain, subject.state.camera, pb.MAP_ORIGIN_PAINTED)
        path = self._heads.portrait_path(subject.name)
        if (kept := self._recall(subject, "segment", path, stage, watch)) is not None:
            return unpack_geometry(kept)
        portrait, origin = self._portrait(subject, path, watch, token)
        geometry = self.segment(portrait, stage, origin, watch)
        source = path if origin == pb.MAP_ORIGIN_PORTRAIT else str(subject.name)
        self._cache.put(_key(subject, "segment", source, stage), pack_geometry(geometry), "segment")
        return geometry

    def style(self, subject: Subject, stage: EditStage, watch: Stopwatch, token: StopToken) -> Tensor:
        """The style [D] of a head: that of its edits, else of its portrait."""
        state = subject.state
        if state is not None and state.style.fingerprint == stage.fingerprint:
            return embedding_of(state.style, stage.fingerprint, "style")
        # The style of an edited head that another network embedded is in its Gaussians alone.
        path = "" if state is not None else self._heads.portrait_path(subject.name)
        if (kept := self._recall(subject, "embed", path, stage, watch)) is not None:
            return embedding_of(edit_pb2.StyleEmbedding.FromString(kept), stage.fingerprint, "style")
        portrait, origin = self._portrait(subject, path, watch, token)
        with watch.timing("embed"):
            style = stage.embed_picture(portrait)
        source = path if origin == pb.MAP_ORIGIN_PORTRAIT else str(subject.name)
        message = embedding_message(style, stage.fingerprint)
        self._cache.put(_key(subject, "embed", source, stage), message.SerializeToString(), "embed")
        return style

    def segment(
        self, portrait: Portrait, stage: EditStage, origin: pb.MapOrigin.ValueType, watch: Stopwatch
    ) -> Geometry:
        """The segmentation of a portrait."""
        with watch.timing("segment"):
            segmentation = self._segment(stage, portrait)
        side = stage.map_size
        confidence = (np.asarray(segmentation.confidence, np.float32).clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        labels = resize_map(np.asarray(segmentation.labels, np.uint8), side)
        return Geometry(labels, resize_map(confidence, side), segmentation.camera.resized(side, side), origin)

    def portrait(self, subject: Subject, watch: Stopwatch, token: StopToken) -> Portrait:
        """The portrait of a head, or of an edited head the picture of it that stands for one."""
        path = "" if subject.state is not None else self._heads.portrait_path(subject.name)
        return self._portrait(subject, path, watch, token)[0]

    def head(self, subject: Subject) -> HeadRef:
        """The Gaussians of a head."""
        return HeadRef.stored(self._heads, subject.name)

    def _recall(self, subject: Subject, what: str, path: str, stage: EditStage, watch: Stopwatch) -> bytes | None:
        """What was made of the portrait, or of the head in its place, before."""
        for source in filter(None, (path, str(subject.name))):
            if (kept := self._cache.get(_key(subject, what, source, stage), what)) is not None:
                note_cached(watch, what)
                return kept
        return None

    def _portrait(
        self, subject: Subject, path: str, watch: Stopwatch, token: StopToken
    ) -> tuple[Portrait, pb.MapOrigin.ValueType]:
        portrait = self._portraits.recall(path) if path else None
        if portrait is not None:
            # Refinement may have corrected the camera since.
            camera = camera_of(subject.record, portrait.size) or portrait.camera
            return replace(portrait, camera=camera), pb.MAP_ORIGIN_PORTRAIT
        camera = camera_of(subject.record, _RENDER_SIZE) or orbit_camera(0.0, size=_RENDER_SIZE)
        options = RenderOptions(_RENDER_SIZE, _RENDER_SIZE, "raw_float32", alpha=True)
        images = self._backend.render(self.head(subject), camera, options, token)
        watch.add_all(t for t in images.timings if t.stage != "pack")
        pixels = torch.frombuffer(bytearray(images.pictures[0]), dtype=torch.float32)
        pixels = pixels.view(_RENDER_SIZE, _RENDER_SIZE, 4).permute(2, 0, 1).contiguous()
        rgb, alpha = pixels[:3] * pixels[3:], pixels[3:]
        return Portrait(rgb, alpha, torch.eye(3, dtype=torch.float64)[:2], camera), pb.MAP_ORIGIN_HEAD


def _key(subject: Subject, what: str, source: str, stage: EditStage) -> StageKey:
    """Below the portrait's other results, so that it goes with the head."""
    digest = subject.record.input_sha256
    return StageKey(subject.name.tenant, digest, what, {"source": source}, stage.fingerprint)


def note_cached(watch: Stopwatch, stage: str) -> None:
    """Note a result that was remembered; a stage counts as cached while all of it was."""
    if stage not in watch.spent_ms:
        watch.cached.add(stage)
    watch.add(stage, 0.0)


def camera_of(record: head_pb2.Head, size: int) -> Cameras | None:
    """The camera that took a head's portrait, ``size`` pixels a side; None where it is not known."""
    if not record.HasField("input_camera"):
        return None
    side = record.quality.crop_size_px or size
    return matrix(record.input_camera, side, side).resized(size, size)


def pack_geometry(geometry: Geometry) -> bytes:
    """A map as bytes."""
    tensors = {
        "labels": torch.tensor(geometry.labels),
        "confidence": torch.tensor(geometry.confidence),
        "viewmats": geometry.camera.viewmats.contiguous(),
        "Ks": geometry.camera.Ks.contiguous(),
        "origin": torch.tensor(int(geometry.origin)),
    }
    return zstandard.compress(safetensors.torch.save(tensors), 3)


def unpack_geometry(data: bytes) -> Geometry:
    """Inverse of ``pack_geometry``."""
    tensors = safetensors.torch.load(zstandard.decompress(data))
    side = tensors["labels"].shape[0]
    camera = Cameras(tensors["viewmats"], tensors["Ks"], side, side)
    origin = pb.MapOrigin.ValueType(int(tensors["origin"]))
    return Geometry(tensors["labels"].numpy(), tensors["confidence"].numpy(), camera, origin)
