"""What a JPEG file holds besides its picture: found by walking its segments, and left out before a decoder sees it.

Phones put films, depth maps and further pictures behind the end of a JPEG, and notes of any bytes into it. Only the
segments from its start to its own end count. Segments: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_EOI = b"\xff\xd9"
_SOS, _ADOBE, _ICC, _EXIF_OR_XMP, _JFIF = 0xDA, 0xEE, 0xE2, 0xE1, 0xE0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_RESTARTS = range(0xD0, 0xD8)
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_MARKERS_MAX = 20_000  # bounds the time that a file of nothing but markers takes; pictures have some hundred
# Of coded data: a marker is neither a stuffed zero, nor a restart, nor fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


@dataclass(frozen=True)
class JpegFile:
    """One JPEG picture, without what stands behind or beside it.

    Attributes:
        data: The picture alone, with an end marker; comments and notes of applications left out.
        scan_count: Passes over the picture.
        is_ended: Whether the file had the end marker.
        has_all_passes: Whether the passes that are there make up a whole picture, each taken to be whole.
    """

    data: bytes
    scan_count: int
    is_ended: bool
    has_all_passes: bool


def parse_jpeg(data: bytes) -> JpegFile:
    """Walk the segments of a file that begins with a JPEG's start marker. Damage is left for the decoder to find."""
    kept: list[bytes] = [data[:2]]
    frame, scans = b"", []
    at, is_ended, is_whole = 2, False, True
    for _ in range(_MARKERS_MAX):
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            break
        marker = data[at + 1]
        if marker in _ALONE or marker in (0x00, 0xFF):
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI[1]:
            is_ended = True
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_whole = end <= len(data)
        body = data[at + 4 : end]
        if marker in _FRAMES:
            frame = bytes([marker]) + body
        elif marker == _SOS:
            scans.append(body)
            found = _MARKER.search(data, end)
            end = found.start() if found else len(data)
        if _is_needed(marker, body):
            kept.append(data[at:end])
        at = max(end, at + 2)
    if not is_ended and kept[-1].endswith(b"\xff"):  # half an end marker
        kept[-1] = kept[-1][:-1]
    return JpegFile(
        b"".join([*kept, _EOI]), len(scans), is_ended, is_whole and bool(scans) and _are_all_passes(frame, scans)
    )


def with_fillers(file: JpegFile) -> Iterator[bytes]:
    """The same picture with bytes before its end that change the first pixel for which its own do not suffice.

    Some of them: a filler may happen to begin with the bits that are missing. Restart markers go on in it, since
    pass over everything until the one that they expect.
    """
    last = max(file.data.rfind(b"\xff" + bytes([code])) for code in _RESTARTS)
    after = file.data[last + 1] - _RESTARTS[0] + 1 if last > file.data.rfind(b"\xff\xda") else 0
    for first in (0x9D, 0x62, 0xFE, 0x31):
        part = bytes([first, *((i * 197 + (i >> 3) * 31 + first) % 255 for i in range(2000))])  # no 0xFF, so no marker
        yield file.data[:-2] + b"".join(part + bytes([0xFF, _RESTARTS[(after + i) % 8]]) for i in range(8)) + _EOI


def _is_needed(marker: int, body: bytes) -> bool:
    """Whether a segment bears on how the picture looks."""
    if marker == _EXIF_OR_XMP:
        return body.startswith((b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"))
    if marker == _ICC:
        return body.startswith(b"ICC_PROFILE\0")
    if marker in (_JFIF, _ADOBE):
        return True
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _are_all_passes(frame: bytes, scans: Iterable[bytes]) -> bool:
    """Whether every coefficient of every component comes, to its last bit."""
    if len(frame) < 7:
        return False
    components = frame[7::3][: frame[6]]
    missing = {c: set(range(64)) for c in components}
    for scan in scans:
        count = scan[0] if scan else 0
        spectral = scan[1 + 2 * count : 4 + 2 * count]
        if len(spectral) < 3:
            return False
        first, last, bits = spectral
        if frame[0] not in _PROGRESSIVE:
            first, last, bits = 0, 63, 0
        for component in scan[1 : 1 + 2 * count : 2]:
            if bits & 15 == 0:
                missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())
