from dataclasses import replace

import numpy as np
import pytest

from headlift.backend.protocol import RenderedImages
from headlift.errors import CancelledError, InvalidInputError
from headlift.gateway.edits.editor import Editor
from headlift.gateway.edits.embedding import Embedder
from headlift.gateway.edits.maps import map_message
from headlift.gateway.edits.requests import parse_edit_head
from headlift.gateway.edits.subjects import Subjects
from headlift.gateway.portraits import PortraitCache
from headlift.model.splat import available_backends
from headlift.stages.clock import Stopwatch
from headlift.stages.edit import Edit, load_edit
from headlift.stages.render import Render, render_pictures
from headlift.stages.rpc import pack_head, unpack_head
from headlift.stages.stop_token import StopToken
from headlift.store.files import FileStore
from headlift.store.heads import HeadStore
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache
from headlift.v1 import edit_pb2
from headlift.v1 import edit_service_pb2 as pb

PARENT = "tenants/a"


@pytest.fixture(scope="module")
def stage(tiny_checkpoint, tiny_edit_weights):
    return load_edit(tiny_edit_weights, "cpu", tiny_checkpoint)


@pytest.fixture
def store(tmp_path):
    return SealedStore(FileStore(tmp_path))


@pytest.fixture
def heads(store):
    return HeadStore(store, unpack=unpack_head, memory_bytes=1 << 20)


@pytest.fixture
def editor(store, heads):
    """Over a store of its own; no portraits are preprocessed."""
    cache = StageCache(store)
    backend = RenderBackend()
    portraits = PortraitCache(backend, cache)
    subjects = Subjects(heads, cache, portraits, backend)
    return Editor(subjects, Embedder(subjects, portraits, picture_bytes_max=1 << 20), cache, pack_head)


class RenderBackend:
    """Takes pictures and does nothing else."""

    def render(self, head, cameras, options, token):
        rasterizer = "native" if "native" in available_backends() else "reference"
        watch = Stopwatch()
        render = Render(rasterizer, "cpu")
        pictures = render_pictures(render, None, head.unpacked(), cameras, options, token, watch)
        return RenderedImages(pictures, watch.timings)


class CountedStop(StopToken):
    """Stops at its n-th check."""

    def __init__(self, checks):
        super().__init__()
        self.left = checks

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise CancelledError("enough")


def forgetful(stage):
    """The stage without what it remembers of earlier calls."""
    return Edit(stage._model, stage._embedder, stage.fingerprint)


def ordered(head="", text="red hair", hat=False):
    labels = np.zeros((64, 64), np.uint8)
    labels[10:50, 15:45] = 2
    if hat:
        labels[4:10, 15:45] = 16
    style = edit_pb2.Style(terms=[edit_pb2.StyleTerm(text=text)])
    return parse_edit_head(pb.EditHeadRequest(parent=PARENT, head=head, map=map_message(labels), style=style))


def stored(heads, made):
    return heads.create("a", made.head, made.gaussians, copy=made.copy, parts=made.parts)


def test_an_edit_stops_wherever_it_is_told_to_and_leaves_nothing(editor, heads, store, stage):
    first = stored(heads, editor.edit(ordered(), stage, StopToken()))
    before = list(store.list("tenants/a"))
    stopped = 0
    while True:
        try:
            made = editor.edit(ordered(first.name, hat=True), forgetful(stage), CountedStop(stopped))
        except CancelledError:
            assert list(store.list("tenants/a")) == before
            stopped += 1
            continue
        break
    assert stopped >= 6  # between every two steps of any length
    assert made.head.parent == first.name


def test_heads_of_another_network_are_embedded_anew(editor, heads, stage):
    first = stored(heads, editor.edit(ordered(), stage, StopToken()))
    renewed = forgetful(stage)
    renewed.fingerprint = "newer"
    made = editor.edit(ordered(first.name, "black hair"), renewed, StopToken())
    assert [t.stage for t in made.head.stage_timings] == ["render", "embed", "edit", "pack"]
    assert made.head.weights_hash == "newer"


def test_a_line_of_edits_ends_somewhere_and_says_how_to_go_on(editor, heads, stage, monkeypatch):
    first = stored(heads, editor.edit(ordered(), stage, StopToken()))
    monkeypatch.setattr("headlift.gateway.edits.editor.EDITS_MAX", 1)
    with pytest.raises(InvalidInputError, match="edit the origin") as caught:
        editor.edit(ordered(first.name, hat=True), stage, StopToken())
    assert caught.value.reason == "HISTORY_FULL"


def test_equal_edits_are_computed_once_and_others_anew(editor, stage):
    order = ordered()
    first, second = (editor.edit(order, stage, StopToken()) for _ in range(2))
    assert first.gaussians == second.gaussians
    assert {t.cached for t in first.head.stage_timings} == {False}
    assert {t.cached for t in second.head.stage_timings} == {True}
    other = editor.edit(replace(order, steps=ordered(text="black hair").steps), stage, StopToken())
    assert other.head.input_sha256 != first.head.input_sha256
