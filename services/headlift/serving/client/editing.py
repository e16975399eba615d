"""EditService's methods of both clients; the same ones, awaited in one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from headlift.serving.client import edits as make
from headlift.serving.client.requests import HeadLike, head_name
from headlift.v1 import edit_pb2, edit_service_pb2_grpc
from headlift.v1 import edit_service_pb2 as pb


class BlockingEdits(ABC):
    """What HeadliftClient knows about editing."""

    tenant: str
    _edits: edit_service_pb2_grpc.EditServiceStub

    def segment(
        self, source: HeadLike | make.Picture, *, with_portrait: bool = False, timeout_s: float | None = None
    ) -> make.Segmented:
        """The map of a head (a Head or a name), or of a picture (a path or bytes)."""
        request = make.segmentation(self.tenant, source, with_portrait)
        answer: pb.SegmentPortraitResponse = self._call(self._edits.SegmentPortrait, request, timeout_s)
        return make.segmented(answer)

    def embed_style(self, style: edit_pb2.Style, *, timeout_s: float | None = None) -> edit_pb2.StyleEmbedding:
        """A look, embedded for use in edits; ``style`` of this package makes one of words, pictures and heads."""
        request = pb.EmbedStyleRequest(parent=f"tenants/{self.tenant}", style=style)
        answer: pb.EmbedStyleResponse = self._call(self._edits.EmbedStyle, request, timeout_s)
        return answer.embedding

    def edit(
        self,
        head: HeadLike | None = None,
        *,
        prompt: str | None = None,
        reference: make.Reference | None = None,
        mix: float = 0.5,
        style: edit_pb2.Style | None = None,
        map: make.Map | None = None,
        strokes: Sequence[edit_pb2.Stroke] | None = None,
        strength: float | None = None,
        keep_map: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> make.Edited:
        """A new head of a head, or, without one, of a map and a look.

        Args:
            head: To start from.
            prompt: Words about the look.
            reference: A picture (path or bytes), a Head or an embedding that has the look.
            mix: Share of the reference where both are given, 0..1.
            style: The look in full, in place of the three.
            map: uint8 [S, S] or a PNG file; 255 leaves a place as it is.
            strokes: Painted over the head's map, in place of ``map``.
            strength: How far to go from the head's look to the new one, 0..1.
            keep_map: Words change the look alone; else the length of hair, hats and glasses that they name are painted
                into the map.
            request_id: Names the request; a new one where it is None.
            timeout_s: Time that the call may take.
        """
        look = style if style is not None else make.mixed(prompt, reference, mix)
        request = make.edition(
            self.tenant, head, look=look, labels=map, strokes=strokes, strength=strength, keep_map=keep_map,
            request_id=request_id,
        )  # fmt: skip
        answer: pb.EditHeadResponse = self._call(self._edits.EditHead, request, timeout_s)
        return make.edited(answer)

    def edit_history(self, head: HeadLike, *, timeout_s: float | None = None) -> pb.GetEditHistoryResponse:
        """All edits between a head and its origin."""
        request = pb.GetEditHistoryRequest(head=head_name(self.tenant, head))
        answer: pb.GetEditHistoryResponse = self._call(self._edits.GetEditHistory, request, timeout_s)
        return answer

    def replay(
        self,
        source: HeadLike | Sequence[edit_pb2.Edit],
        targets: Sequence[HeadLike | make.Picture],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[make.Replayed]:
        """The edits of a head done to others (Heads or names) or to portraits (paths or bytes), as they are done."""
        request = make.replay(self.tenant, source, targets, request_id)
        for answer in self._stream(self._edits.ReplayEdits, request, timeout_s):
            yield make.replayed(answer)

    @abstractmethod
    def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        """Call, with retries."""

    @abstractmethod
    def _stream(self, method: Any, request: Any, timeout_s: float | None) -> Iterator[Any]:
        """Messages of a stream."""


class AsyncEdits(ABC):
    """What AsyncHeadliftClient knows about editing."""

    tenant: str
    _edits: edit_service_pb2_grpc.EditServiceStub

    async def segment(
        self, source: HeadLike | make.Picture, *, with_portrait: bool = False, timeout_s: float | None = None
    ) -> make.Segmented:
        """The map of a head (a Head or a name), or of a picture (a path or bytes)."""
        request = make.segmentation(self.tenant, source, with_portrait)
        answer: pb.SegmentPortraitResponse = await self._call(self._edits.SegmentPortrait, request, timeout_s)
        return make.segmented(answer)

    async def embed_style(self, style: edit_pb2.Style, *, timeout_s: float | None = None) -> edit_pb2.StyleEmbedding:
        """A look, embedded for use in edits; ``style`` of this package makes one of words, pictures and heads."""
        request = pb.EmbedStyleRequest(parent=f"tenants/{self.tenant}", style=style)
        answer: pb.EmbedStyleResponse = await self._call(self._edits.EmbedStyle, request, timeout_s)
        return answer.embedding

    async def edit(
        self,
        head: HeadLike | None = None,
        *,
        prompt: str | None = None,
        reference: make.Reference | None = None,
        mix: float = 0.5,
        style: edit_pb2.Style | None = None,
        map: make.Map | None = None,
        strokes: Sequence[edit_pb2.Stroke] | None = None,
        strength: float | None = None,
        keep_map: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> make.Edited:
        """A new head of a head, or, without one, of a map and a look; arguments as in the blocking client."""
        look = style if style is not None else make.mixed(prompt, reference, mix)
        request = make.edition(
            self.tenant, head, look=look, labels=map, strokes=strokes, strength=strength, keep_map=keep_map,
            request_id=request_id,
        )  # fmt: skip
        answer: pb.EditHeadResponse = await self._call(self._edits.EditHead, request, timeout_s)
        return make.edited(answer)

    async def edit_history(self, head: HeadLike, *, timeout_s: float | None = None) -> pb.GetEditHistoryResponse:
        """All edits between a head and its origin."""
        request = pb.GetEditHistoryRequest(head=head_name(self.tenant, head))
        answer: pb.GetEditHistoryResponse = await self._call(self._edits.GetEditHistory, request, timeout_s)
        return answer

    async def replay(
        self,
        source: HeadLike | Sequence[edit_pb2.Edit],
        targets: Sequence[HeadLike | make.Picture],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[make.Replayed]:
        """The edits of a head done to others (Heads or names) or to portraits (paths or bytes), as they are done."""
        request = make.replay(self.tenant, source, targets, request_id)
        async for answer in self._stream(self._edits.ReplayEdits, request, timeout_s):
            yield make.replayed(answer)

    @abstractmethod
    async def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        """Call, with retries."""

    @abstractmethod
    def _stream(self, method: Any, request: Any, timeout_s: float | None) -> AsyncIterator[Any]:
        """Messages of a stream."""
