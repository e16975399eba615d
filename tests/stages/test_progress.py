"""Progress of requests."""

from __future__ import annotations

import asyncio

from headlift.backend.workers import Workers
from headlift.stages import progress
from headlift.stages.clock import Stopwatch


async def test_stages_on_other_threads_reach_the_listener_of_their_request_alone():
    workers, reports = Workers("test", 2, 8), {"a": [], "b": []}

    async def serve(request_id: str, stage: str) -> None:
        progress.bind(request_id)

        def job(_: object) -> None:
            with Stopwatch().timing(stage):
                progress.report(stage, 0.5)

        await workers.run(job)

    with (
        progress.listening("a", lambda *report: reports["a"].append(report)),
        progress.listening("b", lambda *report: reports["b"].append(report)),
    ):
        await asyncio.gather(serve("a", "encode"), serve("b", "decode"), serve("", "pack"))
    await asyncio.create_task(serve("a", "late"))
    workers.close()
    assert reports == {"a": [("encode", 0.0), ("encode", 0.5)], "b": [("decode", 0.0), ("decode", 0.5)]}
