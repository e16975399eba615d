"""From a head and cameras to packed pictures: splat, sharpen, pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from headlift.gateway.context import StopToken
from headlift.gateway.timing import Stopwatch
from headlift.model.types import Cameras, Gaussians
from headlift.render.pictures import Look, pack
from headlift.render.stage import Render
from headlift.sharpen.stage import Sharpen
from headlift.v1 import head_pb2
from headlift.v1 import render_service_pb2 as pb


@dataclass(frozen=True)
class Shots:
    """Pictures of a head."""

    pictures: list[bytes]
    timings: list[head_pb2.StageTiming]


class HeadRef:
    """A head to take pictures of, wherever it is.

    Attributes:
        key: Stands for exactly these Gaussians, for ever; whoever renders may keep them under it.
        packed: Reads them in the wire codec; blocks.
    """

    def __init__(self, key: str, unpacked: Callable[[], Gaussians], packed: Callable[[], bytes]) -> None:
        """``unpacked`` may wait for a store; it is called once at most."""
        self.key = key
        self.packed = packed
        self._load = unpacked
        self._loaded: Gaussians | None = None

    def unpacked(self) -> Gaussians:
        """The head itself; may wait for a store."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


class Drawer(Protocol):
    """What takes pictures, here or elsewhere."""

    def fetch(self, head: HeadRef) -> Any:
        """What ``draw`` needs of a head; waits for the store."""
        ...

    def draw(self, fetched: Any, cameras: Cameras, look: Look, token: StopToken) -> Shots:
        """One packed picture per camera; blocks."""
        ...


@dataclass(frozen=True)
class Draw:
    """The stages of drawing in one process; without ``sharpen``, pictures stay as they are splatted."""

    render: Render
    sharpen: Sharpen | None

    def fetch(self, head: HeadRef) -> Gaussians:
        """See Drawer."""
        return head.unpacked()

    def draw(self, fetched: Gaussians, cameras: Cameras, look: Look, token: StopToken) -> Shots:
        """See Drawer."""
        watch, pictures = Stopwatch(), []
        # One camera at a time bounds memory at 64 cameras of 2048 pixels, and lets a cancelled call end soon.
        for i in range(len(cameras)):
            token.check()
            with watch.timing("render"):
                views = self.render(fetched, cameras[i])
            rgb = self._sharp(views.rgb, look, watch)
            with watch.timing("pack"):
                pictures.append(pack(rgb[0], views.alpha[0], look))
        return Shots(pictures, watch.timings)

    def paint(self, head: Gaussians, cameras: Cameras, look: Look, token: StopToken) -> pb.RenderResponse:
        """The same as a message."""
        shots = self.draw(head, cameras, look, token)
        return pb.RenderResponse(pictures=shots.pictures, stage_timings=shots.timings)

    def _sharp(self, rgb: Tensor, look: Look, watch: Stopwatch) -> Tensor:
        if self.sharpen is None or not (self.sharpen.available if look.sharpen is None else look.sharpen):
            return rgb
        with watch.timing("sharpen"):
            return self.sharpen(rgb)
