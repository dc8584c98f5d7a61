"""From the DICOM JSON model (PS3.18 Annex F) to Explicit VR Little Endian, with holes where bulk data belongs.

The other direction of `dicom_json`. Lenient in what clients send: a missing VR is looked up, numbers come as strings,
a name as a plain string. What cannot be encoded at all raises BadRequest, which names the attribute, never its value.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import format_number_as_ds

from dicomweb.errors import BadRequest
from dicomweb.ports import JsonDataSet

BINARY = frozenset("OB OD OF OL OV OW UN".split())
_LONG = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5 section 7.1.2: 32 bits of length
_TEXT = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_STRUCT = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_NO_BULK = frozenset("SQ LO SH CS PN".split())  # section 10.4.3.3.2
_PERSON = ("Alphabetic", "Ideographic", "Phonetic")
_CHARACTER_SET = "00080005"
_MAX_SHORT = 0xFFFE
_MAX_DEPTH = 50
_UNDEFINED = b"\xff\xff\xff\xff"
_ITEM_BEGIN, _ITEM_END = b"\xfe\xff\x00\xe0" + _UNDEFINED, b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Hole:
    """A value that is not in the metadata: the bulk data that `uri` names, of the attribute `tag` with this VR."""

    tag: str
    vr: str
    uri: str

    def head(self, length: int) -> bytes:
        """The element's header, now that the length is known: an even number."""
        vr = self.vr if self.vr in _LONG or length <= _MAX_SHORT else "UN"  # PS3.5 section 6.2.2, note 8
        return element_head(self.tag, vr, length)

    @property
    def padding(self) -> bytes:
        """What makes an odd length even."""
        return _padding(self.vr)


#: Consecutive parts of an encoded data set.
Piece = bytes | Hole


def encode(item: JsonDataSet) -> dict[str, list[Piece]]:
    """Encode a data set, an entry an attribute, in ascending order of tags.

    Text is encoded in UTF-8, and Specific Character Set says so. Group lengths and file meta information are left out.

    Raises
    ------
    BadRequest : a tag, VR or value is not one of the DICOM JSON model.
    """
    if not isinstance(item, dict):
        raise BadRequest("The metadata of an instance is no DICOM JSON object.")
    encoded = {tag: _element(tag, attribute, 0) for tag, attribute in _attributes(item)}
    encoded[_CHARACTER_SET] = [pack(_CHARACTER_SET, "CS", b"ISO_IR 192")]
    return dict(sorted(encoded.items()))


def element_head(tag: str, vr: str, length: int) -> bytes:
    """Tag, VR and length of an element (PS3.5 section 7.1.2); a length of 0xFFFFFFFF is undefined."""
    group, number = int(tag[:4], 16), int(tag[4:], 16)
    if vr in _LONG:
        return struct.pack("<HH2sHL", group, number, vr.encode("ascii"), 0, length)
    return struct.pack("<HH2sH", group, number, vr.encode("ascii"), length)


