"""One live session: three tasks around a mailbox of one and an outbox of one.

The reader puts what comes into the mailbox, the worker answers the newest of it whenever the caller allows and has
read the answer before, the watch says goodbye. Nothing queues: a caller who stalls holds one frame, one viewpoint and
one answer in memory, and whoever sends faster than is computed hears what was dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from headlift.errors import DeadlineError, HeadliftError, InvalidInputError
from headlift.gateway.live.answering import Answerer, HeadGoneError, NoHeadError
from headlift.gateway.live.credits import Credits, Pace
from headlift.gateway.live.mailbox import Letter, Mailbox
from headlift.gateway.live.observing import LiveObserver
from headlift.gateway.live.options import LiveLimits, Plan, check_frame
from headlift.gateway.live.outbox import Outbox
from headlift.gateway.live.packing import TooLargeError
from headlift.v1 import live_pb2 as pb


class LiveSession:
    """A session that has been opened; ``run`` once."""

    def __init__(
        self,
        plan: Plan,
        answerer: Answerer,
        limits: LiveLimits,
        draining: asyncio.Event,
        token: Callable[[], str],
        observer: LiveObserver,
    ) -> None:
        """``token`` makes a resume token that is valid from now."""
        self._plan, self._answerer, self._limits, self._token = plan, answerer, limits, token
        self._draining, self._observer = draining, observer
        self._wake = asyncio.Event()  # anything happened that the worker may have waited for
        self._mailbox = Mailbox(observer.dropped)
        self._outbox = Outbox(self._mailbox, self._wake.set)
        self._credits = Credits(plan.options.initial_credit)
        self._pace = Pace(plan.options.budget.max_fps)
        self._keyframe = True  # the first answers are
        self._again = plan.heads and not plan.from_frames  # a head that is there is sent unasked
        self._closing = False
        self._heard = time.monotonic()
        self._failure: BaseException | None = None

    async def run(
        self, welcome: pb.LiveResponse, requests: AsyncIterator[pb.LiveRequest]
    ) -> AsyncGenerator[pb.LiveResponse, None]:
        """What the server says, ``welcome`` first, until the session ends; ``requests`` begin behind open.

        Raises:
            HeadliftError: The head was deleted, or a request cannot be read.
        """
        works = (self._read(requests), self._work(), self._watch())
        tasks = [asyncio.create_task(self._watched(work)) for work in works]
        try:
            yield welcome
            while (message := await self._outbox.read()) is not None:
                yield message
            if self._failure is not None:
                raise self._failure
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a task's work; whatever goes wrong with it ends the session."""
        try:
            await work
        except HeadGoneError as gone:
            self._fail(gone.error)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._outbox.end()

    async def _read(self, requests: AsyncIterator[pb.LiveRequest]) -> None:
        async for request in requests:
            self._heard = time.monotonic()
            self._take(request)
            self._wake.set()
            if self._closing:
                break
        self._close()

    def _close(self) -> None:
        self._closing = True
        self._wake.set()

    def _take(self, request: pb.LiveRequest) -> None:
        """Put a request where it belongs, or say what is wrong with it."""
        sequence = 0
        try:
            match request.WhichOneof("message"):
                case "frame":
                    self._mailbox.number(request.frame.sequence)
                    sequence = request.frame.sequence
                    self._put(self._frame(request.frame))
                case "viewpoint":
                    self._mailbox.number(request.viewpoint.sequence)
                    sequence = request.viewpoint.sequence
                    self._put(self._viewpoint(request.viewpoint))
                case "credit":
                    self._credits.add(request.credit.count)
                case "keyframe":
                    self._keyframe = self._again = True
                case "close":
                    self._close()
                case "open":
                    raise InvalidInputError("The session is open; open another stream.", reason="ALREADY_OPEN")
                case _:
                    raise InvalidInputError("The message is empty, or of a kind that this server does not know.")
        except HeadliftError as error:
            self._outbox.refuse(sequence, error)

    def _put(self, letter: Letter) -> None:
        self._mailbox.put(letter)
        self._outbox.notice()

    def _frame(self, frame: pb.LiveFrame) -> Letter:
        if not self._plan.from_frames:
            raise InvalidInputError(
                "This session looks at one head; open one whose source is frames.", reason="NO_FRAMES", field="frame"
            )
        check_frame(frame, self._limits)
        return Letter("frame", frame.sequence, frame.timestamp_us, picture=frame.picture)

    def _viewpoint(self, viewpoint: pb.LiveViewpoint) -> Letter:
        if not self._plan.views:
            raise InvalidInputError(
                "This session answers heads alone; open one with views.", reason="NO_VIEWS", field="viewpoint"
            )
        return Letter("viewpoint", viewpoint.sequence, viewpoint.timestamp_us, camera=viewpoint.camera)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            due = (self._again or len(self._mailbox) > 0) and self._credits.left >= self._plan.answers_max
            if due and self._outbox.free:
                await self._pace.wait()
                await self._answer(self._mailbox.take())
            elif self._closing and not due:
                break
            else:
                await self._wake.wait()
        self._mailbox.empty()
        self._outbox.end()

    async def _answer(self, letter: Letter | None) -> None:
        """Answer a letter, or the last one again; if not in time, or not at all, say so."""
        deadline_s = self._plan.options.budget.deadline_ms / 1e3
        left_s = deadline_s - letter.age_s if deadline_s and letter is not None else self._limits.answer_s
        keyframe, again = self._keyframe, self._again
        self._keyframe = self._again = False  # now, so that requests during the work count for the next answer
        try:
            async with asyncio.timeout(left_s):
                made = await (self._answerer.make(letter, again) if letter is not None else self._answerer.again())
            if made is None:
                return
            answers = await self._answerer.pack(made, letter, keyframe)
        except TimeoutError:
            if deadline_s and letter is not None:
                self._lose(pb.LIVE_DROP_REASON_DEADLINE, letter)
            else:
                late = DeadlineError(f"No answer was made within {left_s:g} s; ask for less.")
                self._outbox.refuse(letter.sequence if letter else 0, late)
        except NoHeadError:
            self._lose(pb.LIVE_DROP_REASON_NO_HEAD, letter)
        except TooLargeError:
            self._lose(pb.LIVE_DROP_REASON_TOO_LARGE, letter)
        except HeadliftError as error:
            self._outbox.refuse(letter.sequence if letter else 0, error)
        else:
            self._send(answers)
            return
        # What was asked for is still due; but by itself, without a letter, one try is enough.
        self._keyframe = self._keyframe or keyframe
        self._again = self._again or (again and letter is not None)

    def _send(self, answers: list[pb.LiveResponse]) -> None:
        self._credits.spend(len(answers))
        self._pace.made()
        first = answers[0]
        getattr(first, first.WhichOneof("message") or "view").dropped_count = self._mailbox.lost_since_answer()
        for answer in answers:
            self._observer.sent(answer)
        self._outbox.put(answers)

    def _lose(self, reason: pb.LiveDropReason.ValueType, letter: Letter | None) -> None:
        if letter is not None:
            self._mailbox.lose(reason, [letter.sequence])
            self._outbox.notice()

    async def _watch(self) -> None:
        """Say goodbye when the server leaves or the caller has fallen silent; then serve for the grace, and end."""
        reason = pb.LIVE_GO_AWAY_REASON_DRAINING
        while not self._draining.is_set():
            left_s = self._limits.idle_s - (time.monotonic() - self._heard)
            if left_s <= 0:
                reason = pb.LIVE_GO_AWAY_REASON_IDLE
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._draining.wait()
        grace_s = self._limits.grace_s
        self._outbox.go_away(pb.LiveGoAway(reason=reason, resume_token=self._token(), grace_ms=int(grace_s * 1e3)))
        await asyncio.sleep(grace_s)
        self._mailbox.empty()
        self._outbox.end()
