"""The Live method: opens and resumes sessions, and bounds their number."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Protocol

from headlift.backend.workers import Workers
from headlift.errors import DeadlineError, InvalidInputError, OverloadedError
from headlift.gateway.context import CallContext, check_alive
from headlift.gateway.creation import Creator
from headlift.gateway.live.handler import InputHandler
from headlift.gateway.live.metrics import counted_session
from headlift.gateway.live.options import LiveLimits, SessionPlan, parse_open
from headlift.gateway.live.resume import ResumeTokens
from headlift.gateway.live.session import LiveSession
from headlift.gateway.paging import PageTokens
from headlift.gateway.pipeline import Pipeline
from headlift.gateway.validation import parse_name, parse_parent
from headlift.store.heads import HeadStore
from headlift.v1 import head_pb2
from headlift.v1 import head_service_pb2 as service_pb
from headlift.v1 import live_pb2 as pb

_RETRY_S = 5.0  # for callers without a slot; sessions last minutes


class LiveContext(CallContext, Protocol):
    """A call that knows when its server is about to shut down."""

    @property
    def draining(self) -> asyncio.Event:
        """Set once the server is about to shut down."""
        ...


class SessionSlots:
    """Bounds open sessions, per server and per tenant."""

    def __init__(self, limits: LiveLimits) -> None:
        self._limits = limits
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Open sessions."""
        return self._taken.total()

    @contextmanager
    def slot(self, tenant: str) -> Iterator[None]:
        """A slot for as long as the block lasts. OverloadedError: all are taken."""
        for count, limit, whose in (
            (self.taken, self._limits.sessions, "This server has"),
            (self._taken[tenant], self._limits.tenant_sessions, f"tenants/{tenant} has"),
        ):
            if count >= limit:
                raise OverloadedError(
                    f"{whose} {count} live sessions, which is the limit; end one, or try later.", retry_after_s=_RETRY_S
                )
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]


class Live:
    """Live sessions of one server, which take ``slots``."""

    def __init__(
        self,
        pipeline: Pipeline,
        creator: Creator,
        heads: HeadStore,
        tokens: PageTokens,
        storing: Workers,
        limits: LiveLimits | None = None,
    ) -> None:
        """``storing`` are the threads that read the store and pack."""
        self._pipeline, self._creator, self._heads, self._storing = pipeline, creator, heads, storing
        self._limits = limits or LiveLimits()
        self._tokens = ResumeTokens(tokens, self._limits.resume_s)
        self.slots = SessionSlots(self._limits)

    async def answers(
        self, requests: AsyncIterator[pb.LiveRequest], context: LiveContext
    ) -> AsyncGenerator[pb.LiveResponse, None]:
        """Answer one stream.

        Raises:
            HeadliftError: The session cannot be opened, or cannot go on.
        """
        check_alive(context)
        opening = await self._first(requests)
        with self.slots.slot(parse_parent(opening.parent)), counted_session():
            async with aclosing(self._opened(opening, requests, context)) as messages:
                async for message in messages:
                    yield message

    async def _opened(
        self, opening: pb.LiveOpen, requests: AsyncIterator[pb.LiveRequest], context: LiveContext
    ) -> AsyncGenerator[pb.LiveResponse, None]:
        plan, session_id = self._plan(opening)
        if plan.options.WhichOneof("source") == "portrait":
            plan.options.head = await self._store(plan.options)
        handler = InputHandler(plan, self._pipeline, self._heads, self._storing)
        head = None if plan.from_frames else await handler.load(parse_name(plan.options.head))

        def token() -> str:
            return self._tokens.make(session_id, plan.options)

        session = LiveSession(plan, handler, self._limits, context.draining, token)
        welcome = self._welcome(plan, session_id, token(), head)
        async with aclosing(session.run(welcome, requests)) as messages:
            async for message in messages:
                yield message

    async def _first(self, requests: AsyncIterator[pb.LiveRequest]) -> pb.LiveOpen:
        try:
            async with asyncio.timeout(self._limits.open_s):
                first = await anext(requests, None)
        except TimeoutError:
            raise DeadlineError(f"Nothing was sent for {self._limits.open_s:g} s; send open at once.") from None
        if first is None or first.WhichOneof("message") != "open":
            raise InvalidInputError("The first message of a stream must be open.", reason="NOT_OPENED", field="message")
        return first.open

    def _plan(self, opening: pb.LiveOpen) -> tuple[SessionPlan, str]:
        if not opening.resume_token:
            return parse_open(opening, self._limits), secrets.token_hex(8)
        resuming = pb.LiveOpen(
            parent=opening.parent, resume_token=opening.resume_token, initial_credit=opening.initial_credit
        )
        if resuming != opening:
            raise InvalidInputError(
                "A session that is resumed keeps its options; send parent, resume_token and initial_credit alone.",
                field="open.resume_token",
            )
        resumed = self._tokens.read(opening.parent, opening.resume_token)
        resumed.options.initial_credit = opening.initial_credit
        return parse_open(resumed.options, self._limits), resumed.session_id

    async def _store(self, options: pb.LiveOpen) -> str:
        """Make the portrait a stored head; its name."""
        request = service_pb.CreateHeadRequest(parent=options.parent, picture=options.portrait)
        return (await self._creator.create(request)).name

    def _welcome(self, plan: SessionPlan, session_id: str, token: str, head: head_pb2.Head | None) -> pb.LiveResponse:
        opened = pb.LiveOpened(
            session_id=session_id,
            resume_token=token,
            resume_seconds=int(self._limits.resume_s),
            options=plan.options,
            head=head,
            idle_seconds=int(self._limits.idle_s),
        )
        return pb.LiveResponse(opened=opened)
