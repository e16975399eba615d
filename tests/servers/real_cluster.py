"""Fixtures: a Ray cluster of several nodes on this machine, as a RayService makes it of pods.

The head holds no replica and keeps its memory in a real Redis; two workers do the work; the application comes in
through the dashboard, as KubeRay hands it in; the edge is ``headlift serve`` in a process of its own. The test process
is in no cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from headlift.settings import child_environment, no_telemetry

_ANSWER_S = 30
_READY_S = 180.0
_LISTENING_PORTS = (20_000, 32_000)  # below what Linux gives to outgoing connections
_WITHOUT_MEMORY_S = 600  # as KubeRay gives workers; after Ray's own minute a busy machine would have lost its cluster


class RealCluster:
    """A head and two workers of one core each."""

    def __init__(self, redis_address: str, redis_password: str) -> None:
        no_telemetry()
        from ray.cluster_utils import Cluster

        os.environ["RAY_REDIS_ADDRESS"] = redis_address
        self._ports = [_free_port() for _ in range(3)]
        try:
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "gcs_server_port": self._ports[0],
                    "dashboard_port": self._ports[1],
                    "dashboard_agent_listen_port": self._ports[2],
                    "include_dashboard": True,
                    "redis_password": redis_password,
                    "_system_config": {
                        "worker_niceness": 0,
                        "gcs_rpc_server_reconnect_timeout_s": _WITHOUT_MEMORY_S,
                    },
                },
            )
        finally:
            del os.environ["RAY_REDIS_ADDRESS"]
        for _ in range(2):
            self.add_worker()

    @property
    def address(self) -> str:
        """Of the head, HOST:PORT."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def workers(self) -> dict[str, Any]:
        """The workers by node id."""
        return {node.node_id: node for node in self._cluster.worker_nodes}

    def add_worker(self) -> None:
        """One more."""
        self._cluster.add_node(num_cpus=1, object_store_memory=150 << 20)

    def worker_of(self, pid: int) -> str:
        """Node id of the worker that a process of Ray runs on."""
        raylet = int(psutil.Process(pid).environ()["RAY_RAYLET_PID"])
        of = {node.all_processes["raylet"][0].process.pid: name for name, node in self.workers.items()}
        return of[raylet]

    def kill_worker(self, node_id: str) -> None:
        """End a worker's processes at once, replicas and all, as when a machine loses its power."""
        self._cluster.remove_node(self.workers[node_id], allow_graceful=False)

    def kill_edge_node(self) -> None:
        """End the node that edges join through: the head's, as it was the first. The cluster is of no use after it."""
        self._cluster.head_node.kill_raylet()

    def restart_memory(self, pause_s: float) -> None:
        """Kill what holds the cluster's memory, and start it again after a while: it reads Redis.

        One that ends before it answers is started again, as whatever keeps a head's container running would do.
        """
        head = self._cluster.head_node
        head.kill_gcs_server()
        time.sleep(pause_s)
        head.start_gcs_server()
        begin = time.monotonic()
        while not _listens(self._ports[0]):
            if time.monotonic() - begin > _READY_S:
                raise RuntimeError("The cluster's memory does not come back.")
            if "gcs_server" not in dict(head.live_processes()):
                head.kill_gcs_server(check_alive=False)
                head.start_gcs_server()
            time.sleep(0.2)

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Hand in a configuration of Ray Serve."""
        self._ask("PUT", json.dumps(config).encode())

    def status(self) -> str:
        """Of the application; empty where there is none, or nobody answers."""
        return str(self._application().get("status", ""))

    def replicas(self) -> dict[str, list[str]]:
        """Node ids of every deployment's running replicas; empty where nobody answers."""
        deployments = self._application().get("deployments", {})
        return {
            name: [r["node_id"] for r in one["replicas"] if r["state"] == "RUNNING"]
            for name, one in deployments.items()
        }

    def close(self) -> None:
        """End everything."""
        self._cluster.shutdown()

    def _application(self) -> dict[str, Any]:
        # While the cluster's memory is away the dashboard answers 500, or not at all.
        try:
            application: dict[str, Any] = self._ask("GET")["applications"].get("headlift", {})
        except (OSError, ValueError, RuntimeError):
            return {}
        return application

    def _ask(self, method: str, data: bytes | None = None) -> Any:
        from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

        request = urllib.request.Request(
            f"http://127.0.0.1:{self._ports[1]}/api/serve/applications/",
            data=data,
            method=method,
            # A token is asked for as soon as this user has started any Ray of its own.
            headers=get_auth_headers_if_auth_enabled({}) | {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(error.read().decode()[:2000]) from None


class RealEdge:
    """``headlift serve`` before a cluster; ``address`` once it serves."""

    def __init__(self, cluster: RealCluster, folder: Path) -> None:
        environ = child_environment(
            port="0", data_dir=str(folder), cache_stages="no", runtime="ray", ray_address=cluster.address
        )
        command = [sys.executable, "-m", "headlift.cli", "serve", "--json"]
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=self._log, text=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.close()
            raise RuntimeError((folder / "log").read_text()[-2000:])
        self.address = str(json.loads(line)["address"])

    def close(self) -> None:
        """Drain and end."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=_READY_S)
        self._log.close()


@pytest.fixture(scope="module")
def real_cluster(redis_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """A cluster; skips where Ray or Redis is not installed."""
    from real_redis import PASSWORD, RealRedis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about versions to come
        pytest.importorskip("ray.serve")
        redis = RealRedis(tmp_path_factory.mktemp("ray-memory"))
        redis.start()
        cluster = RealCluster(f"127.0.0.1:{redis.port}", PASSWORD)
        try:
            yield cluster
        finally:
            cluster.close()
            redis.kill()


def _free_port() -> int:
    """One that no outgoing connection is ever given, so that it is still free after a while without a listener."""
    while True:
        port = random.randrange(*_LISTENING_PORTS)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
