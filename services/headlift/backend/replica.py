"""What a replica does with a call: parse, compute on a thread, reply. Runs in any event loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import DecodeError, Message

from headlift.backend.calls import Reply, refusal, reply_of
from headlift.backend.local import LocalBackend, local_backend, network_files
from headlift.backend.workers import Workers
from headlift.errors import FormatError, HeadliftError, WeightsError
from headlift.settings import Settings
from headlift.stages.rpc import STAGE_RPCS
from headlift.stages.stop_token import DEADLINE, StopToken
from headlift.telemetry.metrics import metrics
from headlift.telemetry.tracing import extract, span

TOGETHER = ("encode", "sharpen")  # stages that answer several requests in one pass
_QUEUE = 1024  # Serve itself bounds what comes; what was cancelled may still be ending


@dataclass(frozen=True)
class _Loaded:
    """A network in memory; whoever computes holds on to the one it began with."""

    files: tuple[Path, Path | None]
    backend: LocalBackend


class StageReplica:
    """Some stages of one network, asked by bytes."""

    def __init__(self, stages: Sequence[str], settings: Settings, threads: int) -> None:
        """Load and warm up.

        Args:
            stages: Those that are answered here.
            settings: Which network, where, how.
            threads: Requests that compute at the same time.
        """
        self._settings, self._stages = settings, tuple(stages)
        self._loaded = self._load(settings)
        self._workers = Workers("stage", threads, _QUEUE)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known about the network: the fields of ``Network``, and ``device``."""
        return asdict(self._loaded.backend.network()) | {"device": str(self._loaded.backend.device)}

    def take_weights(self, weights: Path | None, backbone: Path | None = None) -> None:
        """Answer with these files from now on, None: with that of the settings; what computes ends with its own.

        Blocks while they are loaded and warmed up; the old ones answer meanwhile.

        Raises:
            WeightsError: They cannot be loaded, or are of a network that takes or gives other things.
        """
        settings = replace(
            self._settings,
            weights=weights or self._settings.weights,
            backbone_weights=backbone or self._settings.backbone_weights,
        )
        if network_files(settings) == self._loaded.files:
            return
        loaded = self._load(settings)
        new, old = loaded.backend.network(), self._loaded.backend.network()
        for name in ("config_name", "portrait_size", "sharpens"):
            if getattr(new, name) != getattr(old, name):
                raise WeightsError(
                    f"The new weights have {name} {getattr(new, name)!r} and the old {getattr(old, name)!r}; "
                    "a network of another form needs a deployment of its own."
                )
        self._loaded = loaded

    def _load(self, settings: Settings) -> _Loaded:
        backend = local_backend(settings, sharpens_renders="sharpen" in self._stages)
        backend.warm_up()
        return _Loaded(network_files(settings), backend)

    @property
    def busy(self) -> bool:
        """Whether anything computes or waits."""
        return self._workers.admitted > 0

    async def answer(self, stage: str, request: bytes, remaining_s: float | None, trace: str = "") -> Reply:
        """Compute one stage; cancelling the awaiting task stops the work. ``trace`` is the caller's traceparent."""
        DEADLINE.set(None if remaining_s is None else time.monotonic() + remaining_s)
        try:
            with extract(trace), span(f"replica {stage}"):
                return await self._workers.run(lambda token: self._reply(self._loaded, stage, request, token))
        except HeadliftError as error:  # refused before it began
            return refusal(error)

    async def answer_together(self, stage: str, requests: Sequence[bytes]) -> list[Reply]:
        """Compute one of TOGETHER for several requests in one pass; each is answered for itself."""
        DEADLINE.set(None)
        metrics().batch_size.observe(len(requests), stage=stage)
        try:
            return await self._workers.run(lambda token: self._replies(self._loaded, stage, requests, token))
        except HeadliftError as error:
            return [refusal(error)] * len(requests)

    def check_health(self) -> None:
        """Raise once the device does not compute any more, as after a fault of the GPU."""
        if int(torch.ones(2, device=self._loaded.backend.device).sum().item()) != 2:
            raise RuntimeError("the device computes nonsense")

    def _reply(self, loaded: _Loaded, stage: str, request: bytes, token: StopToken) -> Reply:
        def compute() -> Message:
            response: Message = getattr(loaded.backend.handlers, stage)(_parsed(stage, request), token)
            return response

        return reply_of(compute, loaded.backend.network().weights_hash)

    def _replies(self, loaded: _Loaded, stage: str, requests: Sequence[bytes], token: StopToken) -> list[Reply]:
        try:
            messages = [_parsed(stage, request) for request in requests]
            responses = loaded.backend.handlers.batched[stage](messages)
            return [reply_of(lambda r=r: r, loaded.backend.network().weights_hash) for r in responses]  # type: ignore[misc]
        except FormatError:  # of one of them: the others must not suffer
            return [self._reply(loaded, stage, request, token) for request in requests]


def _parsed(stage: str, request: bytes) -> Any:
    try:
        return STAGE_RPCS[stage].request.FromString(request)
    except DecodeError:
        raise FormatError(f"The request's {len(request)} bytes are not the message that {stage} takes.") from None
