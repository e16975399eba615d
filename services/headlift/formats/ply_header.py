"""The text on top of a PLY file: its elements, their counts and layouts, its comments.

Nothing but the text is looked at, and of it no more than a fixed length; counts are only compared with what is there.
Format: Turk 1994.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats.axes import Frame, parse_frame

MAGIC = b"ply"

_MAX_HEADER = 65536  # bytes
_MAX_PROPERTIES = 1024
_END = re.compile(rb"^end_header\r?\n", re.MULTILINE)
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{
        "char": "i1",
        "uchar": "u1",
        "short": "i2",
        "ushort": "u2",
        "int": "i4",
        "uint": "u4",
        "float": "f4",
        "double": "f8",
    },
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "float64": "f8"},
}


@dataclass(frozen=True)
class Element:
    """An element as announced."""

    name: str
    count: int
    properties: list[list[str]]  # the words of their lines

    @property
    def names(self) -> list[str]:
        """Names of the properties that are plain numbers."""
        return [line[2] for line in self.properties if len(line) == 3]


@dataclass(frozen=True)
class Header:
    """What the text on top says."""

    elements: list[Element]
    offset: int  # bytes from the start of the file to the first row
    frame: Frame | None
    generator: str
    order: str  # NumPy's letter for the byte order

    def element(self, name: str) -> Element | None:
        """The element of that name, None where there is none."""
        return next((element for element in self.elements if element.name == name), None)

    def row(self, element: Element) -> np.dtype[np.void]:
        """Layout of one row of an element; a FormatError where it has lists or types that are not known."""
        return _row(element, self.order)

    def rows(self, data: bytes, name: str) -> NDArray[np.void]:
        """Rows of an element, as views of ``data``.

        Raises:
            FormatError: There is no such element, the file is too short for it, or it or one before it has lists.
        """
        offset = self.offset
        for element in self.elements:
            row = _row(element, self.order)
            need = element.count * row.itemsize
            if element.name != name:
                offset += need
                continue
            left = max(len(data) - offset, 0)
            if left < need:
                raise FormatError(
                    f"The PLY file holds {left:,} bytes of {'vertices' if name == 'vertex' else name + ' rows'}; "
                    f"{element.count:,} of them take {need:,}. It was cut off; fetch it again."
                )
            return np.frombuffer(data, row, element.count, offset)
        raise FormatError(f"The PLY file has no element called {name}; a 3DGS splat file is needed.")


def parse_header(data: bytes) -> Header:
    """The header of a binary PLY file.

    Raises:
        FormatError: Not PLY, a text file, or a header that is damaged or too long.
    """
    if not data.startswith((b"ply\n", b"ply\r\n")):
        raise FormatError("These bytes do not start with 'ply'; they are not a PLY file.")
    end = _END.search(data, 0, _MAX_HEADER)
    if end is None:
        raise FormatError(
            f"The PLY header has no end_header within {_MAX_HEADER:,} bytes; the file is cut off or not PLY."
        )
    lines = data[: end.start()].decode("ascii", errors="replace").splitlines()[1:]
    words = [line.split() for line in lines if line.strip()]
    notes = [line[8:].strip() for line in lines if line.startswith("comment ")]
    return Header(
        _elements(words), end.end(), _noted_frame(notes), _noted(notes, "generator")[:200], _byte_order(words)
    )


def _byte_order(words: list[list[str]]) -> str:
    """NumPy's letter for the file's byte order."""
    name = next((w[1] for w in words if w[0] == "format" and len(w) > 1), "")
    if name not in _ORDERS:
        raise FormatError(f"The PLY format is {name[:32]!r}; binary_little_endian is needed. Save it as binary.")
    return _ORDERS[name]


def _elements(words: list[list[str]]) -> list[Element]:
    """Every element: its name, its count, its property lines."""
    elements: list[Element] = []
    for line in words:
        if line[0] == "element":
            # 18 digits hold any honest count, and stay far from Python's limit on parsing integers.
            if len(line) != 3 or not re.fullmatch(r"[0-9]{1,18}", line[2]):
                raise FormatError(f"A PLY element is announced as {' '.join(line)[:64]!r}; name and count are needed.")
            elements.append(Element(line[1], int(line[2]), []))
        elif line[0] == "property":
            if not elements:
                raise FormatError("A PLY property stands before any element; the header is damaged.")
            elements[-1].properties.append(line)
    return elements


def _row(element: Element, order: str) -> np.dtype[np.void]:
    """Layout of one row of an element."""
    if len(element.properties) > _MAX_PROPERTIES:
        raise FormatError(
            f"A PLY element has {len(element.properties)} properties; at most {_MAX_PROPERTIES} are read."
        )
    fields: dict[str, str] = {}
    for line in element.properties:
        if len(line) != 3 or line[1] not in _TYPES or line[2] in fields:
            raise FormatError(
                f"PLY element {element.name[:32]!r} has a property {' '.join(line[1:])[:64]!r} that is a list, twice "
                "there or of no known type; only plain numbers can be read."
            )
        fields[line[2]] = order + _TYPES[line[1]]
    return np.dtype(list(fields.items()))


def _noted(notes: list[str], key: str) -> str:
    """Text after the first comment that starts with ``key``; empty where there is none."""
    return next((note[len(key) + 1 :].strip() for note in notes if note.startswith(f"{key} ")), "")


def _noted_frame(notes: list[str]) -> Frame | None:
    """Frame that a comment of ours names; a comment of that form with an unknown frame is refused."""
    match = re.match(r"[A-Z]{3}(?=:)", _noted(notes, "frame"))
    return parse_frame(match.group()) if match else None
