"""Page tokens: opaque, bound to one parent, and of no use once altered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from headlift.errors import InvalidInputError

_TAG_BYTES = 16


class PageTokens:
    """Makes and reads page tokens under one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, parent: str, after: str) -> str:
        """A token that continues behind ``after``."""
        body = after.encode()
        return base64.urlsafe_b64encode(self._tag(parent, body) + body).decode().rstrip("=")

    def read(self, parent: str, token: str) -> str:
        """What ``make`` was given; the empty token is the first page.

        Raises:
            InvalidInputError: Not a token of this server and this parent.
        """
        if not token:
            return ""
        try:
            data = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        tag, body = data[:_TAG_BYTES], data[_TAG_BYTES:]
        # base64 has several spellings of the same bytes; only the one that make() writes counts.
        if not hmac.compare_digest(tag, self._tag(parent, body)) or self.make(parent, body.decode()) != token:
            raise InvalidInputError(
                "page_token is not one that this server gave for this parent; begin again with an empty one.",
                reason="BAD_PAGE_TOKEN",
                field="page_token",
            )
        return body.decode()

    def _tag(self, parent: str, body: bytes) -> bytes:
        return hmac.digest(self._secret, parent.encode() + b"\0" + body, hashlib.sha256)[:_TAG_BYTES]
