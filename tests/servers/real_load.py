"""Load that a test keeps up while it breaks things: heads are made and looked at until the block ends."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid

import grpc

from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import picture_pb2

DOCUMENTED = {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}  # what may be sent again unchanged
LOOK = picture_pb2.PictureOptions(width_px=64, height_px=64)
BACK_S = 120.0  # for a replica to come back, on a busy machine


def until(condition, seconds=BACK_S):
    """Seconds until ``condition`` held."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "waited in vain"
        time.sleep(0.05)
    return time.monotonic() - begin


class Load:
    """Threads that create heads and look at them; every call is sent again until it is answered or the load is over."""

    def __init__(self, stub, portrait, threads=3):
        self._stub, self._portrait = stub, portrait
        self.made, self.refusals, self.words, self.answered = {}, set(), [], 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"load-{i}") for i in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        with contextlib.suppress(_OverError):
            self._go_on()

    def _go_on(self):
        while not self._over.is_set():
            request_id = str(uuid.uuid4())
            creation = pb.CreateHeadRequest(parent="tenants/load", picture=self._portrait, request_id=request_id)
            head = self._ask(lambda c=creation: self._stub.CreateHead(c, timeout=BACK_S)).head
            self.made[request_id] = head
            look = pb.RenderHeadRequest(name=head.name, picture=LOOK)
            assert self._ask(lambda r=look: self._stub.RenderHead(r, timeout=BACK_S)).pictures[0].data
            self.answered += 1

    def _ask(self, call):
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                self.refusals.add(error.code().name)
                self.words.append((error.details() or "").lower())
                if error.code().name not in DOCUMENTED:
                    raise
                if self._over.wait(0.1):
                    raise _OverError from None


class _OverError(Exception):
    """Nobody waits for the answer any more."""
