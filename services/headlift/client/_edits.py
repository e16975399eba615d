"""Calls of EditService; every function is a method of both clients, but for ``style``."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from headlift.client._calls import Stream, Unary
from headlift.client._heads import HeadLike, head_name, new_request_id
from headlift.client._pictures import RenderedPicture, picture_of, read_file
from headlift.errors import HeadliftError, InvalidInputError
from headlift.status import error_of
from headlift.v1 import camera_pb2, edit_pb2, head_pb2
from headlift.v1 import edit_service_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Picture = bytes | os.PathLike[str]  # text is a head's name, or words
# A picture, a style that was embedded before, a head that has the style, or words.
StyleSource = Picture | edit_pb2.StyleEmbedding | head_pb2.Head | str
Reference = Picture | edit_pb2.StyleEmbedding | head_pb2.Head | str  # here text is a path
Labels: TypeAlias = "npt.NDArray[np.uint8]"  # [S, S]
Map: TypeAlias = "Labels | bytes | str | os.PathLike[str] | edit_pb2.LabelMap"
_ORIGINS = {pb.MAP_ORIGIN_PORTRAIT: "portrait", pb.MAP_ORIGIN_HEAD: "head", pb.MAP_ORIGIN_PAINTED: "painted"}


@dataclass(frozen=True)
class Segmented:
    """What a portrait shows."""

    labels: Labels  # [S, S] 0..18; see LabelMap in the contract
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


def segment(
    tenant: str, source: HeadLike | Picture, *, with_portrait: bool = False, timeout_s: float | None = None
) -> Unary[Segmented]:
    """The map of a head (a Head or a name), or of a picture (a path or bytes)."""
    request = pb.SegmentPortraitRequest(
        parent=f"tenants/{tenant}", with_portrait=with_portrait, format=edit_pb2.LABEL_MAP_FORMAT_RAW
    )
    if isinstance(source, (str, head_pb2.Head)):
        request.head = head_name(tenant, source)
    else:
        request.picture = read_file(source)
    return Unary(lambda stubs: stubs.edits.SegmentPortrait, request, _segmented, timeout_s)


def embed_style(
    tenant: str, style: edit_pb2.Style, *, timeout_s: float | None = None
) -> Unary[edit_pb2.StyleEmbedding]:
    """A style, embedded for use in edits; ``style`` of this package makes one of words, pictures and heads."""
    request = pb.EmbedStyleRequest(parent=f"tenants/{tenant}", style=style)
    return Unary(lambda stubs: stubs.edits.EmbedStyle, request, lambda response: response.embedding, timeout_s)


def edit(
    tenant: str,
    head: HeadLike | None = None,
    *,
    prompt: str | None = None,
    reference: Reference | None = None,
    mix: float = 0.5,
    style: edit_pb2.Style | None = None,
    map: Map | None = None,
    strokes: Sequence[edit_pb2.Stroke] | None = None,
    strength: float | None = None,
    keep_map: bool = False,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Unary[Edited]:
    """A new head of a head, or, without one, of a map and a style.

    Args:
        head: To start from.
        prompt: Words about the style.
        reference: A picture (path or bytes), a Head or an embedding that has the style.
        mix: Share of the reference where both are given, 0..1.
        style: The style in full, in place of the three.
        map: uint8 [S, S], a PNG file or a message; 255 leaves a place as it is.
        strokes: Painted over the head's map, in place of ``map``.
        strength: How far to go from the head's style to the new one, 0..1.
        keep_map: Words change the style alone; else the length of hair, hats and glasses that they name are painted
            into the map.
        request_id: Names the request; a new one where it is None.
        timeout_s: Time that the call may take.
    """
    if map is not None and strokes is not None:
        raise InvalidInputError("Give a map or strokes, not both.", field="map")
    request = pb.EditHeadRequest(
        parent=f"tenants/{tenant}",
        head=head_name(tenant, head) if head is not None else "",
        map=label_map(map) if map is not None else None,
        strokes=edit_pb2.Strokes(strokes=strokes) if strokes is not None else None,
        style=style if style is not None else mixed_style(prompt, reference, mix),
        strength=strength,
        keep_map=keep_map,
        request_id=new_request_id(request_id),
    )
    return Unary(
        lambda stubs: stubs.edits.EditHead,
        request,
        lambda response: Edited(response.head, tuple(response.ignored_words)),
        timeout_s,
    )


def edit_history(tenant: str, head: HeadLike, *, timeout_s: float | None = None) -> Unary[pb.GetEditHistoryResponse]:
    """All edits between a head and its origin."""
    request = pb.GetEditHistoryRequest(head=head_name(tenant, head))
    return Unary(lambda stubs: stubs.edits.GetEditHistory, request, lambda response: response, timeout_s)


def replay(
    tenant: str,
    source: HeadLike | Sequence[edit_pb2.Edit],
    targets: Sequence[HeadLike | Picture],
    *,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Stream[Replayed]:
    """The edits of a head done to others (Heads or names) or to portraits (paths or bytes), as they are done."""
    request = pb.ReplayEditsRequest(parent=f"tenants/{tenant}", request_id=new_request_id(request_id))
    if isinstance(source, (str, head_pb2.Head)):
        request.source = head_name(tenant, source)
    else:
        request.edits.extend(source)
    for target in targets:
        if isinstance(target, (str, head_pb2.Head)):
            request.targets.add(head=head_name(tenant, target))
        else:
            request.targets.add(picture=read_file(target))
    return Stream(lambda stubs: stubs.edits.ReplayEdits, request, _replayed, timeout_s)


def style(*parts: StyleSource | tuple[StyleSource, float]) -> edit_pb2.Style:
    """A style mixed of parts, each a source or a source with its weight."""
    weighted = [part if isinstance(part, tuple) else (part, 1.0) for part in parts]
    return edit_pb2.Style(terms=[_term(source, weight) for source, weight in weighted])


def mixed_style(prompt: str | None, reference: Reference | None, mix: float) -> edit_pb2.Style | None:
    """The style of words and a reference, ``mix`` being the reference's share of 0..1; None where neither is given.

    Raises:
        InvalidInputError: ``mix`` is out of range.
    """
    if not 0.0 <= mix <= 1.0:
        raise InvalidInputError(f"mix is {mix:g}; it must lie in 0..1.", field="mix")
    source = Path(reference) if isinstance(reference, str) else reference
    if prompt is None or source is None:
        only = prompt if source is None else source
        return None if only is None else style(only)
    shares: list[tuple[StyleSource, float]] = [(prompt, 1.0 - mix), (source, mix)]
    return style(*((part, share) for part, share in shares if share))  # the contract knows no weight of 0


def label_map(labels: Map) -> edit_pb2.LabelMap:
    """A map [S, S], or a PNG file of one, as a message."""
    if isinstance(labels, edit_pb2.LabelMap):
        return labels
    if not isinstance(labels, (bytes, str, os.PathLike)):
        if labels.ndim != 2 or labels.shape[0] != labels.shape[1] or labels.dtype != "uint8":
            raise InvalidInputError(f"A map is uint8 [S, S], not {labels.dtype} {labels.shape}.", field="map")
        return edit_pb2.LabelMap(data=labels.tobytes(), format=edit_pb2.LABEL_MAP_FORMAT_RAW, side_px=labels.shape[0])
    return edit_pb2.LabelMap(data=read_file(labels, "map"), format=edit_pb2.LABEL_MAP_FORMAT_PNG)


def _term(source: StyleSource, weight: float) -> edit_pb2.StyleTerm:
    if isinstance(source, str):
        return edit_pb2.StyleTerm(text=source, weight=weight)
    if isinstance(source, head_pb2.Head):
        return edit_pb2.StyleTerm(head=source.name, weight=weight)
    if isinstance(source, edit_pb2.StyleEmbedding):
        return edit_pb2.StyleTerm(embedding=source, weight=weight)
    return edit_pb2.StyleTerm(picture=read_file(source), weight=weight)


def _segmented(response: pb.SegmentPortraitResponse) -> Segmented:
    import numpy as np
    from PIL import Image

    side = response.map.side_px
    return Segmented(
        labels=np.frombuffer(response.map.data, np.uint8).reshape(side, side).copy(),
        confidence=np.asarray(Image.open(io.BytesIO(response.confidence)), np.float32) / np.float32(255.0),
        camera=camera_pb2.Camera(matrix=response.camera),
        portrait=picture_of(response.portrait) if response.HasField("portrait") else None,
        origin=_ORIGINS.get(response.origin, "unknown"),
    )


def _replayed(response: pb.ReplayEditsResponse) -> Replayed:
    if response.WhichOneof("outcome") == "head":
        return Replayed(response.target_index, response.head, None)
    return Replayed(response.target_index, None, error_of(response.error))
