"""Which pictures must be looked at before anything of an instance is stored: told by a few values of its header.

Nearly all instances are slices of which that is known: what is found out is remembered by these values.
"""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid.risk import DECIDING, PRESENT, Risk, assess
from gateway.intake.header import Header, Walker
from gateway.intake.pixels import UNDEFINED

#: Longer values decide nothing that is known: the picture is looked at.
_MAX_BYTES = 1024
_LAST = max(DECIDING)
_LOOKED_AT = DECIDING | PRESENT
_Values = tuple[tuple[int, bytes], ...]


class Suspect(Exception):
    """The picture of the instance with this header is to be looked at first."""

    def __init__(self, header: Header) -> None:
        super().__init__()
        self.header = header


def is_suspect(header: Header) -> bool:
    """Whether a picture is likely to show identity, or is of a device that is known to write it there."""
    return header.pixels is not None and _is_suspect(_deciding(header), little=header.encoding.little)


def _deciding(header: Header) -> _Values:
    """The values that decide, as they are encoded."""
    data = header.data
    if header.places is not None:
        places = [(tag, start, end) for tag, _, start, end in header.places if tag in _LOOKED_AT]
        return tuple([(tag, _deciding_part(tag, data[start:end])) for tag, start, end in places])
    walker, found, at = Walker(header.encoding), [], 0
    while at < len(data):
        tag, _, length, start = walker.head(data, at)
        if tag > _LAST:
            break
        at = start + length if length != UNDEFINED else walker.skip(data, at)
        if tag in _LOOKED_AT:
            found.append((tag, _deciding_part(tag, data[start:at])))
    return tuple(found)


def _deciding_part(tag: int, value: bytes) -> bytes:
    """A value, or a number that stands for any: positions differ from slice to slice."""
    return value if tag in DECIDING else b"0" * bool(value.strip())


@lru_cache(1024)
def _is_suspect(values: _Values, *, little: bool) -> bool:
    ds = Dataset()
    for tag, value in values:
        if len(value) > _MAX_BYTES:
            return True
        ds[tag] = RawDataElement(BaseTag(tag), dictionary_VR(tag), len(value), value, 0, False, little)
    try:
        known = assess(ds)
    except Exception:  # noqa: BLE001 - whatever pydicom raises on malformed values
        return True
    return known.risk in (Risk.HIGH, Risk.MEDIUM) or bool(known.blank)
