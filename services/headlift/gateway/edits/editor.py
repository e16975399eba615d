"""Edits, computed: each step under a key of its content, so that only what changed is done again. Blocks.

An edit is a difference to where its line of edits began, not to the head before: a hundred steps round no more than
one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headlift.codec import bounding_box, message_from_camera
from headlift.errors import InvalidInputError
from headlift.gateway.edits.embedding import Embedder, blended
from headlift.gateway.edits.maps import U8, check_not_empty, difference, map_message, painted, parse_map
from headlift.gateway.edits.requests import EDITS_MAX, EditOrdered, Step
from headlift.gateway.edits.stage import EditStage
from headlift.gateway.edits.state import PART, EditState
from headlift.gateway.edits.strokes import paint
from headlift.gateway.edits.styles import bad_style, embedding_message
from headlift.gateway.edits.subjects import Subject, Subjects
from headlift.gateway.pipeline import Reconstruction, from_cache
from headlift.model.cameras import orbit_camera
from headlift.model.types import Cameras, Gaussians
from headlift.stages.clock import Stopwatch, count_stages
from headlift.stages.edit import EditOrder
from headlift.stages.stop_token import StopToken
from headlift.store.heads import GAUSSIANS_CODEC
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import edit_pb2, head_pb2

_HISTORY_BYTES_MAX = 8 << 20
CONFIG = "edit"  # of heads that are made of nothing but map and style


@dataclass(frozen=True)
class _EditInput:
    """A head as the editing network takes it."""

    subject: Subject
    labels: U8
    style: Tensor
    camera: Cameras


@dataclass(frozen=True)
class _EditTarget:
    """What an edit comes to, whatever steps led there."""

    base: _EditInput | None  # None: a person is made up
    labels: U8
    style: Tensor
    camera: Cameras


@dataclass(frozen=True)
class _Call:
    """What all steps of one call share."""

    ordered: EditOrdered
    stage: EditStage
    watch: Stopwatch
    token: StopToken


class Editor:
    """Does what EditHead's requests say."""

    def __init__(
        self, subjects: Subjects, embedder: Embedder, cache: StageCache, pack_head: Callable[[Gaussians], bytes]
    ) -> None:
        """``pack_head`` writes the wire codec."""
        self._subjects, self._embedder, self._cache, self._pack_head = subjects, embedder, cache, pack_head

    def edit(self, ordered: EditOrdered, stage: EditStage, token: StopToken) -> Reconstruction:
        """A new head, not stored yet; raises what the contract lists."""
        call = _Call(ordered, stage, Stopwatch(), token)
        before, base = self._views(call)
        labels, style, edits = self._apply_steps(call, before)
        camera = base.camera if base is not None else orbit_camera(0.0, size=stage.map_size)
        target = _EditTarget(base, labels, style, camera)
        history = _history(before, target, edits, stage.fingerprint)
        return _with_history(self._compute(call, target), before, edits, history)

    def _views(self, call: _Call) -> tuple[_EditInput | None, _EditInput | None]:
        """The head that is edited, and the one that its line of edits began with."""
        if call.ordered.head is None:
            return None, None
        subject = self._subjects.find(call.ordered.head, call.stage)
        origin = self._subjects.origin(subject, call.stage)
        before = self._view(subject, call)
        return before, before if origin is subject else self._view(origin, call)

    def _view(self, subject: Subject, call: _Call) -> _EditInput:
        geometry = self._subjects.geometry(subject, call.stage, call.watch, call.token)
        call.token.check()
        style = self._subjects.style(subject, call.stage, call.watch, call.token)
        return _EditInput(subject, geometry.labels, style, geometry.camera)

    def _apply_steps(self, call: _Call, before: _EditInput | None) -> tuple[U8, Tensor, list[edit_pb2.Edit]]:
        """Map and style after all steps, and the steps as they are remembered."""
        labels, style = (before.labels, before.style) if before is not None else (None, None)
        edits = []
        for step in call.ordered.steps:
            edit = edit_pb2.Edit()
            if labels is not None and before is not None:
                labels = _with_named_shapes(step, labels, before.camera, edit, call)
            labels = _apply_geometry(step, labels, edit, call)
            style = self._apply_style(step, style, edit, call)
            edits.append(edit)
        assert labels is not None
        assert style is not None
        last = call.ordered.steps[-1]
        check_not_empty(labels, last.field + (last.edit.WhichOneof("geometry") or "map"))
        return labels, style, edits

    def _apply_style(self, step: Step, before: Tensor | None, edit: edit_pb2.Edit, call: _Call) -> Tensor:
        if not step.terms:
            if before is None:
                raise bad_style("Without a head the first edit must name a style.", f"{step.field}style")
            return before
        common = (call.ordered.tenant, call.stage, call.watch, call.token)
        for term in step.terms:
            kept = edit.style.terms.add()
            kept.CopyFrom(term.message)
            if term.source in ("picture", "head"):
                # The edit must not need, nor give away, somebody's picture or another head.
                picture = term.message.picture if term.source == "picture" else b""
                embedding = self._embedder.term(term, *common)
                kept.embedding.CopyFrom(embedding_message(embedding, call.stage.fingerprint, picture))
        style = self._embedder.mix(step.terms, *common, about=before)
        if step.edit.HasField("strength"):
            edit.strength = step.strength
        if before is None or step.strength == 1.0:
            return style
        return blended(call.stage, [before, style], [1.0 - step.strength, step.strength], f"{step.field}strength")

    def _compute(self, call: _Call, target: _EditTarget) -> Reconstruction:
        digest = _digest(target, call.stage.fingerprint)
        record = StageKey(call.ordered.tenant, digest, "head", {}, call.stage.fingerprint)
        copy = replace(record, stage="gaussians")

        def recall() -> Reconstruction | None:
            head, gaussians = self._cache.get(record, "head"), self._cache.get(copy, GAUSSIANS_CODEC)
            if head is None or gaussians is None:
                return None
            return Reconstruction(from_cache(head_pb2.Head.FromString(head)), gaussians, copy)

        def make() -> Reconstruction:
            gaussians, packed = self._gaussians(call, target)
            head = _record(target, gaussians, digest, call.stage.fingerprint)
            head.stage_timings.extend(call.watch.timings)
            self._cache.put(record, head.SerializeToString(), "head", call.ordered.durability)
            self._cache.put(copy, packed, GAUSSIANS_CODEC, call.ordered.durability)
            return Reconstruction(head, packed, copy)

        return self._cache.once(record, recall, make, call.token.check)

    def _gaussians(self, call: _Call, target: _EditTarget) -> tuple[Gaussians, bytes]:
        base = target.base
        order = EditOrder(
            parent=self._subjects.head(base.subject).unpacked() if base is not None else None,
            parent_map=torch.tensor(base.labels) if base is not None else None,
            parent_style=base.style if base is not None else None,
            camera=target.camera,
            map=torch.tensor(target.labels),
            style=target.style,
        )
        call.token.check()
        with call.watch.timing("edit"):
            gaussians = call.stage(order, call.token.check)
        call.token.check()
        with call.watch.timing("pack"):
            packed = self._pack_head(gaussians)
        count_stages(call.watch.timings)
        return gaussians, packed


