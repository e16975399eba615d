"""Validation of batch requests, and the portraits that they contain."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from headlift.errors import InvalidInputError
from headlift.gateway import validation
from headlift.media.clip import FRAMES_MAX, Stride, frames
from headlift.store.operations import OperationName
from headlift.v1 import batch_service_pb2 as pb
from headlift.v1 import head_service_pb2

ITEMS_MAX = 1000
_NAME = re.compile("tenants/([a-z0-9][a-z0-9-]{0,62})/operations/([a-z0-9][a-z0-9-]{0,62})")


@dataclass(frozen=True)
class BatchItem:
    """One portrait of a batch.

    Attributes:
        result: Its result so far: the index, and the frame of a clip.
        request: The CreateHead request of it.
    """

    result: pb.BatchHeadResult
    request: head_service_pb2.CreateHeadRequest


def parse_batch(request: pb.BatchCreateHeadsRequest, picture_bytes_max: int) -> str:
    """The tenant of a request that is valid as a whole.

    Raises:
        InvalidInputError: A field is missing, out of range or contradicts another.
    """
    tenant = validation.parse_parent(request.parent)
    validation.parse_request_id(request.request_id)
    if bool(request.requests) == request.HasField("clip"):
        raise InvalidInputError("Give either requests or clip.", field="requests")
    if request.HasField("clip"):
        _check_clip(request)
        return tenant
    validation.check_range("requests", len(request.requests), 1, ITEMS_MAX)
    for i, one in enumerate(request.requests):
        field = f"requests[{i}]"
        if one.parent not in ("", request.parent):
            raise InvalidInputError(f"{field}.parent must be the batch's, or empty.", field=f"{field}.parent")
        if one.request_id or one.validate_only:
            raise InvalidInputError(f"{field} has a request_id or validate_only; leave them out.", field=field)
        try:
            # A picture that is empty or too large fails its item alone; all else fails the request.
            probe = head_service_pb2.CreateHeadRequest()
            probe.CopyFrom(one)
            probe.parent, probe.picture = request.parent, b"-"
            validation.parse_creation(probe, refine_steps_default=0, picture_bytes_max=picture_bytes_max)
        except InvalidInputError as error:
            error.field = f"{field}.{error.field}" if error.field else field
            raise
    return tenant


def items_of(request: pb.BatchCreateHeadsRequest, name: OperationName) -> Iterator[BatchItem]:
    """The portraits of a checked request, in order.

    Raises:
        UnreadablePictureError: The clip is none.
        PictureTooLargeError: The clip's frames are too large.
    """
    if request.HasField("clip"):
        yield from _frames_of(request, name)
        return
    for index, given in enumerate(request.requests):
        one = head_service_pb2.CreateHeadRequest()
        one.CopyFrom(given)
        one.parent, one.request_id = request.parent, _request_id(name, index)
        yield BatchItem(pb.BatchHeadResult(index=index), one)


def count_items(request: pb.BatchCreateHeadsRequest) -> int:
    """Portraits in a checked request; a clip is decoded for it. Raises as ``items_of``; InvalidInputError: none."""
    if not request.HasField("clip"):
        return len(request.requests)
    count = sum(1 for _ in frames(request.clip.video, _stride(request.clip)))
    if not count:
        raise InvalidInputError("The clip has no frame that can be read.", field="clip.video")
    return count


def operation_name(tenant: str, request_id: str) -> OperationName:
    """The name of the operation of a request: the same id names the same operation, for ever."""
    seed = f"{tenant}/{validation.parse_request_id(request_id) or uuid.uuid4()}"
    return OperationName(tenant, f"b{hashlib.sha256(seed.encode()).hexdigest()[:30]}")


def parse_operation(name: str) -> OperationName:
    """The parts of ``tenants/{tenant}/operations/{operation}``."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"name is {name[:200]!r}; write tenants/TENANT/operations/OPERATION as BatchCreateHeads gives it.",
            field="name",
        )
    return OperationName(match[1], match[2])


def body_sha256(request: pb.BatchCreateHeadsRequest) -> str:
    """Hash of a request without its id."""
    body = pb.BatchCreateHeadsRequest()
    body.CopyFrom(request)
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()


def _check_clip(request: pb.BatchCreateHeadsRequest) -> None:
    clip = request.clip
    if not clip.video:
        raise InvalidInputError("clip.video is empty; send the bytes of a video file.", field="clip.video")
    validation.check_range("clip.frame_step", clip.frame_step, 0, FRAMES_MAX)
    validation.check_range("clip.frame_count_max", clip.frame_count_max, 0, ITEMS_MAX)
    try:
        probe = _creation_of(request, b"-")
        validation.parse_creation(probe, refine_steps_default=0, picture_bytes_max=1)
    except InvalidInputError as error:
        error.field = f"clip.{error.field}"
        raise


def _frames_of(request: pb.BatchCreateHeadsRequest, name: OperationName) -> Iterator[BatchItem]:
    for index, frame in enumerate(frames(request.clip.video, _stride(request.clip))):
        one = _creation_of(request, frame.png())
        one.request_id = _request_id(name, index)
        yield BatchItem(pb.BatchHeadResult(index=index, frame_index=frame.index, time_s=frame.time_s), one)


def _creation_of(request: pb.BatchCreateHeadsRequest, picture: bytes) -> head_service_pb2.CreateHeadRequest:
    clip = request.clip
    one = head_service_pb2.CreateHeadRequest(
        parent=request.parent, picture=picture, several_faces=clip.several_faces, durability=clip.durability
    )
    if clip.HasField("refine_steps"):
        one.refine_steps = clip.refine_steps
    return one


def _stride(clip: pb.Clip) -> Stride:
    return Stride(clip.frame_step or 1, clip.frame_count_max or ITEMS_MAX)


def _request_id(name: OperationName, index: int) -> str:
    """Names an item's creation, so that an operation that goes on after a crash makes no head a second time."""
    digest = hashlib.sha256(f"{name}/{index}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
