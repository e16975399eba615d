"""Hearing how far a request is."""

from __future__ import annotations

import asyncio

from headlift.gateway import progress
from headlift.gateway.timing import Stopwatch
from headlift.gateway.workers import Workers


async def test_stages_on_other_threads_are_heard_by_the_listener_of_their_request_alone():
    workers, heard = Workers("test", 2, 8), {"a": [], "b": []}

    async def serve(request_id: str, stage: str) -> None:
        progress.follow(request_id)

        def job(_: object) -> None:
            with Stopwatch().timing(stage):
                progress.tell(stage, 0.5)

        await workers.run(job)

    with (
        progress.listening("a", lambda *told: heard["a"].append(told)),
        progress.listening("b", lambda *told: heard["b"].append(told)),
    ):
        await asyncio.gather(serve("a", "encode"), serve("b", "decode"), serve("", "pack"))
    await asyncio.create_task(serve("a", "late"))
    workers.close()
    assert heard == {"a": [("encode", 0.0), ("encode", 0.5)], "b": [("decode", 0.0), ("decode", 0.5)]}
