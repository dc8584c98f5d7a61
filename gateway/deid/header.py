"""One pass over the header of one object: what the plan says is done, and what it takes out is learnt.

Free text waits until all names and identifiers are known, for a description may name the patient before PatientName is
reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from gateway.deid import dates, stamps
from gateway.deid.identity import Identity
from gateway.deid.plan import STRINGS, Action, safe_private
from gateway.deid.policy import Refusal, check_class, check_limits, check_pixels
from gateway.deid.release import find_leaks
from gateway.deid.structured import cap_age, is_birth_date
from gateway.deid.uids import is_registered
from gateway.deid.values import (
    DEFAULT_ENCODINGS,
    Element,
    encodings_of,
    make,
    map_values,
    printable,
    put_text,
    read,
    text_of,
)

if TYPE_CHECKING:
    from gateway.deid.engine import Deidentifier

_PATIENT_ID: Final = 0x00100020
_BIRTH_DATE: Final = 0x00100030
_DIRECTORY_RECORDS: Final = 0x00041220
_CLASS_UID: Final = 0x00080016
_MEASURED_VALUES: Final = 0x0040A300
_CODE_MEANING: Final = 0x00080104
_DESIGNATOR: Final = 0x00080102
_OVERLAY_BIT_POSITION: Final = 0x60000102
_OVERLAY_DATA: Final = 0x60003000

_UNDECLARED: Final = frozenset({None, "", "UN"})
_DEFERRED: Final = frozenset({Action.CLEAN, Action.CODE, Action.CODE_STRING})
_REMOVALS: Final = frozenset({Action.REMOVE, Action.EMPTY, Action.DUMMY})
_ANONYMIZED: Final = "ANONYMIZED"
_DUMMIES: Final[dict[str, object]] = {
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101",
    "TM": "000000",
    "DS": "0",
    "IS": "0",
    "UR": "about:blank",
    **dict.fromkeys(("OB", "OW", "UN"), b"\0\0"),
}
_NUMBER_CHARACTERS: Final = frozenset("0123456789+-.eE \\")
_BYTES_A_VALUE: Final = {
    **dict.fromkeys(("US", "SS", "US or SS", "OW"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "AT", "OF", "OL"), 4),
    **dict.fromkeys(("UV", "SV", "FD", "OD", "OV"), 8),
}
_MAX_AGE_YEARS: Final = 90
_AGE_UNITS_A_YEAR: Final = {"D": 365, "W": 52, "M": 12, "Y": 1}


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


class HeaderRun:
    """One run over one object."""

    def __init__(self, deidentifier: Deidentifier, ds: Dataset) -> None:
        self._deid = deidentifier
        self._ds = ds
        self._subject = deidentifier.subject(ds)
        self._identity = Identity()
        self._elements = 0
        self._deferred: list[tuple[Dataset, Element, str, Action, tuple[str, ...]]] = []
        years = self._subject.years
        self._replacements: dict[Action, Callable[[str], str | None]] = {
            Action.UID: lambda uid: deidentifier.uid(uid.strip()),
            Action.TIME: dates.checked_time,
            Action.OFFSET: dates.checked_offset,
            Action.AGE: _capped_age,
            Action.NUMBER: _checked_number,
            Action.TRANSCODE: printable,
        }
        self._dates: dict[str, Callable[[str], str | None]] = {
            "DA": lambda text: dates.shift_date(text, years),
            "DT": lambda text: dates.shift_datetime(text, years),
        }

    def run(self) -> None:
        """De-identify the data set, or raise Refusal."""
        self._check()
        self._learn_subject()
        self._data_set(self._ds, DEFAULT_ENCODINGS, depth=0)
        self._identity.freeze()
        for deferred in self._deferred:
            self._clean(*deferred)
        self._release()
        stamps.stamp(self._ds, self._deid.profile, self._subject.pseudonym)

    def _release(self) -> None:
        """Raise Refusal if identity is left: then a rule has a gap."""
        retains_uids = "retain-uids" in self._deid.profile.options
        leaks = find_leaks(
            self._ds,
            self._identity,
            is_term=self._deid.cleaner.knows,
            is_released_uid=lambda uid: retains_uids or not uid or is_registered(uid) or self._deid.uid.is_issued(uid),
        )
        if leaks:
            raise Refusal(
                f"After de-identification ({leaks[0] >> 16:04X},{leaks[0] & 0xFFFF:04X}) still held identity."
            )

    def _check(self) -> None:
        check_class(read(self._ds, _CLASS_UID), has_directory=_DIRECTORY_RECORDS in self._ds)
        check_pixels(
            burned_in=read(self._ds, 0x00280301).strip(),
            image_type=read(self._ds, 0x00080008),
            label_in_image=read(self._ds, 0x00480010).strip(),
            hidden_overlay=self._has_hidden_overlay(),
        )

    def _has_hidden_overlay(self) -> bool:
        """Whether an overlay has no data of its own, so that its bits are those above the stored ones (PS3.5 8.1.2)."""
        overlays = [tag for tag in list(self._ds.keys()) if tag & 0xFF00FFFF == _OVERLAY_BIT_POSITION]
        return any(tag - _OVERLAY_BIT_POSITION + _OVERLAY_DATA not in self._ds for tag in overlays)

    def _learn_subject(self) -> None:
        if not self._deid.pseudonyms.is_issued(self._subject.patient_id.upper()):
            self._identity.add_number(self._subject.patient_id)

    def _data_set(self, ds: Dataset, inherited: tuple[str, ...], *, depth: int) -> None:
        """Carry out the plan on a data set or item, its elements in ascending order."""
        check_limits(depth=depth, elements=self._elements)
        encodings = encodings_of(ds, inherited)
        actions = self._deid.plan
        tags = sorted(ds.keys())
        self._elements += len(tags)
        creators: set[int] = set()
        for tag in tags:
            element = ds.get_item(tag)
            if element is None:
                continue
            if tag & 0x10000:  # an odd group is private
                self._private(ds, element, encodings, creators, depth)
                continue
            action, vr = actions.resolve(tag, element.VR)
            if action is not Action.KEEP:
                self._act(ds, element, vr, action, encodings, depth)
            elif isinstance(element.value, bytes) and len(element.value) % _BYTES_A_VALUE.get(vr, 1):
                del ds[tag]  # no numbers; pydicom's error about it would quote the bytes
        for tag in tags:
            if tag & 0x10000 and tag & 0xFFFF < 0x1000 and tag not in creators:
                del ds[tag]

    def _act(
        self, ds: Dataset, element: Element, vr: str, action: Action, encodings: tuple[str, ...], depth: int
    ) -> None:
        if action in _DEFERRED:
            self._deferred.append((ds, element, vr, action, encodings))
        elif action is Action.RECURSE:
            self._recurse(ds, element, encodings, depth)
        elif action in _REMOVALS:
            self._learn(ds, element, vr, encodings)
            self._take_out(ds, element, vr, action, encodings)
        else:
            if action is Action.DATE:
                replace = _no_birth_date if is_birth_date(ds) else self._dates.get(vr, _nothing)
            else:
                replace = self._replacements[action]
            self._replace(ds, element, vr, encodings, replace)

    def _recurse(self, ds: Dataset, element: Element, encodings: tuple[str, ...], depth: int) -> None:
        sequence = ds[element.tag]
        if sequence.VR != "SQ":
            del ds[element.tag]
            return
        for item in sequence.value or ():
            self._data_set(item, encodings, depth=depth + 1)
            if element.tag == _MEASURED_VALUES:
                cap_age(ds, item)

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
        tag = element.tag
        if action is Action.REMOVE:
            del ds[tag]
        elif vr == "SQ":
            ds[tag] = make(tag, vr, [stamps.anonymous_code()] if action is Action.DUMMY else [])
        elif action is Action.EMPTY or not element.value:
            ds[tag] = make(tag, vr, None)
        elif tag == _PATIENT_ID:
            ds[tag] = make(tag, vr, self._pseudonym(text_of(element, encodings).strip()))
        else:
            ds[tag] = make(tag, vr, _DUMMIES.get(vr, _ANONYMIZED))

    def _pseudonym(self, patient_id: str) -> str:
        if patient_id in ("", self._subject.patient_id):
            return self._subject.pseudonym
        return self._deid.pseudonyms.of_patient(patient_id)

    def _private(
        self, ds: Dataset, element: Element, encodings: tuple[str, ...], creators: set[int], depth: int
    ) -> None:
        """Keep a private element if the profile says so and its creator and number are on the safe list."""
        tag = element.tag
        if tag & 0xFFFF < 0x1000:  # creators stay or go with what they created
            return
        reservation = (tag & 0xFFFF0000) | (tag & 0xFF00) >> 8
        if self._deid.plan.keeps_safe_private and reservation in ds:
            creator = read(ds, reservation).strip()
            vr = safe_private().get((tag >> 16, creator, tag & 0xFF))
            if vr is not None and element.VR in {vr, *_UNDECLARED}:
                creators.add(reservation)
                action = self._deid.plan.by_vr(tag, vr)
                if action is not Action.KEEP:
                    self._act(ds, element, vr, action, encodings, depth)
                return
        del ds[tag]

    def _learn(self, ds: Dataset, element: Element, vr: str, encodings: tuple[str, ...]) -> None:
        """Learn names, identifiers and places from what is taken out, so that no other text repeats them."""
        if vr == "SQ":
            self._learn_items(ds, element, encodings)
        if vr not in STRINGS or not element.value:
            return
        for value in text_of(element, encodings, vr).split("\\"):
            if self._deid.pseudonyms.is_issued(value.strip().upper()):
                continue
            if vr == "PN":
                self._identity.add_name(value)
            elif element.tag in _IDENTIFIERS:
                self._identity.add_number(value)
            elif element.tag in _PLACES:
                self._identity.add_phrase(value)

    def _learn_items(self, ds: Dataset, element: Element, encodings: tuple[str, ...]) -> None:
        sequence = ds[element.tag]
        for item in sequence.value or () if sequence.VR == "SQ" else ():
            inner = encodings_of(item, encodings)
            for tag in list(item.keys()):
                child = item.get_item(tag)
                if child is not None and not tag & 0x10000:
                    self._learn(item, child, self._deid.plan.resolve(tag, child.VR)[1], inner)

    def _clean(self, ds: Dataset, element: Element, vr: str, action: Action, encodings: tuple[str, ...]) -> None:
        """Clean text, now that all names and identifiers of the object are known."""
        if not element.value:
            return
        text = text_of(element, encodings, vr)
        if action is Action.CLEAN:
            result = map_values(text, vr, self._cleaned)
        elif action is Action.CODE_STRING:
            result = map_values(text, vr, lambda value: self._deid.codes.code_string(value, self._identity))
        else:
            result = self._code(ds, element.tag, text)
        if result != text or not text.isascii() or element.VR == "UN":
            put_text(ds, element, result, vr)

    def _cleaned(self, value: str) -> str:
        return self._deid.cleaner(self._identity.mask(printable(value)))

    def _code(self, ds: Dataset, tag: int, text: str) -> str:
        if tag == _DESIGNATOR:
            return self._deid.codes.scheme(text)
        if tag == _CODE_MEANING:
            return self._deid.codes.meaning(printable(text), read(ds, _DESIGNATOR), self._identity)
        return self._deid.codes.value(text, read(ds, _DESIGNATOR), self._identity)


def _no_birth_date(_text: str) -> str:
    return str(_DUMMIES["DA"])


def _nothing(_text: str) -> None:
    return None


def _capped_age(text: str) -> str | None:
    """Return an AS value, at most 90 years (HIPAA 45 CFR 164.514(b)(2)(i)(C))."""
    age = text.strip()
    if len(age) != 4 or not (age[:3].isascii() and age[:3].isdigit()) or age[3] not in _AGE_UNITS_A_YEAR:
        return None
    return age if int(age[:3]) // _AGE_UNITS_A_YEAR[age[3]] < _MAX_AGE_YEARS else f"{_MAX_AGE_YEARS:03d}Y"


def _checked_number(text: str) -> str | None:
    return text if set(text) <= _NUMBER_CHARACTERS else None
