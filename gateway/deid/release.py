"""The last look before an object leaves: nothing that it was learnt to say of people may still be in it.

Its own names, identifiers, places, dates and UIDs are looked for in all header values: as words in text, and in bytes
in whatever character set and punctuation. It goes by the outcome, not by the plan, so that a gap in one is not a gap in
the other. Bulk that is read in frames, the pixel data, is not in a header and not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid.identity import Identity
from gateway.deid.tables import safe_creators
from gateway.deid.traces import holds_day, uids_in, uids_in_bytes
from gateway.deid.values import Element, elements_of, text_of

_CODE_MEANING: Final = 0x00080104
#: VRs whose values were matched against their grammar, which leaves no room for names.
_CHECKED: Final = frozenset({"DA", "DT", "TM", "AS", "DS", "IS"})
#: Free text, and terms: those that DICOM itself defines are no identity, even if a patient is called like one.
_TEXT: Final = frozenset({"CS", "LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR"})
#: Nothing is spelt with less.
_MIN_BYTES: Final = 3
#: Up to this many bytes are also read as text, in which shorter names stand out as words.
_MAX_SPELT_BYTES: Final = 1024
_UTF8: Final = ("utf8",)


#: Private and unknown bytes may be anything; those that PS3.6 lists are tables of numbers, curves and the like.
_UNKNOWN: Final = "UN"


def find_leaks(
    ds: Dataset,
    tags: Iterable[BaseTag],
    identity: Identity,
    uids: AbstractSet[str],
    *,
    is_term: Callable[[str], bool],
    is_released_uid: Callable[[str], bool],
    is_retained: Callable[[int], bool],
) -> list[int]:
    """Return the tags of elements, at any depth, that still hold identity.

    Parameters
    ----------
    ds : the de-identified data set.
    tags : those of its elements to look at.
    identity : what was learnt of the original.
    uids : UIDs of the original.
    is_term : whether a text consists of known words.
    is_released_uid : whether a UID may leave: one that was issued, or a registered one.
    is_retained : whether the profile asks for an attribute to stay as it is.
    """

    def holds_uid(found: Iterable[str]) -> bool:
        return any(uid in uids and not is_released_uid(uid) for uid in found)

    return [
        element.tag
        for element in _elements(ds, tags)
        if (
            not (is_retained(element.tag) or all(map(is_released_uid, text_of(element, _UTF8).split("\\"))))
            if (element.VR or _listed_vr(element.tag)) == "UI"
            else _holds(element, identity, is_term, holds_uid)
        )
    ]


def tells_foreign_uid(value: bytes, is_released_uid: Callable[[str], bool]) -> bool:
    """Whether encoded values spell a UID that may be an original one of another object."""
    return not all(map(is_released_uid, uids_in_bytes(value)))


def _holds(
    element: Element, identity: Identity, is_term: Callable[[str], bool], holds_uid: Callable[[Iterable[str]], bool]
) -> bool:
    """Whether an element other than a UID holds identity."""
    vr, value = element.VR or _listed_vr(element.tag), element.value
    if vr in _TEXT:
        text = text_of(element, _UTF8)
        if holds_day(text, identity.days) or holds_uid(uids_in(text)):
            return True
        if _is_creator(element.tag) and text in safe_creators():
            return False
        is_code = vr == "CS" or element.tag == _CODE_MEANING
        return identity.is_in(text) and not (is_code and is_term(text))
    if vr in _CHECKED or not isinstance(value, bytes) or len(value) < _MIN_BYTES:
        return False
    is_table = vr != _UNKNOWN and not element.tag & 0x10000
    if identity.is_in_bytes(value, is_table=is_table) or holds_uid(uids_in_bytes(value)):
        return True
    if b"\0" in value and holds_uid(uids_in_bytes(value.replace(b"\0", b""))):  # in UTF-16
        return True
    return len(value) <= _MAX_SPELT_BYTES and identity.is_in(value.decode("latin-1"))


def _listed_vr(tag: int) -> str:
    """Return the VR of PS3.6, for an implicit encoding names none; LO for private creators (PS3.5 section 7.8.1)."""
    entry = DicomDictionary.get(int(tag))
    return entry[0] if entry else "LO" if _is_creator(tag) else _UNKNOWN


def _is_creator(tag: int) -> bool:
    return tag & 0x10000 != 0 and tag & 0xFFFF < 0x1000


def _elements(ds: Dataset, tags: Iterable[BaseTag]) -> Iterator[Element]:
    elements = elements_of(ds)
    for tag in tags:
        element = elements.get(tag)
        if element is None:
            continue
        if (element.VR or _listed_vr(tag)) == "SQ":
            for item in ds[tag].value or ():
                yield from _elements(item, list(elements_of(item)))
        else:
            yield element
