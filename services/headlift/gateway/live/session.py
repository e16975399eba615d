"""One live session: three tasks around a slot for the latest input and a send buffer.

The reader puts input into the slot. The worker answers the latest of it as soon as the caller has credit left and has
read the answer before. The watcher ends the session when the caller is idle or the server shuts down. Nothing queues:
a caller that stalls holds one frame, one viewpoint and one answer in memory, and one that sends faster than the server
computes gets reports of what was dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from headlift.errors import DeadlineError, HeadliftError, InvalidInputError
from headlift.gateway.live.flow_control import FlowControl, Pacer
from headlift.gateway.live.handler import HeadGoneError, InputHandler, NoHeadError
from headlift.gateway.live.latest_slot import LatestSlot, PendingInput
from headlift.gateway.live.metrics import count_sent
from headlift.gateway.live.options import LiveLimits, SessionPlan, check_frame
from headlift.gateway.live.packing import TooLargeError
from headlift.gateway.live.send_buffer import SendBuffer
from headlift.v1 import live_pb2 as pb


class LiveSession:
    """A session that has been opened; ``run`` once."""

    def __init__(
        self,
        plan: SessionPlan,
        handler: InputHandler,
        limits: LiveLimits,
        draining: asyncio.Event,
        token: Callable[[], str],
    ) -> None:
        """``token`` makes a resume token that is valid from now."""
        self._plan, self._handler, self._limits, self._token = plan, handler, limits, token
        self._draining = draining
        self._wake = asyncio.Event()  # set on whatever the worker may wait for
        self._latest = LatestSlot()
        self._send_buffer = SendBuffer(self._latest, self._wake.set)
        self._flow = FlowControl(plan.options.initial_credit)
        self._pacer = Pacer(plan.options.budget.max_fps)
        self._keyframe = True  # whether the next answers are
        self._repeat = plan.heads and not plan.from_frames  # a stored head is sent unasked
        self._closing = False
        self._last_received = time.monotonic()
        self._failure: BaseException | None = None

    async def run(
        self, welcome: pb.LiveResponse, requests: AsyncIterator[pb.LiveRequest]
    ) -> AsyncGenerator[pb.LiveResponse, None]:
        """Every response, ``welcome`` first, until the session ends; ``requests`` begin after open.

        Raises:
            HeadliftError: The head was deleted, or a request cannot be read.
        """
        loops = (self._read(requests), self._work(), self._watch())
        tasks = [asyncio.create_task(self._supervise(loop)) for loop in loops]
        try:
            yield welcome
            while (message := await self._send_buffer.read()) is not None:
                yield message
            if self._failure is not None:
                raise self._failure
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, loop: Coroutine[Any, Any, None]) -> None:
        """Run a task; an error ends the session."""
        try:
            await loop
        except HeadGoneError as gone:
            self._fail(gone.error)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._send_buffer.end()

    async def _read(self, requests: AsyncIterator[pb.LiveRequest]) -> None:
        async for request in requests:
            self._last_received = time.monotonic()
            self._receive(request)
            self._wake.set()
            if self._closing:
                break
        self._close()

    def _close(self) -> None:
        self._closing = True
        self._wake.set()

    def _receive(self, request: pb.LiveRequest) -> None:
        """Dispatch a request, or answer with an error."""
        sequence = 0
        try:
            match request.WhichOneof("message"):
                case "frame":
                    self._latest.check_sequence(request.frame.sequence)
                    sequence = request.frame.sequence
                    self._put(self._frame(request.frame))
                case "viewpoint":
                    self._latest.check_sequence(request.viewpoint.sequence)
                    sequence = request.viewpoint.sequence
                    self._put(self._viewpoint(request.viewpoint))
                case "credit":
                    self._flow.grant(request.credit.count)
                case "keyframe":
                    self._keyframe = self._repeat = True
                case "close":
                    self._close()
                case "open":
                    raise InvalidInputError("The session is open; open another stream.", reason="ALREADY_OPEN")
                case _:
                    raise InvalidInputError("The message is empty, or of a kind that this server does not know.")
        except HeadliftError as error:
            self._send_buffer.refuse(sequence, error)

    def _put(self, pending: PendingInput) -> None:
        self._latest.put(pending)
        self._send_buffer.notify()

    def _frame(self, frame: pb.LiveFrame) -> PendingInput:
        if not self._plan.from_frames:
            raise InvalidInputError(
                "This session renders one head; open one whose source is frames.", reason="NO_FRAMES", field="frame"
            )
        check_frame(frame, self._limits)
        return PendingInput("frame", frame.sequence, frame.timestamp_us, picture=frame.picture)

    def _viewpoint(self, viewpoint: pb.LiveViewpoint) -> PendingInput:
        if not self._plan.views:
            raise InvalidInputError(
                "This session answers heads alone; open one with views.", reason="NO_VIEWS", field="viewpoint"
            )
        return PendingInput("viewpoint", viewpoint.sequence, viewpoint.timestamp_us, camera=viewpoint.camera)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            due = (self._repeat or len(self._latest) > 0) and self._flow.credits >= self._plan.answers_max
            if due and self._send_buffer.free:
                await self._pacer.wait()
                await self._answer(self._latest.take())
            elif self._closing and not due:
                break
            else:
                await self._wake.wait()
        self._latest.close()
        self._send_buffer.end()

    async def _answer(self, pending: PendingInput | None) -> None:
        """Answer an input, or repeat the latest answer; report an error or a drop where that fails."""
        deadline_s = self._plan.options.budget.deadline_ms / 1e3
        left_s = deadline_s - pending.age_s if deadline_s and pending is not None else self._limits.answer_s
        keyframe, repeat = self._keyframe, self._repeat
        self._keyframe = self._repeat = False  # now, so that requests during the work count for the next answer
        try:
            async with asyncio.timeout(left_s):
                answer = await (
                    self._handler.handle(pending, repeat) if pending is not None else self._handler.repeat()
                )
            if answer is None:
                return
            messages = await self._handler.pack(answer, pending, keyframe)
        except TimeoutError:
            if deadline_s and pending is not None:
                self._drop(pb.LIVE_DROP_REASON_DEADLINE, pending)
            else:
                late = DeadlineError(f"No answer was made within {left_s:g} s; ask for less.")
                self._send_buffer.refuse(pending.sequence if pending else 0, late)
        except NoHeadError:
            self._drop(pb.LIVE_DROP_REASON_NO_HEAD, pending)
        except TooLargeError:
            self._drop(pb.LIVE_DROP_REASON_TOO_LARGE, pending)
        except HeadliftError as error:
            self._send_buffer.refuse(pending.sequence if pending else 0, error)
        else:
            self._send(messages)
            return
        # What was asked for is still due; but a repeated answer that failed is not tried again by itself.
        self._keyframe = self._keyframe or keyframe
        self._repeat = self._repeat or (repeat and pending is not None)

    def _send(self, answers: list[pb.LiveResponse]) -> None:
        self._flow.spend(len(answers))
        self._pacer.answered()
        first = answers[0]
        getattr(first, first.WhichOneof("message") or "view").dropped_count = self._latest.dropped_since_answer()
        for answer in answers:
            count_sent(answer)
        self._send_buffer.put(answers)

    def _drop(self, reason: pb.LiveDropReason.ValueType, pending: PendingInput | None) -> None:
        if pending is not None:
            self._latest.drop(reason, [pending.sequence])
            self._send_buffer.notify()

    async def _watch(self) -> None:
        """Send go_away when the server shuts down or the caller is idle; serve for the grace period, then end."""
        reason = pb.LIVE_GO_AWAY_REASON_DRAINING
        while not self._draining.is_set():
            left_s = self._limits.idle_s - (time.monotonic() - self._last_received)
            if left_s <= 0:
                reason = pb.LIVE_GO_AWAY_REASON_IDLE
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._draining.wait()
        grace_s = self._limits.grace_s
        self._send_buffer.go_away(pb.LiveGoAway(reason=reason, resume_token=self._token(), grace_ms=int(grace_s * 1e3)))
        await asyncio.sleep(grace_s)
        self._latest.close()
        self._send_buffer.end()
