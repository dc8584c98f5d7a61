"""What the elements that a plan takes out say of people and places, so that no other text may repeat it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from gateway.deid.identity import Identity
from gateway.deid.plan import REMOVALS, STRINGS, Action
from gateway.deid.policy import check_limits
from gateway.deid.structured import TEXT_VALUE
from gateway.deid.traces import TRACED, days_of
from gateway.deid.values import DEFAULT_ENCODINGS, Element, elements_of, encodings_of, read, text_of

if TYPE_CHECKING:
    from gateway.deid.engine import Deidentifier

#: What is done with elements from which names, numbers and phrases may be learnt.
TEACHING: Final = REMOVALS | {Action.RECURSE}
_BIRTH_DATE: Final = 0x00100030
_DAY_BYTES: Final = 8


def _named(*fragments: str) -> frozenset[int]:
    return frozenset(tag for tag, entry in DicomDictionary.items() if any(f in entry[4] for f in fragments))


#: Attributes whose values, once taken out, must not occur elsewhere: identifiers, and names of places.
_IDENTIFIERS: Final = (
    frozenset(
        tag for tag, entry in DicomDictionary.items() if entry[4].endswith(("ID", "IDs", "Identifier", "Numbers"))
    )
    | _named("AccessionNumber", "SerialNumber", "OrderNumber", "Locator")
    | {_BIRTH_DATE}
)
_PLACES: Final = _named("Institution", "Address", "Organization", "Issuer", "Sponsor", "RegionOfResidence")


def can_teach(tag: int, action: Action, vr: str) -> bool:
    """Whether anything can be learnt from an element with which `action`, one of TEACHING, is done."""
    if action is Action.RECURSE or vr in {"SQ", "PN"}:
        return True
    return vr in STRINGS and (tag in _IDENTIFIERS or tag in _PLACES)


class Lesson:
    """What one element teaches."""

    def __init__(self, deidentifier: Deidentifier) -> None:
        self.identity = Identity()
        self._plan = deidentifier.plan
        self._content_items = deidentifier.content_items
        self._is_issued = deidentifier.pseudonyms.is_issued

    def element(
        self, ds: Dataset, element: Element, action: Action, vr: str, encodings: tuple[str, ...], depth: int = 0
    ) -> None:
        """Learn from an element of `ds` and, if it has items, from them; `ds` is decoded as far as need be."""
        if vr in TRACED and action is not Action.TRANSCODE:
            learn_traces(self.identity, element, vr)
        if action is Action.RECURSE:
            self._plain_items(ds, element, encodings, depth)
        elif action in REMOVALS:
            self._removed(ds, element, vr, encodings)

    def _plain_items(self, ds: Dataset, element: Element, encodings: tuple[str, ...], depth: int) -> None:
        """Learn from what is taken out of items that themselves stay."""
        check_limits(depth=depth + 1, elements=0)
        sequence = ds[element.tag]
        for item in sequence.value or () if sequence.VR == "SQ" else ():
            inner = encodings_of(item, encodings)
            if self._content_items.identifies(item):
                self.identity.add_number(read(item, TEXT_VALUE, inner))
            for child in list(elements_of(item).values()):
                action, vr = self._plan.rule(item, child.tag, child.VR)
                self.element(item, child, action, vr, inner, depth + 1)

    def _removed(self, ds: Dataset, element: Element, vr: str, encodings: tuple[str, ...]) -> None:
        if vr == "SQ":
            self._removed_items(ds, element, encodings)
        if vr not in STRINGS or not element.value:
            return
        tag = int(element.tag)
        for value in text_of(element, encodings, vr).split("\\"):
            if self._is_issued(value.strip().upper()):
                continue
            if vr == "PN":
                self.identity.add_name(value)
            elif tag in _IDENTIFIERS:
                self.identity.add_number(value)
            elif tag in _PLACES:
                self.identity.add_phrase(value)

    def _removed_items(self, ds: Dataset, element: Element, encodings: tuple[str, ...]) -> None:
        sequence = ds[element.tag]
        for item in sequence.value or () if sequence.VR == "SQ" else ():
            inner = encodings_of(item, encodings)
            for child in list(elements_of(item).values()):
                if not child.tag & 0x10000:
                    vr = self._plan.resolve(int(child.tag), child.VR)[1]
                    if vr in TRACED:
                        learn_traces(self.identity, child, vr)
                    self._removed(item, child, vr, inner)


def learn_traces(identity: Identity, element: Element, vr: str) -> None:
    """Learn the days or UIDs of an element whose VR is one of TRACED."""
    value = element.value
    if not value:
        return
    if vr == "UI":
        identity.uids.update(text_of(element, DEFAULT_ENCODINGS).split("\\"))
    elif isinstance(value, bytes) and value[:_DAY_BYTES].isdigit() and len(value) >= _DAY_BYTES and b"\\" not in value:
        identity.days.add(value[:_DAY_BYTES].decode("ascii"))  # nearly all of them
    else:
        identity.days.update(days_of(text_of(element, DEFAULT_ENCODINGS)))
