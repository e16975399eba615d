"""Editing joined together: the network that settings name, loaded when it is first asked, and the service before it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TypeVar

from headlift.backend.local import LocalBackend, device_of, weights_path
from headlift.backend.protocol import Backend
from headlift.backend.workers import Workers
from headlift.errors import MissingWeightsError
from headlift.gateway.creation import Creator
from headlift.gateway.edits.editor import Editor
from headlift.gateway.edits.embedding import Embedder
from headlift.gateway.edits.parsing import Segment, by_parser, by_stage
from headlift.gateway.edits.service import EditServicer
from headlift.gateway.edits.stage import EditStage
from headlift.gateway.edits.subjects import Subjects
from headlift.gateway.portraits import PortraitCache
from headlift.model.sizes import HeadModel
from headlift.pretrained.facer import load_face_parsing
from headlift.settings import Settings
from headlift.stages.edit import load_edit
from headlift.stages.preprocess.parsing import FacerParser
from headlift.stages.rpc import pack_head
from headlift.store.heads import HeadStore
from headlift.store.stages import StageCache

T = TypeVar("T")
_SHIPPED = "mini_edit.safetensors"


def compose_edits(
    settings: Settings,
    heads: HeadStore,
    cache: StageCache,
    backend: Backend,
    portraits: PortraitCache,
    creator: Creator,
    editing: Workers,
    storing: Workers,
) -> EditServicer:
    """EditService over the stores and stages of HeadService; nothing is loaded yet."""
    subjects = Subjects(heads, cache, portraits, backend, segmenting(settings))
    embedder = Embedder(subjects, portraits, picture_bytes_max=settings.picture_bytes_max)
    editor = Editor(subjects, embedder, cache, pack_head)
    loaded = backend.stage_reconstruct.model if isinstance(backend, LocalBackend) else None
    return EditServicer(loading(settings, loaded), subjects, embedder, editor, creator, editing, storing)


def segmenting(settings: Settings) -> Segment:
    """Who segments: FaRL where its weights are named, else HeadNet."""
    path = settings.parsing_weights
    if path is None:
        return by_stage
    return by_parser(once(lambda: FacerParser(load_face_parsing(path))))


def loading(settings: Settings, loaded: HeadModel | None) -> Callable[[], EditStage]:
    """The editing network, loaded by the first call around ``loaded``, where the reconstruction network is here."""
    return once(
        lambda: load_edit(
            edit_weights_path(settings),
            device_of(settings.device),
            weights_path(settings),
            settings.clip_weights,
            loaded,
        )
    )


def once(load: Callable[[], T]) -> Callable[[], T]:
    """``load``, done by the first call for all; what failed is tried again by the next."""
    lock, loaded = threading.Lock(), list[T]()

    def get() -> T:
        with lock:
            if not loaded:
                loaded.append(load())
            return loaded[0]

    return get


def edit_weights_path(settings: Settings) -> Path:
    """The weights of the editing network. MissingWeightsError: they are not there."""
    if settings.edit_weights is not None:
        if not settings.edit_weights.is_file():
            raise MissingWeightsError(
                "This server's editing weights are not where it was told; correct HEADLIFT_EDIT_WEIGHTS there."
            )
        return settings.edit_weights
    shipped = Path(str(resources.files("headlift") / "weights" / _SHIPPED))
    if not shipped.is_file():
        raise MissingWeightsError(
            f"This server has no editing network: {_SHIPPED} is not in its installation. "
            "Name one there with HEADLIFT_EDIT_WEIGHTS; everything else works."
        )
    return shipped
