"""One HTML file that shows a head: opened by a double click, without network, program or account.

The page holds the head as SPZ (version 3, base64) and a viewer of our own (``viewer/``: WebGL 2, sorting on a worker).
Its content security policy allows the one script and the one style by their hashes, the worker, and nothing else: it
can fetch nothing and send nothing. ``#yaw,pitch,distance`` behind its address (degrees, metres) chooses the first view.
The reader takes the SPZ out again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
from importlib import resources

from headlift.errors import FormatError
from headlift.formats import spz
from headlift.formats.axes import Frame
from headlift.formats.cloud import GENERATOR, MAX_GAUSSIANS, Cloud, Metadata

MAGIC = b"<!doctype html>"
DEFAULT_TITLE = "A head by Headlift"

_OPEN, _CLOSE = b'<script id="head" type="text/plain">', b"</script>"
_MAX_TITLE = 200  # characters
_BITS = 16  # of positions after the point: 15 micrometres


def encode(cloud: Cloud, *, title: str = DEFAULT_TITLE) -> bytes:
    """A page that shows the head.

    Args:
        cloud: Gaussians in any frame.
        title: Of the page; plain text.

    Raises:
        FormatError: The title is longer than 200 characters.
    """
    if len(title) > _MAX_TITLE:
        raise FormatError(f"title has {len(title)} characters; at most {_MAX_TITLE} are taken.", field="title")
    script, style = _part("viewer.js"), _part("viewer.css")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; worker-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = base64.b64encode(spz.encode(cloud, version=3, fraction_bits=_BITS)).decode("ascii")
    page = _part("viewer.html")
    values = {
        "policy": policy, "generator": GENERATOR, "title": html.escape(title), "style": style, "head": head,
        "script": script,
    }  # fmt: skip
    before, *rest = page.split("{")
    parts = [before]
    for piece in rest:  # one pass: what is put in is not searched for names
        name, _, after = piece.partition("}")
        parts += [values[name], after]
    return "".join(parts).encode()


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of a page that ``encode`` has written.

    Args:
        data: The file.
        frame: Frame of its coordinates; None takes that of its SPZ.
        max_gaussians: Refuse pages that announce more.

    Raises:
        FormatError: A page of others, cut off, damaged, or too large.
    """
    start = data.find(_OPEN)
    end = data.find(_CLOSE, start)
    if start < 0 or end < 0:
        raise FormatError("The HTML file holds no head; only pages that Headlift has written can be read.")
    try:
        packed = base64.b64decode(data[start + len(_OPEN) : end], validate=True)
    except binascii.Error:
        raise FormatError("The head in the HTML file is damaged; fetch the file again.") from None
    cloud, metadata = spz.decode(packed, frame=frame, max_gaussians=max_gaussians)
    return cloud, Metadata("html", "1", metadata.count, metadata.frame, _generator(data), metadata.sh_degree)


def _part(name: str) -> str:
    return (resources.files("headlift.formats") / "viewer" / name).read_text("utf-8").removesuffix("\n")


def _hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _generator(data: bytes) -> str:
    mark = b'<meta name="generator" content="'
    at = data[:4096].find(mark)
    return data[at + len(mark) : 4096].split(b'"')[0].decode("utf-8", errors="replace")[:200] if at >= 0 else ""
