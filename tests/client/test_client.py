"""What the package as a whole promises."""

import inspect
import subprocess
import sys

import headlift.client
from headlift.client import AsyncHeadliftClient, HeadliftClient


def methods(kind):
    return {name: m for name, m in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_exported_members_are_all_that_can_be_seen():
    public = {name for name in vars(headlift.client) if not name.startswith("_")} - {"annotations"}
    assert public == set(headlift.client.__all__)
    assert headlift.client.__all__ == sorted(headlift.client.__all__)


def test_importing_it_brings_neither_torch_nor_numpy_nor_the_server():
    code = "import sys, headlift.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "PIL", "scipy", "ray", "redis", "minio"} & set(loaded)
    ours = {name.split(".")[1] for name in loaded if name.startswith("headlift.")}
    assert ours == {"client", "errors", "status", "v1"}


def test_both_clients_offer_the_same_methods():
    def parameters(kind):
        return {name: list(inspect.signature(m).parameters.values()) for name, m in methods(kind).items()}

    assert parameters(HeadliftClient) == parameters(AsyncHeadliftClient)


def test_methods_describe_themselves_as_they_are_called():
    create = inspect.signature(HeadliftClient.create_head)
    assert next(iter(create.parameters)) == "self"
    assert create.return_annotation == "head_pb2.Head"
    assert "several_faces" in (inspect.getdoc(HeadliftClient.create_head) or "")
    assert inspect.signature(AsyncHeadliftClient.create_head).return_annotation == "Awaitable[head_pb2.Head]"
    assert inspect.signature(HeadliftClient.orbit).return_annotation == "Iterator[Frame]"
    assert inspect.signature(AsyncHeadliftClient.list_heads).return_annotation == "AsyncIterator[head_pb2.Head]"
    assert inspect.signature(HeadliftClient.live).return_annotation == "LiveSession"
    assert all(inspect.getdoc(m) for m in methods(HeadliftClient).values())
