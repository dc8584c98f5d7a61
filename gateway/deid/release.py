"""The last look before an object leaves: nothing that it was learnt to say of people may still be in it.

It goes by the outcome, not by the plan, so that a gap in one is not a gap in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid.identity import Identity
from gateway.deid.values import Element, elements_of, text_of

_CODE_MEANING: Final = 0x00080104
#: VRs whose values were matched against their grammar, which leaves no room for names.
_CHECKED: Final = frozenset({"DA", "DT", "TM", "AS", "DS", "IS"})
#: Free text, and terms: those that DICOM itself defines are no identity, even if a patient is called like one.
_TEXT: Final = frozenset({"CS", "LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR"})
#: Numbers and bytes that spell a name are none; more of them are curves, tables and pixels.
_MAX_BINARY_BYTES: Final = 1024
_UTF8: Final = ("utf8",)


def find_leaks(
    ds: Dataset,
    tags: Iterable[BaseTag],
    identity: Identity,
    *,
    is_term: Callable[[str], bool],
    is_released_uid: Callable[[str], bool],
) -> list[int]:
    """Return the tags of elements, at any depth, that still hold identity.

    Parameters
    ----------
    ds : the de-identified data set.
    tags : those of its elements to look at.
    identity : what was learnt of the original.
    is_term : whether a text consists of known words.
    is_released_uid : whether a UID may leave: one that was issued, or a registered one.
    """
    return [
        element.tag
        for element in _elements(ds, tags)
        if (
            not all(map(is_released_uid, text_of(element, _UTF8).split("\\")))
            if (element.VR or _listed_vr(element.tag)) == "UI"
            else _holds(element, identity, is_term)
        )
    ]


def _holds(element: Element, identity: Identity, is_term: Callable[[str], bool]) -> bool:
    """Whether an element other than a UID holds identity."""
    vr = element.VR or _listed_vr(element.tag)
    if vr in _TEXT:
        text = text_of(element, _UTF8)
        is_code = vr == "CS" or element.tag == _CODE_MEANING
        return identity.is_in(text) and not (is_code and is_term(text))
    if vr in _CHECKED or not isinstance(element.value, bytes) or len(element.value) > _MAX_BINARY_BYTES:
        return False
    return identity.is_in(element.value.decode("latin-1"))


def _listed_vr(tag: int) -> str:
    """Return the VR of PS3.6, for an implicit encoding names none."""
    entry = DicomDictionary.get(int(tag))
    return entry[0] if entry else "UN"


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