def _attributes(item: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Tags in upper case with their attributes, sorted, without those that a data set must not have."""
    found = {}
    for key, attribute in item.items():
        tag = key.upper()
        if len(tag) != 8 or not all(character in "0123456789ABCDEF" for character in tag):
            raise BadRequest("A key of the metadata is no tag of eight hexadecimal digits.")
        if int(tag[:4], 16) > 2 and tag[4:] != "0000" and tag[:4] != "FFFE":
            found[tag] = attribute
    return sorted(found.items())


def _element(tag: str, attribute: Any, depth: int) -> list[Piece]:
    if not isinstance(attribute, dict):
        raise _bad(tag)
    vr = _definite(str(attribute.get("vr") or _looked_up(tag)))
    values = attribute.get("Value")
    if vr not in _LONG and vr not in _TEXT and vr not in _STRUCT and vr != "AT":
        raise BadRequest(f"The metadata names a value representation for {tag} that does not exist.")
    if uri := _bulk_uri(tag, vr, attribute):
        return [Hole(tag, vr, uri)]
    if "InlineBinary" in attribute:
        return [pack(tag, vr, _inline(tag, attribute["InlineBinary"]))]
    if values is not None and not isinstance(values, list):
        values = [values]
    if vr == "SQ":
        return _sequence(tag, values or [], depth)
    return [pack(tag, vr, _value(tag, vr, values) if values else b"")]


def _bulk_uri(tag: str, vr: str, attribute: Mapping[str, Any]) -> str:
    """The BulkDataURI; of a binary attribute a lone string value, too, which is how PS3.18 B.23 writes it."""
    values = attribute.get("Value")
    lone = values[0] if vr in BINARY and isinstance(values, list) and len(values) == 1 else ""
    uri = attribute.get("BulkDataURI", lone if isinstance(lone, str) else "")
    if not isinstance(uri, str):
        raise _bad(tag)
    if uri and vr in _NO_BULK:
        raise BadRequest(f"The attribute {tag} cannot be sent as bulk data.")
    return uri


def _sequence(tag: str, items: Iterable[Any], depth: int) -> list[Piece]:
    """Items and sequence of undefined length: what their holes will hold is not known yet."""
    if depth == _MAX_DEPTH:
        raise BadRequest("The sequences of the metadata are nested too deep.")
    pieces: list[Piece] = [element_head(tag, "SQ", 0xFFFFFFFF)]
    for item in items:
        if not isinstance(item, dict):
            raise _bad(tag)
        pieces.append(_ITEM_BEGIN)
        for inner, attribute in _attributes(item):
            if inner != _CHARACTER_SET:  # what the data set says of itself holds for its items
                pieces += _element(inner, attribute, depth + 1)
        pieces.append(_ITEM_END)
    pieces.append(_SEQUENCE_END)
    return _joined(pieces)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same with neighbouring bytes in one."""
    found: list[Piece] = []
    run: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            run.append(piece)
            continue
        if run:
            found.append(b"".join(run))
            run = []
        found.append(piece)
    return [*found, b"".join(run)] if run else found


def pack(tag: str, vr: str, value: bytes) -> bytes:
    """A whole element, padded to an even length (PS3.5 section 6.2)."""
    if len(value) % 2:
        value += _padding(vr)
    if vr not in _LONG and len(value) > _MAX_SHORT:
        vr = "UN"
    return element_head(tag, vr, len(value)) + value


def _padding(vr: str) -> bytes:
    return b" " if vr in _TEXT and vr != "UI" else b"\0"


def _value(tag: str, vr: str, values: list[Any]) -> bytes:
    try:
        if vr in BINARY:  # has no Value (PS3.18 Table F.2.3-1); numbers do not tell how many bytes each of them is
            raise _bad(tag)
        if vr in _STRUCT:
            number = _real if vr in ("FD", "FL") else _whole
            return struct.pack(f"<{len(values)}{_STRUCT[vr]}", *map(number, values))
        if vr == "AT":
            return b"".join(struct.pack("<HH", int(one[:4], 16), int(one[4:8], 16)) for one in values)
        text = _TO_TEXT.get(vr, _string)
        return "\\".join("" if one is None else text(one) for one in values).encode("utf-8")
    except (ValueError, TypeError, KeyError, AttributeError, struct.error, OverflowError):
        raise _bad(tag) from None  # the cause quotes the value


def _inline(tag: str, text: Any) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise _bad(tag) from None


def _real(value: Any) -> float:
    return math.nan if value is None else float(value)


def _whole(value: Any) -> int:
    """A number as it is, never cut."""
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError
    return number


def _string(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


def _person(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "=".join(value.get(group) or "" for group in _PERSON).rstrip("=")


def _decimal(value: Any) -> str:
    """A decimal string of at most 16 characters."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(format_number_as_ds(value))
    return _string(value)


def _integer(value: Any) -> str:
    return str(_whole(value)) if isinstance(value, float) else _string(value)


_TO_TEXT: dict[str, Callable[[Any], str]] = {"PN": _person, "DS": _decimal, "IS": _integer}


def _looked_up(tag: str) -> str:
    """The VR by the dictionary, UN where it knows none."""
    try:
        return dictionary_VR(int(tag, 16))
    except KeyError:
        return "UN"


def _definite(vr: str) -> str:
    """One VR of several, which the dictionary gives and some clients send: `OB or OW`."""
    several = vr.split(" or ")
    return "OW" if "OW" in several else several[0]


def _bad(tag: str) -> BadRequest:
    return BadRequest(f"The value of {tag} in the metadata is not one of the DICOM JSON model.")
