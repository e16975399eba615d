"""Sessions of browsers: a cookie that scripts cannot read; keys are never in URLs nor in the page.

Where the server requires no credentials, every browser is a tenant of its own, named by a hash of its cookie: what one
visitor uploads no other can see, and the server keeps no list. Where it requires keys, the visitor signs in with one,
which stays in this process.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.responses import Response

from headlift.client import AsyncHeadliftClient, Credentials
from headlift.errors import UnauthenticatedError
from headlift.serving.edge.auth import Caller

COOKIE = "headlift-session"
_TOKEN = re.compile("[A-Za-z0-9_-]{43}")
_YEAR_S = 365 * 86_400
_SIGNED_IN_S = 12 * 3600
_SIGNED_IN_MAX = 10_000


@dataclass(frozen=True)
class Visitor:
    """Who asks.

    Attributes:
        tenant: Whose heads these are.
        key: The credential that the edge checks; empty where none is required.
    """

    tenant: str
    key: str = field(default="", repr=False)

    def head(self, head: str) -> str:
        """The full name of a head of this visitor."""
        return f"tenants/{self.tenant}/heads/{head}"


class Sessions:
    """All visitors."""

    def __init__(self, address: str, caller: Callable[[Mapping[str, str]], Caller | None] | None) -> None:
        """``address`` is the gRPC server's; ``caller`` tells whose a credential is; None requires none."""
        self._address = address
        self._caller = caller
        self._signed_in: OrderedDict[str, tuple[Visitor, float]] = OrderedDict()  # by hash of the cookie

    @property
    def requires_key(self) -> bool:
        """Whether visitors must sign in."""
        return self._caller is not None

    def visitor(self, connection: HTTPConnection) -> Visitor:
        """Who asks. UnauthenticatedError: nobody that is known."""
        token = connection.cookies.get(COOKIE, "")
        if not _TOKEN.fullmatch(token):
            raise UnauthenticatedError("There is no session; open the editor again.", reason="NO_SESSION")
        name = hashlib.sha256(token.encode()).hexdigest()
        if self._caller is None:
            return Visitor(f"web-{name[:40]}")
        entry = self._signed_in.get(name)
        if entry is None or entry[1] < time.monotonic():
            raise UnauthenticatedError("Sign in with your API key.", reason="SIGN_IN")
        return entry[0]

    def client(self, visitor: Visitor) -> AsyncHeadliftClient:
        """A client that acts for a visitor; channels to one address share their connection."""
        return AsyncHeadliftClient(
            self._address, tenant=visitor.tenant, credentials=Credentials(api_key=visitor.key), timeout_s=600.0
        )

    def sign_in(self, key: str) -> str:
        """Check a credential and begin a session; its cookie's value.

        Raises:
            UnauthenticatedError: It is nobody's.
        """
        caller = self._caller({"authorization": f"Bearer {key}"}) if self._caller else None
        token = secrets.token_urlsafe(32)
        if caller is not None:
            visitor = Visitor(caller.tenant, key)
            self._signed_in[hashlib.sha256(token.encode()).hexdigest()] = visitor, time.monotonic() + _SIGNED_IN_S
            while len(self._signed_in) > _SIGNED_IN_MAX:
                self._signed_in.popitem(last=False)
        return token

    def sign_out(self, connection: HTTPConnection) -> None:
        """Forget the visitor's key."""
        token = connection.cookies.get(COOKIE, "")
        self._signed_in.pop(hashlib.sha256(token.encode()).hexdigest(), None)


def set_cookie(response: Response, token: str, connection: HTTPConnection, *, lasting: bool) -> None:
    """Set the session cookie."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=_YEAR_S if lasting else _SIGNED_IN_S,
        httponly=True,
        samesite="strict",
        secure=connection.url.scheme in ("https", "wss"),
    )


def new_token() -> str:
    """A session where no key is required."""
    return secrets.token_urlsafe(32)
