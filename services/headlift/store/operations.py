"""Long-running operations in the store: request, progress, and the result of each item.

Below ``tenants/{tenant}/operations/{id}/`` lie ``record`` and ``digest``, and until the operation ends ``request``,
``begun/NNNNN`` and ``items/NNNNN``, and ``cancel`` where that was asked for. ``system/operations/{tenant}.{id}`` marks
an operation that has not ended: it is written before the record and removed last, so that a server that starts finds
every operation to resume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.longrunning import operations_pb2

from headlift.errors import NotFoundError
from headlift.store.sealed import SealedStore
from headlift.v1 import batch_service_pb2 as pb

_PENDING = "system/operations"


@dataclass(frozen=True)
class OperationName:
    """The two halves of ``tenants/{tenant}/operations/{operation}``."""

    tenant: str
    operation: str

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/operations/{self.operation}"


class OperationStore:
    """Operations of all tenants. Every method may raise StoreError."""

    def __init__(self, store: SealedStore) -> None:
        self._store = store

    def begin(
        self,
        name: OperationName,
        operation: operations_pb2.Operation,
        request: pb.BatchCreateHeadsRequest,
        body_sha256: str,
    ) -> None:
        """Store a new operation; from here on some server will finish it, even if this process dies."""
        self._store.put(f"{name}/digest", body_sha256.encode(), "digest")
        self._store.put(f"{name}/request", request.SerializeToString(deterministic=True), "request")
        self._store.put(_pending(name), str(name).encode(), "name")
        self.put(name, operation)

    def put(self, name: OperationName, operation: operations_pb2.Operation) -> None:
        """Store an operation's progress."""
        self._store.put(f"{name}/record", operation.SerializeToString(), "op")

    def get(self, name: OperationName) -> operations_pb2.Operation:
        """An operation. NotFoundError: there is none."""
        payload = self._store.get(f"{name}/record", "op")
        if payload is None:
            raise NotFoundError(
                f"{name} does not exist; ListOperations names those that do.", metadata={"resource": str(name)}
            )
        return operations_pb2.Operation.FromString(payload)

    def request(self, name: OperationName) -> pb.BatchCreateHeadsRequest | None:
        """The request; None once the operation has ended."""
        payload = self._store.get(f"{name}/request", "request")
        return None if payload is None else pb.BatchCreateHeadsRequest.FromString(payload)

    def body_sha256(self, name: OperationName) -> str:
        """The digest that ``begin`` was given."""
        return (self._store.get_whole(f"{name}/digest", "digest") or b"").decode()

    def begin_item(self, name: OperationName, index: int, attempt: int) -> None:
        """Store that an attempt at an item has begun."""
        self._store.put(f"{name}/begun/{index:05d}", str(attempt).encode(), "count")

    def begun(self, name: OperationName, index: int) -> int:
        """How many attempts at an item have begun."""
        return int(self._store.get_whole(f"{name}/begun/{index:05d}", "count") or 0)

    def finish_item(self, name: OperationName, result: pb.BatchHeadResult) -> None:
        """Store the result of an item."""
        self._store.put(f"{name}/items/{result.index:05d}", result.SerializeToString(), "result")

    def results(self, name: OperationName) -> dict[int, pb.BatchHeadResult]:
        """Results so far, by index; an item whose result is damaged is done again."""
        notes = (self._store.get_whole(key, "result") for key in list(self._store.list(f"{name}/items")))
        found = (pb.BatchHeadResult.FromString(note) for note in notes if note is not None)
        return {result.index: result for result in found}

    def ask_to_cancel(self, name: OperationName) -> None:
        """Ask the server that runs the operation to cancel it."""
        self._store.put(f"{name}/cancel", b"", "flag")

    def cancel_asked(self, name: OperationName) -> bool:
        """Whether ``ask_to_cancel`` was called."""
        return self._store.exists(f"{name}/cancel")

    def end(self, name: OperationName, operation: operations_pb2.Operation) -> None:
        """Store how an operation ended, and delete its request and its items' results."""
        self.put(name, operation)
        for part in ("items", "begun"):
            self._store.delete_all(f"{name}/{part}")
        for part in ("request", "cancel"):
            self._store.delete(f"{name}/{part}")
        self._store.delete(_pending(name))

    def delete(self, name: OperationName) -> None:
        """Delete an operation that has ended; the heads that it made stay."""
        self._store.delete(f"{name}/record")
        self._store.delete_all(str(name))

    def list(self, tenant: str, *, after: str = "", limit: int) -> list[operations_pb2.Operation]:
        """Up to ``limit`` operations whose id sorts behind ``after``."""
        found: list[operations_pb2.Operation] = []
        for key in self._store.list(f"tenants/{tenant}/operations"):
            *_, operation, blob = key.split("/")
            if blob != "record" or operation <= after:
                continue
            found.append(self.get(OperationName(tenant, operation)))
            if len(found) == limit:
                break
        return found

    def is_pending(self, name: OperationName) -> bool:
        """Whether an operation has not ended."""
        return self._store.exists(_pending(name))

    def pending(self) -> Iterator[OperationName]:
        """Operations that have not ended, of all tenants."""
        for key in list(self._store.list(_PENDING)):
            tenant, _, operation = key.rsplit("/", 1)[-1].partition(".")
            yield OperationName(tenant, operation)


def _pending(name: OperationName) -> str:
    return f"{_PENDING}/{name.tenant}.{name.operation}"
