"""HeadService: decode the request, compute on workers, store, reply. Knows no runtime and no transport.

Methods take a CallContext and raise HeadliftError; turning these into a transport's statuses is the runtime's part.
"""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from headlift import codec
from headlift.backend.protocol import HeadRef, RenderedImages
from headlift.backend.workers import Workers
from headlift.gateway import exports, validation
from headlift.gateway.baking import Baking
from headlift.gateway.context import CallContext, check_alive
from headlift.gateway.creation import Creator
from headlift.gateway.live.service import Live, LiveContext
from headlift.gateway.paging import PageTokens
from headlift.gateway.pipeline import Pipeline
from headlift.gateway.render_options import (
    parse_camera_count,
    parse_orbit,
    parse_render_options,
    picture_message,
)
from headlift.gateway.renders import RenderCache
from headlift.media.pictures import RenderOptions
from headlift.model.types import Cameras
from headlift.store.heads import HeadName, HeadStore
from headlift.telemetry.metrics import metrics
from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import live_pb2


class HeadServicer:
    """The RPCs of headlift.v1.HeadService."""

    def __init__(
        self,
        pipeline: Pipeline,
        creator: Creator,
        heads: HeadStore,
        tokens: PageTokens,
        storing: Workers,
        renders: RenderCache | None = None,
        live: Live | None = None,
        baking: Baking | None = None,
    ) -> None:
        """``storing`` are the threads that wait for the store and pack files; without ``renders`` none are kept.

        Without ``live``, live sessions have the limits that ``Live`` has of its own.
        """
        self._renders = renders
        self.baking = baking or Baking(pipeline)
        self.live = live or Live(pipeline, creator, heads, tokens, storing)
        self._pipeline = pipeline
        self._creator = creator
        self._heads = heads
        self._tokens = tokens
        self._storing = storing

    async def CreateHead(self, request: pb.CreateHeadRequest, context: CallContext) -> pb.CreateHeadResponse:
        """See the contract."""
        check_alive(context)
        return pb.CreateHeadResponse(head=await self._creator.create(request))

    async def GetHead(self, request: pb.GetHeadRequest, context: CallContext) -> pb.GetHeadResponse:
        """See the contract."""
        check_alive(context)
        name = validation.parse_name(request.name)
        return pb.GetHeadResponse(head=await self._storing.run(lambda _: self._heads.get(name)))

    async def ListHeads(self, request: pb.ListHeadsRequest, context: CallContext) -> pb.ListHeadsResponse:
        """See the contract."""
        check_alive(context)
        tenant, size = validation.parse_parent(request.parent), validation.page_size(request.page_size)
        after = self._tokens.read(request.parent, request.page_token)
        # One more than the page holds tells whether there is another page.
        found = await self._storing.run(lambda _: self._heads.list(tenant, after=after, limit=size + 1))
        page, more = found[:size], len(found) > size
        last = validation.parse_name(page[-1].name).head if more else ""
        token = self._tokens.make(request.parent, last) if more else ""
        return pb.ListHeadsResponse(heads=page, next_page_token=token)

    async def DeleteHead(self, request: pb.DeleteHeadRequest, context: CallContext) -> pb.DeleteHeadResponse:
        """See the contract."""
        check_alive(context)
        name = validation.parse_name(request.name)
        await self._storing.run(lambda _: self._heads.delete(name))
        metrics().heads_deleted.inc()
        return pb.DeleteHeadResponse()

    async def RenderHead(self, request: pb.RenderHeadRequest, context: CallContext) -> pb.RenderHeadResponse:
        """See the contract."""
        check_alive(context)
        name = validation.parse_name(request.name)
        options = parse_render_options(request.picture, parse_camera_count(request))
        messages = request.cameras
        cameras = await self._storing.run(
            lambda _: codec.cameras_from_messages(messages, options.width, options.height)
        )
        images = await self._images(name, cameras, options)
        pictures = [picture_message(data, request.picture, options) for data in images.pictures]
        return pb.RenderHeadResponse(pictures=pictures, stage_timings=images.timings)

    async def RenderOrbit(
        self, request: pb.RenderOrbitRequest, context: CallContext
    ) -> AsyncIterator[pb.RenderOrbitResponse]:
        """See the contract."""
        check_alive(context)
        name, options = validation.parse_name(request.name), parse_render_options(request.picture, 1)
        yaws, shared = parse_orbit(request)
        cameras = codec.orbit(shared, options.width, options.height, yaws_deg=yaws)
        head = HeadRef.stored(self._heads, name)
        for i, yaw_deg in enumerate(yaws):
            check_alive(context)
            images = await self._pipeline.render(head, cameras[i], options)
            picture = picture_message(images.pictures[0], request.picture, options)
            yield pb.RenderOrbitResponse(picture=picture, frame_index=i, frame_count=len(yaws), yaw_deg=yaw_deg)

    async def ExportHead(
        self, request: pb.ExportHeadRequest, context: CallContext
    ) -> AsyncIterator[pb.ExportHeadResponse]:
        """See the contract."""
        check_alive(context)
        name = validation.parse_name(request.name)
        exports.check_format(request.format)
        wire: bytes | None = None
        if exports.parse_baking(request.sharpening):
            async with aclosing(self.baking.bake(HeadRef.stored(self._heads, name))) as shares:
                async for share in shares:
                    check_alive(context)
                    if isinstance(share, bytes):
                        wire = share
                    else:
                        yield pb.ExportHeadResponse(bake_progress=share)
        data = await self._storing.run(lambda _: exports.convert(wire or self._heads.packed(name), request.format))
        for chunk in exports.chunks(data, request.format):
            check_alive(context)
            yield chunk

    def Live(
        self, requests: AsyncIterator[live_pb2.LiveRequest], context: LiveContext
    ) -> AsyncIterator[live_pb2.LiveResponse]:
        """See the contract."""
        return self.live.answers(requests, context)

    async def _images(self, name: HeadName, cameras: Cameras, options: RenderOptions) -> RenderedImages:
        async def render() -> RenderedImages:
            return await self._pipeline.render(HeadRef.stored(self._heads, name), cameras, options)

        return await (self._renders.take(name, cameras, options, render) if self._renders else render())
