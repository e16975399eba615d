"""What computes, wherever it is: the stages of one network, and what is known about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headlift.media.pictures import RenderOptions
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.stages.preprocess import PreprocessOptions
from headlift.stages.rpc import StageHandlers
from headlift.stages.stop_token import StopToken
from headlift.store.heads import HeadName, HeadStore
from headlift.v1 import decode_service_pb2, head_pb2


@dataclass(frozen=True)
class Network:
    """What is known about the network behind the stages.

    Attributes:
        weights_hash: SHA-256 of its weights, hexadecimal.
        config_name: Name of its configuration.
        fingerprint: All else that a head depends on besides portrait and options.
        portraits: All that a portrait depends on besides picture and options.
        portrait_size: Side of the portrait crop, pixels.
        sharpens: Whether it has a sharpener.
    """

    weights_hash: str
    config_name: str
    fingerprint: str
    portraits: str
    portrait_size: int
    sharpens: bool


@dataclass(frozen=True)
class PreprocessedPortrait:
    """A portrait, and the record of its quality."""

    portrait: Portrait
    quality: head_pb2.Quality


@dataclass(frozen=True)
class RenderedImages:
    """Packed pictures of a head, one per camera."""

    pictures: list[bytes]
    timings: list[head_pb2.StageTiming]


class HeadRef:
    """A head to take pictures of, wherever it is.

    Attributes:
        key: Stands for exactly these Gaussians, for ever; whoever renders may keep them under it.
        packed: Reads them in the wire codec; blocks.
    """

    def __init__(
        self,
        key: str,
        unpacked: Callable[[], Gaussians],
        packed: Callable[[], bytes],
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Each may wait for a store and raise where there is no such head; all but ``packed`` are called once at most.

        ``check`` does that and nothing else.
        """
        self.key = key
        self.packed = packed
        self._load, self._check = unpacked, check
        self._loaded: Gaussians | None = None
        self._checked = False

    @classmethod
    def stored(cls, heads: HeadStore, name: HeadName) -> HeadRef:
        """A head of a store; nothing is read yet."""
        return cls(str(name), lambda: heads.gaussians(name), lambda: heads.packed(name), lambda: heads.get(name))

    def check(self) -> None:
        """Raise where there is no such head; may wait for a store. NotFoundError: there is none."""
        if not self._checked:
            self._check()
            self._checked = True

    def unpacked(self) -> Gaussians:
        """The head itself; may wait for a store."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


class Backend(Protocol):
    """The stages of one network; its methods block, and may be called from several threads."""

    @property
    def about(self) -> str:
        """One phrase: which network, where."""
        ...

    @property
    def create_workers(self) -> int:
        """Heads that can be made at the same time."""
        ...

    @property
    def render_workers(self) -> int:
        """Pictures that can be taken at the same time."""
        ...

    @property
    def handlers(self) -> StageHandlers:
        """The stages message to message, for the stage services."""
        ...

    def network(self) -> Network:
        """What is known about the network as things stand; weights may change."""
        ...

    def settled(self) -> bool:
        """Whether all that computes agrees with ``network``. What is computed meanwhile is not remembered."""
        ...

    def lost(self) -> bool:
        """Whether this process is cut off from the stages for good, so that only another process could reach them."""
        ...

    def preprocess(self, picture: bytes, options: PreprocessOptions, token: StopToken) -> PreprocessedPortrait:
        """The portrait in a picture file; raises what ``stages.preprocess.Preprocess`` raises."""
        ...

    def reconstruct(self, portrait: Portrait, refine_steps: int, token: StopToken) -> decode_service_pb2.DecodeResponse:
        """The head of a portrait."""
        ...

    def fetch(self, head: HeadRef) -> None:
        """Read what ``render`` will need of a head, so that it need not wait for the store. Raises as reading does."""
        ...

    def render(self, head: HeadRef, cameras: Cameras, options: RenderOptions, token: StopToken) -> RenderedImages:
        """One packed picture per camera."""
        ...

    def warm_up(self) -> None:
        """Run every stage once, so that the first caller does not pay for it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
