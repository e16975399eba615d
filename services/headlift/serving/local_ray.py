"""A Ray of this machine alone, which nobody else reaches: whoever reaches the ports of a Ray may run code in it.

Ray 2.60 binds its servers to all interfaces unless its node's address is 127.0.0.1, and replaces that address where it
is asked for. Ray Serve binds a port of every replica to all interfaces in any case.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray import _raylet as untyped_raylet
from ray._private import ray_constants
from ray._private import services as untyped_services
from ray._private import utils as untyped_utils

from headlift.settings import local_ray_environment

# Ray does not describe these to type checkers.
_raylet: Any = untyped_raylet
_services: Any = untyped_services
_utils: Any = untyped_utils
_log = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_CONNECT_S = 30.0


@contextmanager
def local_ray(object_store_bytes: int, options: dict[str, Any]) -> Iterator[None]:
    """A Ray that listens on loopback only and asks for a token, as long as the block.

    Args:
        object_store_bytes: Memory of its object store.
        options: Further options of ``ray.init``.
    """
    with local_ray_environment(), _without_clusters():
        with _process_groups_of_their_own():
            ray.init(
                address="local",
                namespace="serve",
                include_dashboard=False,
                object_store_memory=object_store_bytes,
                # Ray would run replicas at the lowest priority: beside anything else they would hardly ever run.
                _system_config={"worker_niceness": 0},
                **options,
            )
        try:
            yield
        finally:
            ray.shutdown()


def refused(address: tuple[str, int]) -> bool:
    """Whether nobody listens there any more."""
    try:
        socket.create_connection(address, _CONNECT_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # out of files, say, which passes
        return False
    return False


def stay_on_loopback() -> None:
    """In a replica of a Ray that listens on loopback: let Serve bind its port there too. Call before it does."""
    from ray.serve._private import replica as module

    if _services.get_node_ip_address() != _LOOPBACK:
        return
    replica: Any = module
    add_port = replica.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, f"{_LOOPBACK}:{address.rpartition(':')[2]}")

    replica.add_port_to_grpc_server = add_loopback_port


def warn_if_open(address: str) -> None:
    """Say it where the cluster that this process has joined takes code from everybody who reaches it."""
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    if not is_token_auth_enabled():
        _log.warning(
            "the Ray cluster %s asks for no token: whoever reaches its ports can run code on its machines. "
            "Start it with RAY_AUTH_MODE=token, and let nobody else reach it.",
            address,
        )


@contextmanager
def _process_groups_of_their_own() -> Iterator[None]:
    """Let a signal to the server's group (``timeout``, supervisors) not end Ray before the server has drained.

    Only where Ray's processes end with this one by the kernel's help: elsewhere it is the group that ends them.
    """
    before = _services.ConsolePopen
    if _utils.detect_fate_sharing_support():
        _services.ConsolePopen = partial(before, process_group=0)
    try:
        yield
    finally:
        _services.ConsolePopen = before


@contextmanager
def _without_clusters() -> Iterator[None]:
    """Let this process see the environment as it is now: Ray read it when it was imported, and remembers tokens."""
    tokens = _raylet.AuthenticationTokenLoader.instance()
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    tokens.reset_cache()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        tokens.reset_cache()
