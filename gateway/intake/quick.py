"""pydicom's data set for a profile to work on, from elements of Explicit VR Little Endian and back to them.

As pydicom reads and writes it, but for the time: nothing is decoded, and what cannot be left so is `Unusual`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from dicomweb.resource import is_uid
from gateway.deid.values import elements_of, tag_of
from gateway.intake.elements import CHARACTER_SET, VRS, Elements, Encodings, Unusual, character_set, element_head
from gateway.intake.header import SHORT_VRS, Place

_DELIMITERS = 0xFFFE0000
_VRS_BY_NAME = {name: vr for vr, name in VRS.items()}
#: Text to which Specific Character Set does not apply (PS3.5 section 6.1.2.3).
_ASCII_VRS = frozenset(b"AE AS CS DA DS DT IS TM UI UR".split())
#: How pydicom reads what is empty.
_EMPTY: dict[bytes, Any] = {vr: empty_value_for_VR(name, raw=True) for vr, name in VRS.items()}
_UTF8 = "ISO_IR 192"
_UTF8_BYTES, _UTF8_CODECS = _UTF8.encode("ascii"), convert_encodings(_UTF8)
_NUMBER = itemgetter(0)
_SHORT_HEAD, _LONG_HEAD = struct.Struct("<HH2sH"), struct.Struct("<HH2sHL")


def read(data: bytes, places: Iterable[Place], elements: Elements) -> Dataset:
    """The data set of these elements, group lengths and file meta left out; raise Unusual."""
    found: dict[BaseTag, RawDataElement | DataElement] = {}
    encodings: Encodings = (default_encoding,)
    start = 0
    for tag, vr, value, end in places:
        if tag >= _DELIMITERS:
            raise Unusual
        if tag & 0xFFFF and tag >> 16 > 2:
            content = data[value:end]
            if data[value - 4 : value] == b"\xff\xff\xff\xff":
                content = _defined(elements, tag, vr, data[start:end], encodings)
            elif tag == CHARACTER_SET:
                encodings = character_set(data[start:end], vr)[1]
            known = tag_of(tag)
            found[known] = RawDataElement(known, VRS[vr], len(content), content or _EMPTY[vr], 0, False, True)
        start = end
    ds = Dataset(found)
    ds.set_original_encoding(False, True, list(encodings))
    return ds


def uid(ds: Dataset, tag: int) -> str:
    """A UID of a data set, its element left undecoded; raise Unusual if it is no plain one."""
    element = elements_of(ds).get(tag_of(tag))
    value = element.value if isinstance(element, RawDataElement) else None
    text = value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""
    if not is_uid(text):
        raise Unusual
    return text


def write(ds: Dataset) -> tuple[bytes, list[Place]]:
    """Encode a data set that says that its text is in UTF-8, undecoded text included; raise Unusual."""
    elements = elements_of(ds)
    named = elements.get(tag_of(CHARACTER_SET))
    if ds.original_encoding != (False, True) or ds.original_character_set != _UTF8_CODECS:
        raise Unusual
    if not isinstance(named, RawDataElement) or named.value != _UTF8_BYTES:  # to decode it takes a tenth of the time
        raise Unusual
    out: list[bytes] = []
    places: list[Place] = []
    at = 0
    # by number: to compare pydicom's tags takes as long as all the rest
    for tag, element in sorted(zip(map(int, elements), elements.values(), strict=True), key=_NUMBER):
        if isinstance(element, RawDataElement):
            if element.is_implicit_VR or not element.is_little_endian:
                raise Unusual
            content = element.value or b""
            vr, head = _head(tag, element.VR or "", len(content))
        else:
            vr, head, content = _written(element)
        out += (head, content)
        start = at + len(head)
        at = start + len(content)
        places.append((tag, vr, start, at))
    return b"".join(out), places


@lru_cache(8192)
def _head(tag: int, name: str, length: int) -> tuple[bytes, bytes]:
    """VR and header of an undecoded element."""
    vr = _VRS_BY_NAME.get(name)
    if vr is None or (vr in SHORT_VRS and length > 0xFFFF):
        raise Unusual
    group, number = tag >> 16, tag & 0xFFFF
    if vr in SHORT_VRS:
        return vr, _SHORT_HEAD.pack(group, number, vr, length)
    return vr, _LONG_HEAD.pack(group, number, vr, 0, length)


def _written(element: DataElement) -> tuple[bytes, bytes, bytes]:
    """VR, header and value of a decoded element."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    try:
        write_data_element(out, element, _UTF8)
    except Exception as exc:
        raise Unusual from exc
    encoded = out.getvalue()
    _, vr, _, start = element_head(encoded, 0)
    if vr in _ASCII_VRS and not encoded[start:].isascii():  # pydicom read it in a character set and writes it in none
        raise Unusual
    return vr, encoded[:start], encoded[start:]


def _defined(elements: Elements, tag: int, vr: bytes, raw: bytes, encodings: Encodings) -> bytes:
    """The value of a sequence of undefined length as one of defined length."""
    if vr != b"SQ":
        raise Unusual
    return elements.defined(tag, raw, encodings)[12:]
