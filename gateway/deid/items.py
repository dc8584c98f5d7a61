"""Sequences encoded again: as bytes they are known again when they come again, and cost nothing to write."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from gateway.deid.values import Element, elements_of, text_of

#: Larger sequences stay decoded.
MAX_ITEMS_BYTES: Final = 16_384
_UNDEFINED: Final = 0xFFFFFFFF
_MAX_SHORT: Final = 0xFFFF
_ITEM: Final = (0xFFFE, 0xE000)
#: Free text, which the data set's character set, UTF-8, encodes; other VRs have forms of their own.
_TEXT: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})


class NotEncodable(Exception):
    """An element is not one that can be told to come out as pydicom would write it."""


class ItemEncoder:
    """Encodes items with explicit lengths.

    Parameters
    ----------
    implicit, little : the encoding of the data set, in which the values are.
    cleaned : whether elements were changed, so that text which is decoded is to be written in UTF-8. Otherwise nothing
        may be decoded: then the bytes say all that the items hold.
    """

    def __init__(self, implicit: bool, little: bool, *, cleaned: bool) -> None:
        order = "<" if little else ">"
        self._implicit, self._little = implicit, little
        self._cleaned = cleaned
        self._long = Struct(f"{order}HH2s2xL").pack
        self._short = Struct(f"{order}HH2sH").pack
        self._bare = Struct(f"{order}HHL").pack

    def items(self, items: Iterable[Dataset]) -> bytes:
        """Encode the items of a sequence; raise NotEncodable."""
        parts, size = [], 0
        for item in items:
            elements = elements_of(item)
            content = b"".join([self.element(elements[tag]) for tag in sorted(elements, key=int)])
            size += len(content)
            if size > MAX_ITEMS_BYTES:
                raise NotEncodable
            parts += [self._bare(*_ITEM, len(content)), content]
        return b"".join(parts)

    def element(self, element: Element) -> bytes:
        """Encode an element with its header."""
        vr, value = element.VR, self.value(element)
        group, number, size = element.tag >> 16, element.tag & 0xFFFF, len(value)
        if self._implicit:
            return self._bare(group, number, size) + value
        if vr in EXPLICIT_VR_LENGTH_32:
            return self._long(group, number, vr.encode("ascii"), size) + value
        if vr in EXPLICIT_VR_LENGTH_16 and size <= _MAX_SHORT:
            return self._short(group, number, vr.encode("ascii"), size) + value
        raise NotEncodable

    def value(self, element: Element) -> bytes:
        """Encode the value of an element."""
        if isinstance(element, RawDataElement):
            if element.length == _UNDEFINED or (self._implicit, self._little) != element[5:7]:
                raise NotEncodable
            if self._implicit and element.VR is not None and element.tag & 0x10000:
                raise NotEncodable  # no dictionary tells the VR again
            return element.value or b""
        if element.VR == "SQ":
            return self.items(element.value or ())
        if element.VR in _TEXT and self._cleaned:
            value = text_of(element, ()).encode("utf-8")
            return value + b" " * (len(value) % 2)
        raise NotEncodable
