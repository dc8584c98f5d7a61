"""Elements of Explicit VR Little Endian, as they are stored and as DICOM JSON, without decoding them twice.

The images of a series differ in a dozen of a hundred elements: what was made of the bytes of an element is remembered
and serves wherever the same bytes come again. Whatever pydicom would not simply keep is `Unusual` and left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import private_dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from dicomweb import dicom_json
from gateway.intake.header import LONG_VRS, SHORT_VRS, Place
from gateway.intake.pixels import UNDEFINED
from gateway.intake.source import Buffer

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
CHARACTER_SET = 0x00080005
#: Before the first comes what is in directories, or text before its character set; after the last padding.
_FIRST, _LAST = CHARACTER_SET, 0xFFFC0000
VRS = {vr: vr.decode() for vr in LONG_VRS | SHORT_VRS}
_TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_MAX_DEPTH = 20
_HEAD, _ITEM_HEAD, _LONG = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")
_LONG_HEAD = struct.Struct("<HH2sHL")
Encodings = tuple[str, ...]
_DEFAULT: Encodings = (default_encoding,)


class Unusual(Exception):
    """Something that is not simply kept: pydicom must look at the whole data set."""


class Element(NamedTuple):
    """An element as it is stored, and as DICOM JSON: the member of an object, its name and its value."""

    stored: bytes
    json: bytes
    name: str
    value: dict[str, Any]


class Memo:
    """What was made, by what it was made of. Forgets the half that was not asked for lately when it is full."""

    def __init__(self, max_bytes: int = 16 << 20) -> None:
        """Take about `max_bytes` of memory."""
        self._half = max_bytes // 2
        self._weight = 0
        self._recent: dict[Any, Element] = {}
        self._older: dict[Any, Element] = {}

    def get(self, key: Any) -> Element | None:
        """What was made of `key`, if that is known."""
        found = self._recent.get(key)
        if found is None and (found := self._older.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Any, element: Element) -> None:
        """Remember. Threads may do so at once: at worst they forget early."""
        self._recent[key] = element
        self._weight += 500 + len(element.stored) + 8 * len(element.json)  # a parsed value takes a multiple of its text
        if self._weight > self._half:
            self._older, self._recent, self._weight = self._recent, {}, 0


#: Longer elements are made anew each time.
_MAX_REMEMBERED = 4 << 10


class Elements:
    """Makes elements, remembering them; one for a process, used by any thread."""

    def __init__(self, memo: Memo | None = None) -> None:
        self._memo = memo or Memo()

    def data_set(self, data: bytes, places: Iterable[Place]) -> dict[int, Element]:
        """The elements of a data set by their tags, which ascend, group lengths left out; raise Unusual."""
        level = _Level(_DEFAULT, "", 0)
        made = level.elements
        recall = self._memo.get
        start, last = 0, _FIRST - 1
        for place in places:
            tag, vr, value, end = place
            if tag & 0xFFFF:
                if not last < tag < _LAST:
                    raise Unusual
                raw = data[start:end]
                found = recall(raw)
                if found is None or vr == b"UN":
                    found = self._made(level, tag, vr, raw, value - start)
                made[tag] = found
                last = tag
            start = end
        return made

    def defined(self, tag: int, raw: bytes, encodings: Encodings) -> bytes:
        """A sequence of undefined length with a defined one; raise Unusual."""
        return self._made(_Level(encodings, "", 0), tag, b"SQ", raw, 12).stored

    def _made(self, level: _Level, tag: int, vr: bytes, raw: bytes, head: int) -> Element:
        """Make an element of its bytes, of which `head` come before the value."""
        if tag == CHARACTER_SET:
            element, level.encodings = character_set(raw, vr)
            return element
        if vr == b"UN":
            level.check_unknown(tag)
        elif vr == b"SQ":
            level.check_creator(tag)
        if head == 12 and raw[6:8] != b"\0\0":
            raise Unusual
        value = raw[head:]
        key: Any = raw
        if vr == b"SQ" or (vr in _TEXT_VRS and not dicom_json.is_plain(value)):
            key = (raw, level.encodings)
            found = self._memo.get(key)
            if found is not None:
                return found
        name = f"{tag:08X}"
        if vr == b"SQ":
            undefined = raw[8:12] == b"\xff\xff\xff\xff"
            element, _ = self._sequence(level, tag, raw, head, None if undefined else len(raw))
        elif raw[8:12] == b"\xff\xff\xff\xff" and head == 12:
            raise Unusual
        else:
            json = dicom_json.encode_value(tag, VRS[vr], value, level.encodings, level.path + name)
            element = Element(raw, _member(name, json), name, json)
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            _checked_creator(element)
        if len(raw) <= _MAX_REMEMBERED and b'"BulkDataURI"' not in element.json:
            self._memo.put(key, element)
        return element

    def _sequence(self, level: _Level, tag: int, data: Buffer, at: int, end: int | None) -> tuple[Element, int]:
        """A sequence whose items start at `at`, and where it ends: at `end`, or after its delimiter."""
        name = f"{tag:08X}"
        stored: list[bytes] = []
        texts: list[bytes] = []
        values: list[dict[str, Any]] = []
        while end is None or at < end:
            item_tag, length, at = _item_head(data, at)
            if item_tag == _SEQUENCE_END and end is None and not length:
                break
            if item_tag != _ITEM:
                raise Unusual
            inner = _Level(level.encodings, f"{level.path}{name}/{len(values)}/", level.depth + 1)
            at = self._item(inner, data, at, None if length == UNDEFINED else at + length)
            parts = [element.stored for element in inner.elements.values()]
            stored += [_ITEM_HEAD.pack(0xFFFE, 0xE000, sum(map(len, parts))), *parts]
            texts.append(b"{" + b",".join([element.json for element in inner.elements.values()]) + b"}")
            values.append({element.name: element.value for element in inner.elements.values()})
        if end is not None and at != end:
            raise Unusual
        body = b"".join(stored)
        encoded = _LONG_HEAD.pack(tag >> 16, tag & 0xFFFF, b"SQ", 0, len(body)) + body
        if not values:
            return Element(encoded, _member(name, {"vr": "SQ"}), name, {"vr": "SQ"}), at
        text = b'"' + name.encode() + b'":{"vr":"SQ","Value":[' + b",".join(texts) + b"]}"
        return Element(encoded, text, name, {"vr": "SQ", "Value": values}), at

    def _item(self, level: _Level, data: Buffer, at: int, end: int | None) -> int:
        """Make the elements of an item, and tell where it ends."""
        if level.depth > _MAX_DEPTH:
            raise Unusual
        last = _FIRST - 1
        size = len(data) if end is None else end
        while at < size:
            start = at
            tag, vr, length, at = element_head(data, at)
            if tag == _ITEM_END and end is None and not length:
                return at
            if not last < tag < _LAST:
                raise Unusual
            if vr == b"SQ" and length == UNDEFINED:
                level.check_creator(tag)
                level.elements[tag], at = self._sequence(level, tag, data, at, None)
            else:
                head, at = at - start, at + length
                if at > size:
                    raise Unusual
                raw = bytes(data[start:at])
                found = self._memo.get(raw) if vr != b"UN" else None
                level.elements[tag] = found or self._made(level, tag, vr, raw, head)
            if not tag & 0xFFFF:
                del level.elements[tag]  # a group length
            last = tag
        if end is None:
            raise Unusual
        return at


class _Level:
    """A data set or an item as far as it is made."""

    def __init__(self, encodings: Encodings, path: str, depth: int) -> None:
        self.encodings = encodings
        self.path = path
        self.depth = depth
        self.elements: dict[int, Element] = {}

    def check_unknown(self, tag: int) -> None:
        """Raise Unusual unless an element of VR UN is one of which nothing more is known."""
        creator = self.check_creator(tag)
        if not tag >> 16 & 1 or tag & 0xFFFF < 0x1000 or (creator and _is_known(tag, creator)):
            raise Unusual

    def check_creator(self, tag: int) -> str:
        """The private creator of an element, if it has one; raise Unusual if pydicom would write it in another way."""
        creator = self.elements.get((tag & 0xFFFF0000) | (tag & 0xFFFF) >> 8) if tag >> 16 & 1 else None
        return "" if creator is None else _checked_creator(creator)


def _checked_creator(creator: Element) -> str:
    """A private creator as text; raise Unusual if pydicom, where it reads one, would write it in another way."""
    values = creator.value.get("Value", [])
    text = str(values[0]) if len(values) == 1 else ""
    as_written = text.encode("ascii", "replace") + b" " * (len(text) % 2)
    if creator.stored[4:6] != b"LO" or creator.stored[8:] != as_written or text != text.strip():
        raise Unusual
    return text


@lru_cache(4096)
def _is_known(tag: int, creator: str) -> bool:
    try:
        private_dictionary_VR(tag, creator)
    except KeyError:
        return False
    return True


@lru_cache(64)
def character_set(raw: bytes, vr: bytes) -> tuple[Element, Encodings]:
    """Specific Character Set as pydicom writes it, and the codecs that it stands for; raise Unusual."""
    value = raw[8:]
    if vr != b"CS" or len(value) > 256:
        raise Unusual
    tag = BaseTag(CHARACTER_SET)
    try:
        element = convert_raw_data_element(RawDataElement(tag, "CS", len(value), value, 0, False, True))
        encodings = convert_encodings(element.value)
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, False
        write_data_element(out, element)
    except Exception as exc:
        raise Unusual from exc
    json = dicom_json.encode_value(CHARACTER_SET, "CS", value, _DEFAULT, "")
    return Element(out.getvalue(), _member("00080005", json), "00080005", json), tuple(encodings)


def element_head(data: Buffer, at: int) -> tuple[int, bytes, int, int]:
    """Tag, VR, length and where the value starts; for delimiters, which have no VR, too."""
    try:
        group, element, vr, length = _HEAD.unpack_from(data, at)
        tag = group << 16 | element
        if vr in SHORT_VRS:
            return tag, vr, length, at + 8
        if vr in LONG_VRS:
            return tag, vr, _LONG.unpack_from(data, at + 8)[0], at + 12
        if tag == _ITEM_END:
            return tag, b"", _LONG.unpack_from(data, at + 4)[0], at + 8
    except struct.error:
        pass
    raise Unusual


def _item_head(data: Buffer, at: int) -> tuple[int, int, int]:
    """Tag and length of an item or a delimiter, and where its content starts."""
    try:
        group, element, length = _ITEM_HEAD.unpack_from(data, at)
    except struct.error:
        raise Unusual from None
    return group << 16 | element, length, at + 8


def _member(name: str, json: dict[str, Any]) -> bytes:
    """A member of a JSON object."""
    return b'"' + name.encode() + b'":' + dicom_json.dumps(json)
