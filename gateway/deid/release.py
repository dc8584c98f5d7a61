"""The last look before an object leaves: nothing that it was learnt to say of people may still be in it.

It goes by the outcome, not by the plan, so that a gap in one is not a gap in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from gateway.deid.identity import Identity
from gateway.deid.values import Element, text_of

#: Terms that DICOM itself defines are no identity, even if a patient is called like one.
_TERMS: Final = frozenset({"CS"})
_CODE_MEANING: Final = 0x00080104
#: VRs whose values were matched against their grammar, which leaves no room for names.
_CHECKED: Final = frozenset({"DA", "DT", "TM", "AS", "DS", "IS"})
_FREE: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR", "UN"})
#: Numbers and bytes that spell a name are none; more of them are curves, tables and pixels.
_MAX_BINARY_BYTES: Final = 1024
_UTF8: Final = ("utf8",)


def find_leaks(
    ds: Dataset, identity: Identity, *, is_term: Callable[[str], bool], is_released_uid: Callable[[str], bool]
) -> list[int]:
    """Return the tags of elements, at any depth, that still hold identity.

    Parameters
    ----------
    ds : the de-identified data set.
    identity : what was learnt of the original.
    is_term : whether a text consists of known words.
    is_released_uid : whether a UID may leave: one that was issued, or a registered one.
    """
    leaks: list[int] = []
    for element in _elements(ds):
        vr = element.VR or _listed_vr(element.tag)
        if vr == "UI":
            if not all(map(is_released_uid, text_of(element, _UTF8).split("\\"))):
                leaks.append(element.tag)
        elif vr in _FREE or vr in _TERMS:
            text = text_of(element, _UTF8)
            if identity.is_in(text) and not ((vr in _TERMS or element.tag == _CODE_MEANING) and is_term(text)):
                leaks.append(element.tag)
        elif vr not in _CHECKED and isinstance(element.value, bytes) and len(element.value) <= _MAX_BINARY_BYTES:
            if identity.is_in(element.value.decode("latin-1")):
                leaks.append(element.tag)
    return leaks


def _listed_vr(tag: int) -> str:
    """Return the VR of PS3.6, for an implicit encoding names none."""
    entry = DicomDictionary.get(tag)
    return entry[0] if entry else "UN"


def _elements(ds: Dataset) -> Iterator[Element]:
    for tag in list(ds.keys()):
        element = ds.get_item(tag)
        if element is None:
            continue
        if (element.VR or _listed_vr(tag)) == "SQ":
            for item in ds[tag].value or ():
                yield from _elements(item)
        else:
            yield element
