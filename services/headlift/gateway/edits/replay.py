"""The same edits to other heads and portraits, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from headlift.backend.workers import Workers
from headlift.errors import CancelledError, DeadlineError, HeadliftError, InvalidInputError
from headlift.gateway.context import CallContext, check_alive
from headlift.gateway.creation import Creator
from headlift.gateway.edits.editor import Editor
from headlift.gateway.edits.requests import (
    TARGETS_MAX,
    EditOrdered,
    Step,
    body_sha256,
    parse_head,
    parse_steps,
)
from headlift.gateway.edits.stage import EditStage
from headlift.gateway.edits.subjects import Subjects
from headlift.gateway.validation import check_range, parse_durability, parse_name, parse_parent, parse_request_id
from headlift.status import status_of
from headlift.store.blobs import Durability
from headlift.v1 import edit_service_pb2 as pb
from headlift.v1 import head_pb2
from headlift.v1 import head_service_pb2 as head_service


@dataclass(frozen=True)
class _Plan:
    tenant: str
    steps: list[Step]
    request_id: str
    body_sha256: str
    durability: Durability


class Replayer:
    """Answers ReplayEdits."""

    def __init__(
        self,
        stage: Callable[[], EditStage],
        subjects: Subjects,
        editor: Editor,
        creator: Creator,
        editing: Workers,
        storing: Workers,
    ) -> None:
        """As EditServicer."""
        self._stage, self._subjects, self._editor = stage, subjects, editor
        self._creator, self._editing, self._storing = creator, editing, storing

    async def answers(
        self, request: pb.ReplayEditsRequest, context: CallContext
    ) -> AsyncIterator[pb.ReplayEditsResponse]:
        """One message per target, in their order."""
        check_alive(context)
        plan = await self._plan(request)
        for index, target in enumerate(request.targets):
            check_alive(context)
            try:
                head = await self._one(plan, index, target)
            except (CancelledError, DeadlineError):
                raise
            except HeadliftError as error:
                status = status_of(error)
                fault = pb.ReplayError(code=status.code, message=status.message, details=status.details)
                yield pb.ReplayEditsResponse(target_index=index, error=fault)
            else:
                yield pb.ReplayEditsResponse(target_index=index, head=head)

    async def _plan(self, request: pb.ReplayEditsRequest) -> _Plan:
        tenant = parse_parent(request.parent)
        check_range("targets", len(request.targets), 1, TARGETS_MAX)
        for i, target in enumerate(request.targets):
            if target.WhichOneof("target") is None:
                raise InvalidInputError("A target is neither head nor picture; give one.", field=f"targets[{i}]")
        if bool(request.source) == bool(request.edits):
            raise InvalidInputError("Give either source or edits.", field="source")
        request_id, durability = parse_request_id(request.request_id), parse_durability(request.durability)
        edits, field = list(request.edits), "edits"
        if request.source:
            name, field = parse_head(request.source, tenant, "source"), "source"
            edits = list((await self._storing.run(lambda _: self._subjects.history(name))).edits)
        steps = await self._storing.run(lambda _: parse_steps(edits, field))
        return _Plan(tenant, steps, request_id, body_sha256(request), durability)

    async def _one(self, plan: _Plan, index: int, target: pb.ReplayTarget) -> head_pb2.Head:
        field = f"targets[{index}]"
        # A target's own name for its share of the request, so that each is done once, however often all are asked for.
        own = f"{plan.request_id}-{index}" if plan.request_id else ""
        ordered = EditOrdered(plan.tenant, None, plan.steps, own, plan.body_sha256, plan.durability)
        if target.WhichOneof("target") == "head":
            return await self._edited(replace(ordered, head=parse_head(target.head, plan.tenant, f"{field}.head")))
        earlier = await self._creator.earlier(ordered)
        if earlier is not None:
            return earlier
        portrayed = parse_name((await self._created(plan, target.picture, field)).name)
        try:
            return await self._edited(replace(ordered, head=portrayed))
        except BaseException:  # also when cancelled: nobody has heard of this head
            await asyncio.shield(self._creator.discard(portrayed))
            raise

    async def _created(self, plan: _Plan, picture: bytes, field: str) -> head_pb2.Head:
        request = head_service.CreateHeadRequest(parent=f"tenants/{plan.tenant}", picture=picture)
        request.durability = (
            head_service.DURABILITY_HOT if plan.durability is Durability.HOT else head_service.DURABILITY_DURABLE
        )
        try:
            return await self._creator.create(request)
        except InvalidInputError as error:
            error.field = f"{field}.{error.field or 'picture'}"
            raise

    async def _edited(self, ordered: EditOrdered) -> head_pb2.Head:
        return await self._creator.make(
            ordered, lambda: self._editing.run(lambda token: self._editor.edit(ordered, self._stage(), token))
        )
