"""The plan carried out on elements, once all is known that identifies: what goes, what is replaced, what is cleaned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid import dates, numbers, stamps
from gateway.deid.graphics import is_overlay
from gateway.deid.identity import Identity
from gateway.deid.plan import REMOVALS, STRINGS, Action
from gateway.deid.policy import check_limits
from gateway.deid.structured import MEASURED_VALUES, POSITIONS, TEXT_VALUE, blank, cap_age, is_birth_date
from gateway.deid.traces import uids_in
from gateway.deid.values import (
    Element,
    elements_of,
    encodings_of,
    legible,
    make,
    map_values,
    printable,
    put,
    put_text,
    read,
    text_of,
)

if TYPE_CHECKING:
    from gateway.deid.engine import Deidentifier, Subject

_PATIENT_ID: Final = 0x00100020
_CODE_MEANING: Final = 0x00080104
_DESIGNATOR: Final = 0x00080102

_PIXELS: Final = 0x7FE0

_DEFERRED: Final = frozenset({Action.CLEAN, Action.CODE, Action.CODE_STRING})
_ANONYMIZED: Final = "ANONYMIZED"
_DUMMIES: Final[dict[str, str | bytes | int]] = {
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101",
    "TM": "000000",
    "DS": "0",
    "IS": "0",
    "UR": "about:blank",
    **dict.fromkeys(("OB", "OW", "UN"), b"\0\0"),
    **dict.fromkeys(("OF", "OD", "OL", "OV"), bytes(8)),
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"), 0),
}
_NO_BIRTH_DATE: Final = "19000101"


class Treatment:
    """What is done to elements of one object."""

    def __init__(self, deidentifier: Deidentifier, subject: Subject, identity: Identity) -> None:
        self._deid = deidentifier
        self._subject = subject
        self._identity = identity
        self._elements = 0
        self._deferred: list[tuple[Dataset, Element, str, Action, tuple[str, ...]]] = []
        #: Content items with what is done to them, the text they came with, and the data set and sequence they are in.
        self._content: list[tuple[Dataset, Action, str, Dataset, BaseTag]] = []
        self._has_positions = False
        years = subject.years
        self._replacements: dict[Action, Callable[[str], str | None]] = {
            Action.UID: lambda uid: deidentifier.uid(uid.strip()),
            Action.TIME: dates.checked_time,
            Action.OFFSET: dates.checked_offset,
            Action.AGE: numbers.capped_age,
            Action.NUMBER: lambda text: numbers.checked_number(text, identity),
            Action.TRANSCODE: self._retained,
        }
        self._dates: dict[str, Callable[[str], str | None]] = {
            "DA": lambda text: dates.shift_date(text, years),
            "DT": lambda text: dates.shift_datetime(text, years),
        }

    def carry_out(self, ds: Dataset, tags: Iterable[BaseTag], encodings: tuple[str, ...]) -> None:
        """Treat elements of a data set, named in ascending order; raise Refusal if there are too many.

        Text comes last: which codes it stands for, and whether dates are of birth, is told by elements beside it.
        """
        self._data_set(ds, list(tags), encodings, depth=0)
        for deferred in self._deferred:
            self._clean(*deferred)
        for content in self._content:
            self._treat_content(*content)

    def _data_set(self, ds: Dataset, tags: list[BaseTag], encodings: tuple[str, ...], *, depth: int) -> None:
        check_limits(depth=depth, elements=self._elements)
        self._elements += len(tags)
        elements = elements_of(ds)
        self._has_positions = self._has_positions or POSITIONS in elements
        creators: set[int] = set()
        for tag in tags:
            element = elements[tag]
            if tag & 0x10000 and tag & 0xFFFF < 0x1000:
                continue  # private creators stay or go with what they created
            action, vr = self._deid.plan.rule(ds, tag, element.VR)
            if depth and (is_overlay(tag) or tag >> 16 == _PIXELS):
                action = Action.REMOVE  # only those of the object itself are looked at
            if tag & 0x10000 and action is not Action.REMOVE:
                creators.add((tag & 0xFFFF0000) | (tag & 0xFF00) >> 8)
            if action is not Action.KEEP:
                self._act(ds, element, vr, action, encodings, depth)
            elif isinstance(element.value, bytes) and not numbers.are_whole(element.value, vr):
                del elements[tag]  # no numbers; pydicom's error about it would quote the bytes
        for tag in tags:
            if tag & 0x10000 and tag & 0xFFFF < 0x1000 and tag not in creators:
                del elements[tag]

    def _act(
        self, ds: Dataset, element: Element, vr: str, action: Action, encodings: tuple[str, ...], depth: int
    ) -> None:
        if action in _DEFERRED:
            self._deferred.append((ds, element, vr, action, encodings))
        elif action is Action.RECURSE:
            self._recurse(ds, element, encodings, depth)
        elif action in REMOVALS:
            self._take_out(ds, element, vr, action, encodings)
        else:
            if action is Action.DATE:
                replace = _no_birth_date if is_birth_date(ds) else self._dates.get(vr, _nothing)
            else:
                replace = self._replacements[action]
            self._replace(ds, element, vr, encodings, replace)

    def _retained(self, text: str) -> str:
        """What a profile retains, without what the object says elsewhere of people; UIDs stay whole."""
        return text if uids_in(text) == [text] else self._identity.mask(printable(text))

    def _recurse(self, ds: Dataset, element: Element, encodings: tuple[str, ...], depth: int) -> None:
        sequence = ds[element.tag]
        if sequence.VR != "SQ":
            del ds[element.tag]
            return
        for item in sequence.value or ():
            tags = sorted(elements_of(item), key=int)
            inner = encodings_of(item, encodings)
            action = self._deid.content_items.action(item)
            if action is not None:
                self._content.append((item, action, read(item, TEXT_VALUE, inner), ds, element.tag))
            self._data_set(item, tags, inner, depth=depth + 1)
            if element.tag == MEASURED_VALUES:
                cap_age(ds, item)

    def _treat_content(self, item: Dataset, action: Action, text: str, parent: Dataset, tag: BaseTag) -> None:
        """Do to a content item what its concept asks for."""
        if action is Action.TRANSCODE:
            item[TEXT_VALUE] = make(TEXT_VALUE, "UT", self._identity.mask(legible(text)))
        elif action is Action.DUMMY or self._has_positions:
            blank(item)
        else:
            left = [other for other in parent[tag].value if other is not item]
            if left:
                put(parent, make(tag, "SQ", left))
            else:
                del elements_of(parent)[tag]

    def _replace(
        self,
        ds: Dataset,
        element: Element,
        vr: str,
        encodings: tuple[str, ...],
        replace: Callable[[str], str | None],
    ) -> None:
        """Replace each value; one that is not what its VR says comes out empty."""
        if not element.value:
            return
        text = text_of(element, encodings, vr)
        result = map_values(text, vr, lambda value: replace(value) or "" if value else "")
        if result != text or not text.isascii() or element.VR == "UN":
            put_text(ds, element, result, vr)

    def _take_out(self, ds: Dataset, element: Element, vr: str, action: Action, encodings: tuple[str, ...]) -> None:
        if action is Action.REMOVE:
            del elements_of(ds)[element.tag]
        elif vr == "SQ":
            put(ds, make(element.tag, vr, [stamps.anonymous_code()] if action is Action.DUMMY else []))
        elif action is Action.EMPTY or not element.value:
            put(ds, _emptied(element, vr))
        elif element.tag == _PATIENT_ID:
            put_text(ds, element, self._pseudonym(text_of(element, encodings).strip()), vr)
        else:
            dummy = _DUMMIES.get(vr, _ANONYMIZED)
            if isinstance(dummy, str) and vr in STRINGS:
                put_text(ds, element, dummy, vr)
            else:
                put(ds, make(element.tag, vr, dummy))

    def _pseudonym(self, patient_id: str) -> str:
        if patient_id in ("", self._subject.patient_id):
            return self._subject.pseudonym
        return self._deid.pseudonyms.of_patient(patient_id)

    def _clean(self, ds: Dataset, element: Element, vr: str, action: Action, encodings: tuple[str, ...]) -> None:
        if not element.value:
            return
        text = text_of(element, encodings, vr)
        seen = legible(text)
        if action is Action.CLEAN:
            result = map_values(seen, vr, self._cleaned)
        elif action is Action.CODE_STRING:
            result = map_values(seen, vr, lambda value: self._deid.codes.code_string(value, self._identity))
        else:
            result = self._code(ds, element.tag, seen)
        if result != text or not text.isascii() or element.VR == "UN":
            put_text(ds, element, result, vr)

    def _cleaned(self, value: str) -> str:
        cleaner = self._deid.cleaner
        # A UID may hold a date: mapped first, it still names what it named.
        return cleaner(self._identity.mask(cleaner.with_mapped_uids(value)))

    def _code(self, ds: Dataset, tag: int, text: str) -> str:
        if tag == _DESIGNATOR:
            return self._deid.codes.scheme(text)
        if tag == _CODE_MEANING:
            return self._deid.codes.meaning(text, read(ds, _DESIGNATOR), self._identity)
        return self._deid.codes.value(text, read(ds, _DESIGNATOR), self._identity)


def _emptied(element: Element, vr: str) -> Element:
    if isinstance(element, RawDataElement) and len(vr) == 2:
        return element._replace(VR=vr, value=b"", length=0)
    return make(element.tag, vr, None)


def _no_birth_date(_text: str) -> str:
    return _NO_BIRTH_DATE


def _nothing(_text: str) -> None:
    return None
