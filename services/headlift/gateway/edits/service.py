"""EditService: decode the request, compute on workers, store, reply. Knows no runtime and no transport.

Methods take a CallContext and raise HeadliftError, as HeadServicer's do.
"""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable

import numpy as np
from PIL import Image

from headlift.backend.workers import Workers
from headlift.codec import message_from_camera
from headlift.errors import InvalidInputError
from headlift.gateway.context import CallContext, check_alive
from headlift.gateway.creation import Creator
from headlift.gateway.edits.editor import Editor
from headlift.gateway.edits.embedding import Embedder
from headlift.gateway.edits.maps import grey_png, map_message
from headlift.gateway.edits.replay import Replayer
from headlift.gateway.edits.requests import parse_edit_head, parse_head
from headlift.gateway.edits.stage import EditStage
from headlift.gateway.edits.styles import embedding_message, parse_style
from headlift.gateway.edits.subjects import Subjects
from headlift.gateway.validation import check_enum, parse_name, parse_parent
from headlift.model.types import Portrait
from headlift.stages import progress
from headlift.stages.clock import Stopwatch, count_stages
from headlift.stages.stop_token import StopToken
from headlift.v1 import edit_pb2, picture_pb2
from headlift.v1 import edit_service_pb2 as pb


class EditServicer:
    """The RPCs of headlift.v1.EditService."""

    def __init__(
        self,
        stage: Callable[[], EditStage],
        subjects: Subjects,
        embedder: Embedder,
        editor: Editor,
        creator: Creator,
        editing: Workers,
        storing: Workers,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            stage: The editing network; loads it when first asked, and blocks. MissingWeightsError: there is none.
            subjects: Finds heads, their maps and styles.
            embedder: Embeds styles.
            editor: Computes heads.
            creator: Stores them.
            editing: Threads that compute.
            storing: Threads that wait for the store.
        """
        self._stage, self._subjects, self._embedder, self._editor = stage, subjects, embedder, editor
        self._creator, self._editing, self._storing = creator, editing, storing
        self._replayer = Replayer(stage, subjects, editor, creator, editing, storing)

    async def SegmentPortrait(
        self, request: pb.SegmentPortraitRequest, context: CallContext
    ) -> pb.SegmentPortraitResponse:
        """See the contract."""
        check_alive(context)
        tenant = parse_parent(request.parent)
        check_enum(request.format, edit_pb2.LabelMapFormat.values(), "format")
        if request.WhichOneof("source") is None:
            raise InvalidInputError("Neither head nor picture is given; give one of them.", field="source")
        return await self._editing.run(lambda token: self._segment(request, tenant, token))

    async def EmbedStyle(self, request: pb.EmbedStyleRequest, context: CallContext) -> pb.EmbedStyleResponse:
        """See the contract."""
        check_alive(context)
        return await self._editing.run(lambda token: self._embed(request, parse_parent(request.parent), token))

    async def EditHead(self, request: pb.EditHeadRequest, context: CallContext) -> pb.EditHeadResponse:
        """See the contract."""
        check_alive(context)
        progress.bind(request.request_id)
        ordered = await self._storing.run(lambda _: parse_edit_head(request))
        head = await self._creator.make(
            ordered, lambda: self._editing.run(lambda token: self._editor.edit(ordered, self._stage(), token))
        )
        # On no pool: a head that has been made is not to be refused for want of a place.
        ignored = await asyncio.to_thread(lambda: self._embedder.ignored(ordered.terms, self._stage()))
        return pb.EditHeadResponse(head=head, ignored_words=ignored)

    async def GetEditHistory(
        self, request: pb.GetEditHistoryRequest, context: CallContext
    ) -> pb.GetEditHistoryResponse:
        """See the contract."""
        check_alive(context)
        name = parse_name(request.head, "head")
        return await self._storing.run(lambda _: self._subjects.history(name))

    def ReplayEdits(
        self, request: pb.ReplayEditsRequest, context: CallContext
    ) -> AsyncIterator[pb.ReplayEditsResponse]:
        """See the contract."""
        return self._replayer.answers(request, context)

    def _segment(self, request: pb.SegmentPortraitRequest, tenant: str, token: StopToken) -> pb.SegmentPortraitResponse:
        stage, watch, portrait = self._stage(), Stopwatch(), None
        if request.WhichOneof("source") == "head":
            subject = self._subjects.find(parse_head(request.head, tenant), stage)
            geometry = self._subjects.geometry(subject, stage, watch, token)
            if request.with_portrait:
                portrait = self._subjects.portrait(subject, watch, token)
        else:
            portrait = self._embedder.portrait(tenant, request.picture, "picture", watch, token)
            geometry = self._subjects.segment(portrait, stage, pb.MAP_ORIGIN_PORTRAIT, watch)
        count_stages(watch.timings)
        return pb.SegmentPortraitResponse(
            map=map_message(geometry.labels, request.format),
            confidence=grey_png(geometry.confidence),
            camera=message_from_camera(geometry.camera),
            portrait=picture_of(portrait) if portrait is not None and request.with_portrait else None,
            origin=geometry.origin,
            stage_timings=watch.timings,
        )

    def _embed(self, request: pb.EmbedStyleRequest, tenant: str, token: StopToken) -> pb.EmbedStyleResponse:
        stage, watch, terms = self._stage(), Stopwatch(), parse_style(request.style)
        style = self._embedder.mix(terms, tenant, stage, watch, token)
        count_stages(watch.timings)
        only = terms[0].message.picture if len(terms) == 1 else b""
        return pb.EmbedStyleResponse(
            embedding=embedding_message(style, stage.fingerprint, only),
            ignored_words=self._embedder.ignored(terms, stage),
            stage_timings=watch.timings,
        )


def picture_of(portrait: Portrait) -> picture_pb2.Picture:
    """The crop as a PNG file."""
    pixels = (portrait.image.clamp(0.0, 1.0) * 255.0 + 0.5).permute(1, 2, 0).contiguous().numpy().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return picture_pb2.Picture(
        data=buffer.getvalue(),
        format=picture_pb2.PICTURE_FORMAT_PNG,
        width_px=portrait.size,
        height_px=portrait.size,
        channel_count=3,
    )
