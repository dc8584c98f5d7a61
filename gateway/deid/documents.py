"""Encapsulated documents (PS3.3 section A.45 and A.85): refused, or replaced where the profile says so.

Nobody can clean a PDF: it holds text, pictures, earlier versions, metadata and attachments, each in many encodings. So
a page of our own takes its place, and the object goes on standing for it, with its references and cleaned title. Of a
binary STL the mesh stays, numbers of a known layout; CDA documents and text formats of meshes are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Final

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid.policy import Refusal
from gateway.deid.values import elements_of, make, put, read

_CLASSES: Final = "1.2.840.10008.5.1.4.1.1.104."
_PDF, _STL = f"{_CLASSES}1", f"{_CLASSES}3"
_CLASS_UID: Final = 0x00080016
_BURNED_IN: Final = 0x00280301
#: The attribute that holds the document.
DOCUMENT: Final = BaseTag(0x00420011)
_MIME_TYPE: Final = 0x00420012
_MIME_TYPES: Final = BaseTag(0x00420014)
_LENGTH: Final = 0x00420015

#: A binary STL: a header of any content, the count of triangles, and for each its normal and corners as 12 floats and
#: two bytes that applications use as they like.
_STL_HEADER_BYTES: Final = 80
_TRIANGLE_BYTES, _FLOATS_BYTES = 50, 48

_LINES: Final = (
    "The document that was here has been removed",
    "by de-identification (DICOM PS3.15 Annex E).",
)
#: A4 in points; an inch from the edge the text is on US Letter, too.
_PAGE: Final = "0 0 595 842"
_TEXT_AT: Final = "72 720"
_ESCAPED: Final = str.maketrans({"(": r"\(", ")": r"\)", "\\": r"\\"})


@dataclass(frozen=True, slots=True)
class Document:
    """What takes the place of a document."""

    content: bytes
    mime_type: str

    def put(self, ds: Dataset) -> None:
        """Put it into a data set that is otherwise de-identified."""
        padding = b"\0" * (len(self.content) % 2)
        put(ds, make(DOCUMENT, "OB", self.content + padding))
        put(ds, make(_MIME_TYPE, "LO", self.mime_type))
        put(ds, make(_LENGTH, "UL", len(self.content)))


def is_encapsulated(ds: Dataset) -> bool:
    """Whether an object is an encapsulated document."""
    return read(ds, _CLASS_UID).strip().startswith(_CLASSES)


def replace_document(ds: Dataset, policy: str) -> Document:
    """Take the document out of an object, and return what is to take its place.

    Raises
    ------
    Refusal : if `policy` is not `replace`, or the document is of a kind that nothing can stand for.
    """
    sop_class = read(ds, _CLASS_UID).strip()
    if policy != "replace":
        raise Refusal("Encapsulated documents cannot be de-identified.")
    element = elements_of(ds).get(DOCUMENT)
    original = element.value if element is not None else None
    if sop_class == _PDF:
        document = Document(notice(), "application/pdf")
    elif sop_class == _STL and isinstance(original, bytes):
        document = Document(_bare_mesh(original), "model/stl")
    else:
        raise Refusal("Encapsulated documents other than PDF and binary STL cannot be de-identified.")
    elements_of(ds).pop(_MIME_TYPES, None)
    put(ds, make(DOCUMENT, "OB", b""))
    put(ds, make(_BURNED_IN, "CS", "NO"))  # what the original showed is gone
    return document


def _bare_mesh(stl: bytes) -> bytes:
    """A binary STL with nothing but its triangles; raise Refusal if it is none."""
    start = _STL_HEADER_BYTES + 4
    count = int.from_bytes(stl[_STL_HEADER_BYTES:start], "little")
    end = start + count * _TRIANGLE_BYTES
    if len(stl) < start or not end <= len(stl) <= end + 1 or stl[end:].strip(b"\0"):
        raise Refusal("The encapsulated STL is not a well-formed binary one.")
    mesh = bytearray(_STL_HEADER_BYTES) + stl[_STL_HEADER_BYTES:end]
    for offset in (_FLOATS_BYTES, _FLOATS_BYTES + 1):
        mesh[start + offset : end : _TRIANGLE_BYTES] = bytes(count)
    if not all(map(_is_finite, struct.iter_unpack("<12f2x", memoryview(mesh)[start:]))):
        raise Refusal("The encapsulated STL holds what is no number.")
    return bytes(mesh)


def _is_finite(numbers: tuple[float, ...]) -> bool:
    return all(number - number == 0 for number in numbers)


@cache
def notice() -> bytes:
    """A PDF of one page that says that a document was removed (ISO 32000-1, made by hand: no metadata, no dates)."""
    text = f"BT /F 14 Tf 20 TL {_TEXT_AT} Td " + " ".join(f"({line.translate(_ESCAPED)}) Tj T*" for line in _LINES)
    stream = f"{text} ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [{_PAGE}] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    written, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj\n{content}\nendobj\n"
    entries = "".join(f"{place:010d} 00000 n \n" for place in places)
    start = len(written)
    written += f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{entries}"
    written += f"trailer\n<< /Size {len(places) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return written.encode("ascii")
