"""Requests of EditService from plain arguments, and its answers as plain objects; shared by both clients."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from google.rpc import status_pb2
from PIL import Image

from headlift.errors import HeadliftError, InvalidInputError
from headlift.gateway.status import error_of
from headlift.serving.client.requests import HeadLike, RenderedPicture, head_name, read_picture, rendered
from headlift.v1 import camera_pb2, edit_pb2, head_pb2
from headlift.v1 import edit_service_pb2 as pb

U8 = npt.NDArray[np.uint8]
Picture = bytes | os.PathLike[str]
# A picture, a look that was embedded before, a head whose look it is, or words.
StyleSource = Picture | edit_pb2.StyleEmbedding | head_pb2.Head | str
Reference = Picture | edit_pb2.StyleEmbedding | head_pb2.Head | str  # here text is a path
Map = U8 | bytes | str | os.PathLike[str]
_ORIGINS = {pb.MAP_ORIGIN_PORTRAIT: "portrait", pb.MAP_ORIGIN_HEAD: "head", pb.MAP_ORIGIN_PAINTED: "painted"}


@dataclass(frozen=True)
class Segmented:
    """What a portrait shows."""

    labels: U8  # [S, S] 0..18; see LabelMap in the contract
    confidence: npt.NDArray[np.float32]  # [S, S] 0..1
    camera: camera_pb2.Camera  # RenderHead with it, S x S, shows the head as the map does
    portrait: RenderedPicture | None  # the crop, where it was asked for
    origin: str  # portrait, head (it stood in for its portrait), or painted


@dataclass(frozen=True)
class Edited:
    """What came of an edit."""

    head: head_pb2.Head
    ignored_words: tuple[str, ...]  # that the network does not know and passed over, in lower case


@dataclass(frozen=True)
class Replayed:
    """What became of one target of a replay."""

    index: int  # of the target, from 0
    head: head_pb2.Head | None
    error: HeadliftError | None


def segmentation(tenant: str, source: HeadLike | Picture, with_portrait: bool) -> pb.SegmentPortraitRequest:
    """A SegmentPortraitRequest; text is the name of a head, paths and bytes are pictures."""
    request = pb.SegmentPortraitRequest(
        parent=f"tenants/{tenant}", with_portrait=with_portrait, format=edit_pb2.LABEL_MAP_FORMAT_RAW
    )
    if isinstance(source, (str, head_pb2.Head)):
        request.head = head_name(tenant, source)
    else:
        request.picture = read_picture(source)
    return request


def segmented(answer: pb.SegmentPortraitResponse) -> Segmented:
    """A SegmentPortraitResponse as a plain object."""
    side = answer.map.side_px
    confidence = np.asarray(Image.open(io.BytesIO(answer.confidence)), np.float32) / np.float32(255.0)
    return Segmented(
        labels=np.frombuffer(answer.map.data, np.uint8).reshape(side, side).copy(),
        confidence=confidence,
        camera=camera_pb2.Camera(matrix=answer.camera),
        portrait=rendered(answer.portrait) if answer.HasField("portrait") else None,
        origin=_ORIGINS.get(answer.origin, "unknown"),
    )


def style(*parts: StyleSource | tuple[StyleSource, float]) -> edit_pb2.Style:
    """A look mixed of parts, each a source or a source with its weight."""
    weighted = [part if isinstance(part, tuple) else (part, 1.0) for part in parts]
    return edit_pb2.Style(terms=[_term(source, weight) for source, weight in weighted])


def mixed(prompt: str | None, reference: Reference | None, mix: float) -> edit_pb2.Style | None:
    """The look of words and a reference, ``mix`` being the reference's share of 0..1; None where neither is given.

    Raises:
        InvalidInputError: ``mix`` is out of range.
    """
    if not 0.0 <= mix <= 1.0:
        raise InvalidInputError(f"mix is {mix:g}; it must lie in 0..1.", field="mix")
    shown = Path(reference) if isinstance(reference, str) else reference
    if prompt is None or shown is None:
        only = prompt if shown is None else shown
        return None if only is None else style(only)
    shares: list[tuple[StyleSource, float]] = [(prompt, 1.0 - mix), (shown, mix)]
    return style(*((source, share) for source, share in shares if share))  # the contract knows no weight of 0


def label_map(labels: Map) -> edit_pb2.LabelMap:
    """A map [S, S], or a PNG file of one, as a message."""
    if isinstance(labels, np.ndarray):
        if labels.ndim != 2 or labels.shape[0] != labels.shape[1] or labels.dtype != np.uint8:
            raise InvalidInputError(f"A map is uint8 [S, S], not {labels.dtype} {labels.shape}.", field="map")
        return edit_pb2.LabelMap(data=labels.tobytes(), format=edit_pb2.LABEL_MAP_FORMAT_RAW, side_px=labels.shape[0])
    data = labels if isinstance(labels, bytes) else read_picture(Path(labels), "map")
    return edit_pb2.LabelMap(data=data, format=edit_pb2.LABEL_MAP_FORMAT_PNG)


def edition(
    tenant: str,
    head: HeadLike | None,
    *,
    look: edit_pb2.Style | None,
    labels: Map | None,
    strokes: Sequence[edit_pb2.Stroke] | None,
    strength: float | None,
    keep_map: bool,
    request_id: str | None,
) -> pb.EditHeadRequest:
    """An EditHeadRequest; without ``request_id`` it gets a new one, so that a retry never makes two heads."""
    if labels is not None and strokes is not None:
        raise InvalidInputError("Give a map or strokes, not both.", field="map")
    return pb.EditHeadRequest(
        parent=f"tenants/{tenant}",
        head=head_name(tenant, head) if head is not None else "",
        map=label_map(labels) if labels is not None else None,
        strokes=edit_pb2.Strokes(strokes=strokes) if strokes is not None else None,
        style=look,
        strength=strength,
        keep_map=keep_map,
        request_id=str(uuid.uuid4()) if request_id is None else request_id,
    )


def edited(answer: pb.EditHeadResponse) -> Edited:
    """An EditHeadResponse as clients answer it."""
    return Edited(answer.head, tuple(answer.ignored_words))


def replay(
    tenant: str,
    source: HeadLike | Sequence[edit_pb2.Edit],
    targets: Sequence[HeadLike | Picture],
    request_id: str | None,
) -> pb.ReplayEditsRequest:
    """A ReplayEditsRequest; targets that are text are names of heads, paths and bytes are pictures."""
    request = pb.ReplayEditsRequest(
        parent=f"tenants/{tenant}", request_id=str(uuid.uuid4()) if request_id is None else request_id
    )
    if isinstance(source, (str, head_pb2.Head)):
        request.source = head_name(tenant, source)
    else:
        request.edits.extend(source)
    for target in targets:
        if isinstance(target, (str, head_pb2.Head)):
            request.targets.add(head=head_name(tenant, target))
        else:
            request.targets.add(picture=read_picture(target))
    return request


def replayed(answer: pb.ReplayEditsResponse) -> Replayed:
    """A ReplayEditsResponse as a plain object."""
    if answer.WhichOneof("outcome") == "head":
        return Replayed(answer.target_index, answer.head, None)
    fault = answer.error
    status = status_pb2.Status(code=fault.code, message=fault.message, details=fault.details)
    return Replayed(answer.target_index, None, error_of(status))


def _term(source: StyleSource, weight: float) -> edit_pb2.StyleTerm:
    if isinstance(source, str):
        return edit_pb2.StyleTerm(text=source, weight=weight)
    if isinstance(source, head_pb2.Head):
        return edit_pb2.StyleTerm(head=source.name, weight=weight)
    if isinstance(source, edit_pb2.StyleEmbedding):
        return edit_pb2.StyleTerm(embedding=source, weight=weight)
    return edit_pb2.StyleTerm(picture=read_picture(source), weight=weight)
