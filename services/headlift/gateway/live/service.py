"""The Live method: opens sessions, here or again, and keeps their number within limits."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from headlift.errors import DeadlineError, InvalidInputError
from headlift.gateway.context import CallContext, check_alive
from headlift.gateway.creation import Creator
from headlift.gateway.live.answering import Answerer
from headlift.gateway.live.observing import LiveObserver, Metered
from headlift.gateway.live.options import LiveLimits, Plan, parse_open
from headlift.gateway.live.places import Places
from headlift.gateway.live.resume import ResumeTokens
from headlift.gateway.live.session import LiveSession
from headlift.gateway.paging import PageTokens
from headlift.gateway.pipeline import Pipeline
from headlift.gateway.validation import parse_name, parse_parent
from headlift.gateway.workers import Workers
from headlift.store.heads import HeadStore
from headlift.v1 import head_pb2
from headlift.v1 import head_service_pb2 as service_pb
from headlift.v1 import live_pb2 as pb


class LiveContext(CallContext, Protocol):
    """A call that is told when its server is about to leave."""

    @property
    def draining(self) -> asyncio.Event:
        """Set once the server is about to leave."""
        ...


class Live:
    """Live sessions of one server; ``places`` knows how many there are."""

    def __init__(
        self,
        pipeline: Pipeline,
        creator: Creator,
        heads: HeadStore,
        tokens: PageTokens,
        storing: Workers,
        limits: LiveLimits | None = None,
        observer: LiveObserver | None = None,
    ) -> None:
        """``storing`` are the threads that wait for the store and pack."""
        self._pipeline, self._creator, self._heads, self._storing = pipeline, creator, heads, storing
        self._limits = limits or LiveLimits()
        self._observer: LiveObserver = observer or Metered()
        self._tokens = ResumeTokens(tokens, self._limits.resume_s)
        self.places = Places(self._limits)

    async def answers(
        self, requests: AsyncIterator[pb.LiveRequest], context: LiveContext
    ) -> AsyncGenerator[pb.LiveResponse, None]:
        """Answer one stream.

        Raises:
            HeadliftError: The session cannot be opened, or cannot go on.
        """
        check_alive(context)
        opening = await self._first(requests)
        with self.places.place(parse_parent(opening.parent)):
            self._observer.opened()
            try:
                async with aclosing(self._opened(opening, requests, context)) as messages:
                    async for message in messages:
                        yield message
            finally:
                self._observer.closed()

    async def _opened(
        self, opening: pb.LiveOpen, requests: AsyncIterator[pb.LiveRequest], context: LiveContext
    ) -> AsyncGenerator[pb.LiveResponse, None]:
        plan, session_id = self._plan(opening)
        if plan.options.WhichOneof("source") == "portrait":
            plan.options.head = await self._store(plan.options)
        answerer = Answerer(plan, self._pipeline, self._heads, self._storing)
        head = None if plan.from_frames else await answerer.load(parse_name(plan.options.head))

        def token() -> str:
            return self._tokens.make(session_id, plan.options)

        session = LiveSession(plan, answerer, self._limits, context.draining, token, self._observer)
        welcome = self._welcome(plan, session_id, token(), head)
        async with aclosing(session.run(welcome, requests)) as messages:
            async for message in messages:
                yield message

    async def _first(self, requests: AsyncIterator[pb.LiveRequest]) -> pb.LiveOpen:
        try:
            async with asyncio.timeout(self._limits.open_s):
                first = await anext(requests, None)
        except TimeoutError:
            raise DeadlineError(f"Nothing was said for {self._limits.open_s:g} s; send open at once.") from None
        if first is None or first.WhichOneof("message") != "open":
            raise InvalidInputError("The first message of a stream must be open.", reason="NOT_OPENED", field="message")
        return first.open

    def _plan(self, opening: pb.LiveOpen) -> tuple[Plan, str]:
        if not opening.resume_token:
            return parse_open(opening, self._limits), secrets.token_hex(8)
        again = pb.LiveOpen(
            parent=opening.parent, resume_token=opening.resume_token, initial_credit=opening.initial_credit
        )
        if again != opening:
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

    def _welcome(self, plan: Plan, session_id: str, token: str, head: head_pb2.Head | None) -> pb.LiveResponse:
        opened = pb.LiveOpened(
            session_id=session_id,
            resume_token=token,
            resume_seconds=int(self._limits.resume_s),
            options=plan.options,
            head=head,
            idle_seconds=int(self._limits.idle_s),
        )
        return pb.LiveResponse(opened=opened)
