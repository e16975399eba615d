"""Resume tokens: all that a session is, signed, so that any server with the same store can go on with it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from headlift.errors import InvalidInputError
from headlift.gateway.paging import PageTokens
from headlift.v1 import live_pb2 as pb

_TOKEN_MAX = 16 << 10


@dataclass(frozen=True)
class Resumed:
    """What a token says."""

    session_id: str
    options: pb.LiveOpen


class ResumeTokens:
    """Makes and reads resume tokens with the signature of page tokens, under a name that no page has."""

    def __init__(self, tokens: PageTokens, valid_s: float, clock: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._valid_s = valid_s
        self._clock = clock

    def make(self, session_id: str, options: pb.LiveOpen) -> str:
        """A token for a session of ``options.parent``."""
        body = base64.b64encode(options.SerializeToString()).decode()
        expires = int(self._clock() + self._valid_s)
        return self._tokens.make(_scope(options.parent), f"{expires}.{session_id}.{body}")

    def read(self, parent: str, token: str) -> Resumed:
        """What ``make`` was given.

        Raises:
            InvalidInputError: Not a token of this parent (BAD_RESUME_TOKEN), or too old (RESUME_TOKEN_EXPIRED).
        """
        try:
            text = self._tokens.read(_scope(parent), token[:_TOKEN_MAX])
            expires, session_id, body = text.split(".")
            options = pb.LiveOpen.FromString(base64.b64decode(body))
        except (InvalidInputError, ValueError, DecodeError):
            raise InvalidInputError(
                "resume_token is not one that was given for this parent; open a new session.",
                reason="BAD_RESUME_TOKEN",
                field="open.resume_token",
            ) from None
        if float(expires) < self._clock():
            raise InvalidInputError(
                f"resume_token is older than {self._valid_s:g} s; open a new session.",
                reason="RESUME_TOKEN_EXPIRED",
                field="open.resume_token",
            )
        return Resumed(session_id, options)


def _scope(parent: str) -> str:
    return f"live\n{parent}"
