"""`headlift serve --runtime ray` with a Ray of its own: who reaches it, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from headlift.client import HeadliftClient
from headlift.errors import InvalidInputError
from headlift.settings import child_environment, local_ray_environment

pytest.importorskip("ray.serve")
ASK = """
import sys
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=30)))
"""


@pytest.fixture(scope="module")
def server(replica_settings, tmp_path_factory):
    """The server's process, and the address of its API; what Ray's guide advises for throughput is set."""
    folder = tmp_path_factory.mktemp("local-ray")
    chosen = {name: str(value) for name, value in replica_settings.items()}
    environ = child_environment(port="0", data_dir=str(folder), runtime="ray", **chosen)
    environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environ.pop(name, None)
    command = [sys.executable, "-W", "ignore", "-m", "headlift.cli", "serve", "--json"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    line = process.stdout.readline()
    try:
        assert line, (folder / "log").read_text()[-3000:]
        yield psutil.Process(process.pid), json.loads(line)["address"], process
    finally:
        process.kill()  # Ray's processes end with it
        process.wait()
        process.stdout.close()


def family(server):
    return [server[0], *server[0].children(recursive=True)]


def listening(process):
    """Addresses that a process listens on; none where it has ended meanwhile."""
    with suppress(psutil.Error):
        return [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN or not c.raddr]
    return []


def memory_of(server):
    """Address of the Ray's memory, and the environment of whoever keeps it."""
    (keeper,) = (p for p in family(server) if p.name() == "gcs_server")
    return f"127.0.0.1:{listening(keeper)[0].port}", keeper.environ()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_it_starts_listens_on_loopback_only(server):
    found = {(p.name(), c.ip.removeprefix("::ffff:"), c.port) for p in family(server) for c in listening(p)}
    names = {name for name, _, _ in found}
    assert {"gcs_server", "raylet"} <= names
    assert sum("ServeReplica" in name for name in names) == 3
    assert {ip for _, ip, _ in found} == {"127.0.0.1"}, found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_who_has_not_its_token_is_refused(server, tmp_path):
    address, own = memory_of(server)
    asked = {
        "right": {},
        "wrong": {"RAY_AUTH_TOKEN": "0" * 64},
        "none": {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "", "HOME": str(tmp_path)},
    }
    answers = {}
    for name, changes in asked.items():
        environ = {k: v for k, v in own.items() if k.startswith(("RAY_AUTH", "PATH", "HOME"))} | changes
        command = [sys.executable, "-c", ASK, address]
        answers[name] = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert answers["right"].stdout == "1\n", answers["right"].stderr
    for name in ("wrong", "none"):
        assert answers[name].returncode != 0
        assert "RAY_AUTH_TOKEN" in answers[name].stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_answers_though_throughput_was_asked_for(server):
    with HeadliftClient(server[1], timeout_s=120) as client, pytest.raises(InvalidInputError):
        client.create_head(b"no picture")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_ends_well_where_every_process_is_told_to_end(server):
    ours = family(server)
    # A signal to the server's group reaches it alone, and Ray lives until it has drained ...
    assert {os.getpgid(p.pid) for p in ours[1:]}.isdisjoint({os.getpgid(ours[0].pid)})
    # ... and where all are told, as systemd does, it does not wait for a Ray that has ended: that took a minute, and 1.
    for process in reversed(ours):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    assert server[2].wait(200) == 0
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in ours[1:])


def test_the_environment_is_as_it_was_afterwards_and_what_a_user_has_set_is_kept(monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with local_ray_environment():
        one = os.environ["RAY_AUTH_TOKEN"]
        os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
    assert dict(os.environ) == before
    with local_ray_environment():
        assert len(os.environ["RAY_AUTH_TOKEN"]) == len(one) == 64
        assert os.environ["RAY_AUTH_TOKEN"] != one
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    with local_ray_environment():
        assert os.environ["RAY_AUTH_TOKEN"] == "mine"


@pytest.mark.parametrize(("asks", "warnings"), [(False, 1), (True, 0)])
def test_joining_a_cluster_that_asks_for_no_token_is_warned_of(monkeypatch, caplog, asks, warnings):
    from ray._private.authentication import authentication_utils

    from headlift.serving.local_ray import warn_if_open

    monkeypatch.setattr(authentication_utils, "is_token_auth_enabled", lambda: asks)
    warn_if_open("192.0.2.7:6379")
    assert sum("192.0.2.7:6379 asks for no token" in r.message for r in caplog.records) == warnings


@pytest.mark.parametrize(("node", "bound"), [("127.0.0.1", "127.0.0.1:0"), ("192.0.2.7", "[::]:0")])
def test_a_replica_binds_its_port_where_its_node_is(monkeypatch, node, bound):
    from ray.serve._private import replica

    from headlift.serving import local_ray

    asked = []

    class Server:
        def add_insecure_port(self, address):
            asked.append(address)
            return 1

    monkeypatch.setattr(replica, "add_port_to_grpc_server", replica.add_port_to_grpc_server)  # put back afterwards
    monkeypatch.setattr(local_ray._services, "get_node_ip_address", lambda: node)
    local_ray.stay_on_loopback()
    assert replica.add_port_to_grpc_server(Server(), "[::]:0") == 1
    assert asked == [bound]
