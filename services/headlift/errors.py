"""Every error that Headlift raises on purpose.

The tree::

    HeadliftError
    ├── InvalidInputError          the caller can mend it        INVALID_ARGUMENT
    │   ├── UnreadablePictureError     not a picture, truncated, animated, hostile
    │   ├── PictureTooLargeError       over the byte, pixel or time limit
    │   ├── NoFaceError                nothing that looks like a head
    │   ├── SeveralFacesError          several faces and the caller asked to refuse
    │   ├── InvalidCameraError         singular matrix, bad field of view, size out of range
    │   ├── InvalidGaussiansError      wrong shape, not finite, out of range
    │   └── FormatError                a file or message that is not what it claims to be
    ├── NotFoundError              no such thing (or not yours)  NOT_FOUND
    ├── ConflictError              request_id reused, name taken ALREADY_EXISTS
    ├── UnauthenticatedError       no credential, or a bad one   UNAUTHENTICATED
    ├── PermissionDeniedError      known, but not for this       PERMISSION_DENIED
    ├── WeightsError               a network cannot be loaded    FAILED_PRECONDITION
    │   ├── MissingWeightsError        the file is not there: says which, and where to get it
    │   ├── CorruptWeightsError        the file is there, its hash or layout is wrong
    │   └── IncompatibleWeightsError   a checkpoint of another configuration
    ├── BackendUnavailableError    nothing can compute this here FAILED_PRECONDITION
    │   └── MissingExtraError          a Python package of one of headlift's extras is not installed
    ├── OverloadedError            come back later               RESOURCE_EXHAUSTED
    │   └── RateLimitError             the tenant asks too often, by its own limits
    ├── QuotaError                 the tenant has all it may     RESOURCE_EXHAUSTED
    ├── StoreError                 the store failed              UNAVAILABLE
    │   ├── CorruptBlobError           a checksum does not match    DATA_LOSS
    │   └── StoreFullError             no space left                RESOURCE_EXHAUSTED
    ├── StageUnavailableError      who computed went away        UNAVAILABLE
    ├── DeadlineError              the time given is over        DEADLINE_EXCEEDED
    ├── CancelledError             the caller went away          CANCELLED
    └── ServerError                the server's answer, as the client saw it

A message names the value, the limit and the way out, and holds nothing about the machine it was
raised on: messages reach clients word for word.
"""

from __future__ import annotations

from collections.abc import Mapping


class HeadliftError(Exception):
    """Base of the tree.

    Attributes:
        message: One or two sentences: value, limit, way out.
        reason: Stable machine-readable name, UPPER_SNAKE_CASE; goes into ``google.rpc.ErrorInfo``.
        metadata: Further facts for machines, all strings.
        field: The request field at fault, if one is, as a dotted path.
    """

    code = "INTERNAL"
    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.metadata = dict(metadata or {})


class InvalidInputError(HeadliftError):
    """The request cannot be served as it stands; the caller can mend it."""

    code = "INVALID_ARGUMENT"
    default_reason = "INVALID_INPUT"


class UnreadablePictureError(InvalidInputError):
    """The bytes are not a still picture that can be decoded."""

    default_reason = "UNREADABLE_PICTURE"


class PictureTooLargeError(InvalidInputError):
    """The picture is over a limit on bytes, pixels or decode time."""

    default_reason = "PICTURE_TOO_LARGE"


class NoFaceError(InvalidInputError):
    """No face was found in the picture."""

    default_reason = "NO_FACE"


class SeveralFacesError(InvalidInputError):
    """Several faces were found and the caller asked to refuse such pictures."""

    default_reason = "SEVERAL_FACES"


class InvalidCameraError(InvalidInputError):
    """A camera that no picture can be taken with."""

    default_reason = "INVALID_CAMERA"


class InvalidGaussiansError(InvalidInputError):
    """Gaussians of wrong shape, not finite, or out of range."""

    default_reason = "INVALID_GAUSSIANS"


class FormatError(InvalidInputError):
    """A file or message that is not what it claims to be."""

    default_reason = "BAD_FORMAT"


class NotFoundError(HeadliftError):
    """The named thing does not exist, or belongs to somebody else."""

    code = "NOT_FOUND"
    default_reason = "NOT_FOUND"


class ConflictError(HeadliftError):
    """The request contradicts an earlier one."""

    code = "ALREADY_EXISTS"
    default_reason = "CONFLICT"


class UnauthenticatedError(HeadliftError):
    """No credential came with the call, or it is wrong, expired or revoked."""

    code = "UNAUTHENTICATED"
    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(HeadliftError):
    """The credential is good but does not allow this."""

    code = "PERMISSION_DENIED"
    default_reason = "PERMISSION_DENIED"


class WeightsError(HeadliftError):
    """A network's weights cannot be used."""

    code = "FAILED_PRECONDITION"
    default_reason = "WEIGHTS"


class MissingWeightsError(WeightsError):
    """The weights file is absent; the message says which file and where to get it."""

    default_reason = "MISSING_WEIGHTS"


class CorruptWeightsError(WeightsError):
    """The weights file is present but its hash, layout or content is wrong."""

    default_reason = "CORRUPT_WEIGHTS"


class IncompatibleWeightsError(WeightsError):
    """The checkpoint belongs to another configuration; the message names both."""

    default_reason = "INCOMPATIBLE_WEIGHTS"


class BackendUnavailableError(HeadliftError):
    """A compute backend was asked for that this machine does not have."""

    code = "FAILED_PRECONDITION"
    default_reason = "BACKEND_UNAVAILABLE"


class MissingExtraError(BackendUnavailableError):
    """A Python package is not installed; the message names the extra that brings it."""

    default_reason = "MISSING_EXTRA"


class OverloadedError(HeadliftError):
    """The server has more work than it can take; retry after ``retry_after_s`` seconds."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message, metadata=metadata)
        self.retry_after_s = retry_after_s


class RateLimitError(OverloadedError):
    """The tenant is over its own rate; the server itself may have room."""

    default_reason = "RATE_LIMITED"


class QuotaError(HeadliftError):
    """The tenant has all that it may have; waiting does not help, deleting or a larger quota does."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "QUOTA_EXCEEDED"


class StoreError(HeadliftError):
    """The store could not do what was asked."""

    code = "UNAVAILABLE"
    default_reason = "STORE_UNAVAILABLE"


class CorruptBlobError(StoreError):
    """A stored blob does not match its checksum."""

    code = "DATA_LOSS"
    default_reason = "CORRUPT_BLOB"


class StoreFullError(StoreError):
    """The store has no space left; nothing was written."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "STORE_FULL"


class StageUnavailableError(HeadliftError):
    """Whoever computed a stage went away, and so did the one that was asked instead; nothing was stored."""

    code = "UNAVAILABLE"
    default_reason = "STAGE_UNAVAILABLE"


class DeadlineError(HeadliftError):
    """The time that the caller gave is over."""

    code = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class CancelledError(HeadliftError):
    """The caller cancelled; the work was stopped."""

    code = "CANCELLED"
    default_reason = "CANCELLED"


class ServerError(HeadliftError):
    """A server's refusal as the client SDK saw it, when no closer class above fits."""

    code = "UNKNOWN"
    default_reason = "SERVER_ERROR"