def _with_named_shapes(step: Step, labels: U8, camera: Cameras, edit: edit_pb2.Edit, call: _Call) -> U8:
    """The map with the shapes that a step's words name, unless they are to change the style alone."""
    if step.edit.keep_map:
        edit.keep_map = True
        return labels
    total = sum(term.weight for term in step.terms)
    for term in step.terms:
        if term.source == "text" and term.weight >= total / 2:  # half a hat is none
            painted_in = call.stage.paint_words(torch.tensor(labels), term.message.text, camera, step.strength)
            labels = painted_in.numpy()
    return labels


def _apply_geometry(step: Step, before: U8 | None, edit: edit_pb2.Edit, call: _Call) -> U8 | None:
    """The map after a step, and into ``edit`` how to do the same to another map."""
    geometry = step.edit.WhichOneof("geometry")
    if geometry == "map":
        patch = parse_map(step.edit.map, call.stage.map_size, field=f"{step.field}map", may_keep=before is not None)
        after = patch if before is None else painted(before, patch)
        edit.map.CopyFrom(map_message(after if before is None else difference(before, after)))
        return after
    if geometry == "strokes":
        edit.strokes.CopyFrom(step.edit.strokes)
        return paint(before, step.strokes, call.token.check) if before is not None else None
    return before


def _digest(target: _EditTarget, fingerprint: str) -> str:
    """SHA-256 of all that the Gaussians depend on, hexadecimal."""
    base = target.base
    digest = hashlib.sha256(f"edit {fingerprint} {base.subject.name if base else ''}".encode())
    for labels in (base.labels if base else None, target.labels):
        digest.update(b"-" if labels is None else labels.tobytes())
    for tensor in (base.style if base else None, target.style, target.camera.viewmats, target.camera.Ks):
        digest.update(b"-" if tensor is None else tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _record(target: _EditTarget, gaussians: Gaussians, digest: str, fingerprint: str) -> head_pb2.Head:
    """What is known of an edited head, whatever way led to it."""
    head = head_pb2.Head(
        input_sha256=digest,
        weights_hash=fingerprint,
        config_name=CONFIG,
        gaussian_count=len(gaussians),
        input_camera=message_from_camera(target.camera),
        bounding_box=bounding_box(gaussians),
    )
    head.quality.crop_size_px = target.camera.width
    if target.base is not None:
        origin = target.base.subject.record
        head.config_name, head.refine_steps = origin.config_name, origin.refine_steps
        head.quality.CopyFrom(origin.quality)
        if origin.HasField("input_camera"):
            head.input_camera.CopyFrom(origin.input_camera)
        else:
            head.quality.crop_size_px = target.camera.width
    return head


def _history(before: _EditInput | None, target: _EditTarget, edits: list[edit_pb2.Edit], fingerprint: str) -> bytes:
    """What is stored with the head: all steps since the origin. InvalidInputError: HISTORY_FULL."""
    earlier = before.subject.state if before is not None else None
    parent = str(before.subject.name) if before is not None else ""
    state = EditState(
        labels=target.labels,
        camera=target.camera,
        style=embedding_message(target.style, fingerprint),
        edits=[*(earlier.edits if earlier else ()), *edits],
        heads=[*(earlier.heads if earlier else ()), parent, *[""] * (len(edits) - 1)],
    )
    history = state.message().SerializeToString()
    if len(state.edits) > EDITS_MAX or len(history) > _HISTORY_BYTES_MAX:
        raise InvalidInputError(
            f"The line of edits would have {len(state.edits)} steps and {len(history)} bytes; it may have {EDITS_MAX} "
            f"and {_HISTORY_BYTES_MAX}. Begin a new one: edit the origin with this head's map and style.",
            reason="HISTORY_FULL",
            field="head",
        )
    return history


def _with_history(
    made: Reconstruction, before: _EditInput | None, edits: list[edit_pb2.Edit], history: bytes
) -> Reconstruction:
    """With where it came from, in which heads of the same content differ."""
    head = head_pb2.Head()
    head.CopyFrom(made.head)
    head.edits.extend(edits)
    if before is not None:
        head.parent = str(before.subject.name)
        head.origin = before.subject.record.origin or head.parent
    return replace(made, head=head, parts={PART: history})
