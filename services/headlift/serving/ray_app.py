"""Ray Serve: the application, and calls into it. ``local_ray``, ``ray_metrics`` and ``batch.ray_data`` know Ray too.

A deployment is a StageReplica with some stages. Whoever holds the stores (the edge, see ``compose``) asks deployments
by handles, never through Serve's proxy. Every application needs one ingress: the first stage is it, and is given the
others so that they belong to the application.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import ray
from ray import exceptions, serve
from ray._private import auto_init_hook
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from headlift import __version__
from headlift.backend.calls import Reply, by_value, opened
from headlift.backend.network_watch import NetworkWatch
from headlift.backend.protocol import Network
from headlift.backend.remote import RemoteBackend, remote_handlers
from headlift.backend.replica import TOGETHER, StageReplica
from headlift.errors import (
    BackendUnavailableError,
    CancelledError,
    DeadlineError,
    OverloadedError,
    StageUnavailableError,
)
from headlift.serving.deployments import APP, TOPOLOGIES, AppConfig, options_of, parse_app, where
from headlift.serving.local_ray import local_ray, refused, stay_on_loopback, warn_if_open
from headlift.serving.ray_metrics import RayMetrics
from headlift.serving.telemetry import trace_replica
from headlift.settings import Settings, machine_places, no_telemetry
from headlift.stages.stop_token import StopToken
from headlift.telemetry.metrics import metrics
from headlift.telemetry.tracing import inject

_log = logging.getLogger(__name__)
_AWAY = (
    exceptions.RayActorError,
    exceptions.ActorUnavailableError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,
    exceptions.NodeDiedError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
_AWAY_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_GONE = (exceptions.TaskCancelledError, asyncio.CancelledError, concurrent.futures.CancelledError)
_QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
_DESCRIBE_S = 30.0
_OBJECT_STORE_BYTES = 512 << 20


class Replica(StageReplica):
    """A StageReplica as Serve wants it."""

    def __init__(self, stages: Sequence[str], settings: Mapping[str, Any], threads: int) -> None:
        """See StageReplica; ``settings`` are by field name."""
        settings = {**machine_places(), **settings}
        chosen = Settings.from_mapping(settings)
        if not chosen.threads:
            # Ray gives a fraction of a core one thread; what no file bounds may use all there are.
            cpus = _untyped(ray.get_runtime_context()).get_assigned_resources().get("CPU", 0.0)
            chosen = Settings.from_mapping({**settings, "threads": int(cpus) or len(os.sched_getaffinity(0))})
        stay_on_loopback()
        trace_replica(chosen)
        metrics().listeners.append(RayMetrics())
        super().__init__(stages, chosen, threads)
        self._batch_max = 1

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take ``batch_max`` (requests that are computed in one pass, 1: none), ``batch_wait_s`` and new weights.

        ``weights`` and ``backbone_weights`` replace those of the settings; each is a file that every node has. Serve
        hands a change to running replicas, a few at a time: each goes on answering with the old ones until the new
        ones are warm.
        """
        files = (user_config.get(name) for name in ("weights", "backbone_weights"))
        await asyncio.to_thread(self.take_weights, *(Path(file) if file else None for file in files))
        self._batch_max = int(user_config.get("batch_max", 1))
        if self._batch_max > 1:
            self._batched.set_max_batch_size(self._batch_max)  # type: ignore[attr-defined]
            self._batched.set_batch_wait_timeout_s(float(user_config.get("batch_wait_s", 0.005)))  # type: ignore[attr-defined]

    async def ask(self, stage: str, request: bytes, remaining_s: float | None, trace: str = "") -> Reply:
        """Compute one stage, with others of its kind where that was configured; ``trace`` as in ``answer``."""
        if self._batch_max > 1 and stage in TOGETHER:
            reply: Reply = await self._batched((stage, request))
            return reply
        return await self.answer(stage, request, remaining_s, trace)

    async def describe(self) -> dict[str, Any]:
        """See StageReplica.facts."""
        return self.facts

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def _batched(self, items: list[tuple[str, bytes]]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        for stage in {stage for stage, _ in items}:
            rows = [i for i, item in enumerate(items) if item[0] == stage]
            replies.update(zip(rows, await self.answer_together(stage, [items[i][1] for i in rows]), strict=True))
        return [replies[i] for i in range(len(items))]


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application, for Serve's configuration files: ``args`` are ``topology`` and ``settings``.

    Raises:
        InvalidInputError: An argument is unknown or out of range.
    """
    return application(parse_app(args))


def application(config: AppConfig) -> serve.Application:
    """The application that a file describes, its changes to deployments applied."""
    Settings.from_mapping(config.settings)  # refuses here what would fail in every replica
    bound: list[serve.Application] = []
    for name, stages in reversed(TOPOLOGIES[config.topology].items()):
        options = options_of(config.topology, name) | dict(config.deployments.get(name, {}))
        if "autoscaling_config" in options:
            options.pop("num_replicas")
        if router := options.pop("request_router_config", None):
            options["request_router_config"] = RequestRouterConfig(**router)
        threads = int(options["max_ongoing_requests"])
        is_ingress = len(bound) == len(TOPOLOGIES[config.topology]) - 1
        kind = Ingress if is_ingress else Replica
        deployment = _untyped(serve.deployment)(kind, name=name, logging_config=_QUIET, **options)
        # Without a version each deployment of the application would restart every replica, whatever had changed.
        deployment = deployment.options(version=_version(stages, config, threads), _internal=True)
        others = (list(bound),) if is_ingress else ()
        bound.append(deployment.bind(stages, dict(config.settings), threads, *others))
    return bound[-1]


def _version(stages: Sequence[str], config: AppConfig, threads: int) -> str:
    """Changes when a replica must be started anew."""
    text = json.dumps([__version__, stages, dict(config.settings), threads], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Ingress(Replica):
    """The first stage."""

    def __init__(self, stages: Sequence[str], settings: Mapping[str, Any], threads: int, others: Any) -> None:
        """See Replica; ``others`` are not used."""
        super().__init__(stages, settings, threads)


class HandleCall:
    """A StageCall over a deployment's handle."""

    def __init__(self, handle: DeploymentHandle[Any], stage: str, on_weights: Callable[[str], None]) -> None:
        """``on_weights`` is told the weights of every reply."""
        self._stage, self._on_weights = stage, on_weights
        ask = handle.options(method_name="ask")
        self._ways = {True: ask.options(_by_reference=False), False: ask.options(_by_reference=True)}

    def __call__(self, request: bytes, token: StopToken, *, answer_bytes: int = 0, key: str = "") -> bytes:
        """See StageCall. Stages keep nothing, so what died with its replica is asked once more."""
        handle = self._ways[by_value(len(request), answer_bytes)]
        if key:
            handle = handle.options(session_id=key)
        try:
            return self._ask(handle, request, token)
        except StageUnavailableError:
            _log.warning("a replica of %s went away; asking again", self._stage)
            metrics().replica_retries.inc(stage=self._stage)
            return self._ask(handle, request, token)

    def _ask(self, handle: DeploymentHandle[Any], request: bytes, token: StopToken) -> bytes:
        token.check()
        remaining_s = token.remaining_s()
        response = _untyped(handle).remote(self._stage, request, remaining_s, inject())
        try:
            with token.stopping(lambda: _cancel(response)):
                reply: Reply = response.result(timeout_s=remaining_s)
            self._on_weights(reply[2])
            return opened(reply)
        except TimeoutError:
            _cancel(response)
            raise DeadlineError("The time for this request is over; allow more, or ask for less.") from None
        except _GONE:
            raise CancelledError("The caller went away; the work was stopped.") from None
        except BackPressureError as error:
            raise OverloadedError(
                f"Every replica of {self._stage} is busy, and enough requests wait already; try later.",
                retry_after_s=error.retry_after_s or 1.0,
            ) from None
        except (*_AWAY, grpc.RpcError) as error:
            if isinstance(error, grpc.aio.AioRpcError) and error.code() not in _AWAY_CODES:
                raise
            # The words of Ray name hosts and processes: they stay in Ray's own log.
            _log.warning("%s: %s", self._stage, type(error).__name__)
            raise StageUnavailableError(
                f"Whoever computed {self._stage} went away; nothing was stored, ask again.",
                metadata={"stage": self._stage},
            ) from None


def _cancel(response: Any) -> None:
    """Stop a call; one that was refused meanwhile raises its refusal here too, which whoever waits for it has seen."""
    with suppress(Exception):
        response.cancel()


@contextmanager
def connected(address: str, node_ip: str = "") -> Iterator[None]:
    """A connection to a Ray cluster, or, without an address, to one of this machine alone that ends with the block.

    ``node_ip`` is this machine's address in the cluster. With a wrong guess of it no handle ever hears of replicas.
    What is started here listens on loopback only and asks for a token; see ``local_ray``.
    """
    no_telemetry()
    # Threads that still ask when this connection has ended would start a Ray of their own with that.
    auto_init_hook.enable_auto_connect = False
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        with local_ray(_OBJECT_STORE_BYTES, quiet):
            yield
        return
    own: dict[str, Any] = {"_node_ip_address": node_ip} if node_ip else {}
    ray.init(address=address, namespace="serve", **own, **quiet)
    warn_if_open(address)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def deployed(config: AppConfig, name: str = APP) -> Iterator[RemoteBackend]:
    """The application runs, in a Ray of this process's own, which ends it: see ``connected``.

    Deleting it first would ask Ray's processes, which may have been told to end as this one was: who asks a Ray that
    ends waits for a minute, and is then ended by it with 1.

    Raises:
        BackendUnavailableError: Not every deployment became ready.
    """
    serve.start(proxy_location="Disabled", logging_config=_QUIET)
    try:
        serve.run(application(config), name=name, route_prefix=None)
    except RuntimeError as error:
        _log.error("%s", error)
        raise BackendUnavailableError("The deployments did not become ready; the log says which, and why.") from None
    yield ray_backend(config.topology, name)


def ray_backend(topology: str, name: str = APP) -> RemoteBackend:
    """The stages of an application that runs.

    Raises:
        BackendUnavailableError: There is none of this name.
    """
    places = where(topology)
    try:
        handles = {d: _handle(d, name) for d in TOPOLOGIES[topology]}
        facts = _described(handles[places["decode"]])
    except (*_AWAY, KeyError, TimeoutError, serve.exceptions.RayServeException):
        raise BackendUnavailableError(
            f"No application {name!r} of the topology {topology} answers in this Ray cluster; deploy it first."
        ) from None
    device = facts.pop("device")
    network = Network(**facts)

    def ask() -> list[Network]:
        try:
            return [Network(**{k: v for k, v in _described(h).items() if k != "device"}) for h in handles.values()]
        except (*_AWAY, TimeoutError):
            raise StageUnavailableError("A replica that was asked for its weights went away.") from None

    watch = NetworkWatch(network, ask)
    return RemoteBackend(
        remote_handlers({stage: HandleCall(handles[d], stage, watch.report_weights) for stage, d in places.items()}),
        watch,
        about=f"{network.config_name} ({network.weights_hash[:12]}) on {device}, ray {topology}",
        split_reconstruct=places["encode"] != places["decode"],
        split_render=places["render"] != places["sharpen"],
        lost=_raylet_gone(),
    )


def _handle(deployment: str, app: str) -> DeploymentHandle[Any]:
    """A handle for threads; with RAY_SERVE_THROUGHPUT_OPTIMIZED Serve's own would work in an event loop only."""
    handle = serve.get_deployment_handle(deployment, app_name=app)
    _untyped(handle)._init(_run_router_in_separate_loop=True)
    return handle


def _raylet_gone() -> Callable[[], bool]:
    """Whether the raylet that this process joined the cluster through has ended; Ray itself never says.

    It is asked at its own port, because the cluster's memory may be away and come back.
    """
    here = ray.get_runtime_context().get_node_id()
    raylets = {
        n["NodeID"]: (str(n["NodeManagerAddress"]), int(n["NodeManagerPort"]))
        for n in _untyped(ray).nodes()
        if n["Alive"]
    }
    if here not in raylets:  # a client of Ray, whose own connection tells
        return lambda: False
    return lambda: refused(raylets[here])


def _described(handle: DeploymentHandle[Any]) -> dict[str, Any]:
    facts: dict[str, Any] = handle.describe.remote().result(timeout_s=_DESCRIBE_S)
    return facts


def replica_pids(name: str = APP) -> dict[str, list[int]]:
    """Process ids of the running replicas of each deployment, on all nodes."""
    from ray.serve.context import _get_global_client

    details = _untyped(_get_global_client()).get_serve_details()["applications"].get(name, {}).get("deployments", {})
    return {
        d: [r["pid"] for r in one["replicas"] if r["state"] == "RUNNING" and r["pid"] is not None]
        for d, one in details.items()
    }


def _untyped(thing: Any) -> Any:
    """Ray describes parts of its interface to type checkers in part, or otherwise than they are."""
    return thing
