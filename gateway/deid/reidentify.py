"""The way back: an object of the archive as the PACS knows its patient, for who has the right to know, too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomweb.errors import Conflict, IsthmusError
from gateway.deid.dates import shift_date, shift_datetime
from gateway.deid.original import DESIGNATOR, PATIENT, PATIENT_ID, PATIENT_NAME, STUDY, STUDY_DATE, Original
from gateway.deid.values import make, values_of

#: What tells of the de-identification: identity removed, method, method codes, what became of dates.
_STATEMENTS: Final = (0x00120062, 0x00120063, 0x00120064, 0x00280303)
#: Attributes that must be there, empty if nothing is known (type 2).
_TYPE_2: Final = frozenset({PATIENT_NAME, PATIENT_ID})
_CHARACTER_SET: Final = 0x00080005
#: Dates of a result that are no further from that of the study were moved with it. What was made later, such as the day
#: on which a viewer stored it, is at least a year less this away.
_NEAR: Final = timedelta(days=31)


class NotInVault(Conflict):
    """The object refers to something of which the archive holds no original of its patient."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of an object: UIDs by the ones that were issued for them, and what its study said of the patient;
    `is_own` if it came in with that itself, so that it is no result.
    """

    uids: Mapping[str, str]
    original: Original
    is_own: bool = False


def issued_uids(ds: Dataset, is_issued: Callable[[str], bool]) -> set[str]:
    """All UIDs anywhere in a data set that were issued here."""
    return {uid for element in _elements(ds) if element.VR == "UI" for uid in _texts(element) if is_issued(uid)}


def reidentified(ds: Dataset, truth: Truth, is_issued: Callable[[str], bool]) -> Dataset:
    """Return a copy of an object with the identity of its patient and the UIDs that others know.

    UIDs that were not issued here, such as those that a result brought with it, stay as they are.

    Raises
    ------
    NotInVault : if a UID was issued here and the archive does not hold what for.
    """
    try:
        result = copy.deepcopy(ds)
        pseudonym = str(result.get("PatientID") or "")
        result.decode()
        moved_back = _dates_back(str(result.get("StudyDate") or ""), truth.original.texts.get(STUDY_DATE, ""))
        for element in _elements(result):
            if element.VR in {"DA", "DT"}:
                _replace(element, moved_back)
            elif element.VR == "UI":
                _replace(element, lambda uid: _resolved(uid, truth.uids, is_issued))
            elif int(element.tag) in _TYPE_2 and str(element.value) == pseudonym:
                _set(element, truth.original.texts.get(int(element.tag), pseudonym))
        _restore(result, truth.original)
        if "MediaStorageSOPInstanceUID" in getattr(result, "file_meta", ()):
            result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    except IsthmusError:
        raise
    except Exception as exc:  # noqa: BLE001 - what pydicom says may quote values
        raise Conflict(f"The object could not be re-identified ({type(exc).__name__}).") from None
    return result


def _elements(ds: Dataset) -> Iterator[DataElement]:
    """All elements, with those of items."""
    for element in ds:
        yield element
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _elements(item)


def _texts(element: DataElement) -> list[str]:
    value: Any = element.value
    if value is None or value == "":
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) or element.VM > 1 else [str(value)]


def _replace(element: DataElement, replace: Callable[[str], str]) -> None:
    texts = [replace(text) for text in _texts(element)]
    if texts:
        element.value = texts if len(texts) > 1 else texts[0]


def _resolved(uid: str, known: Mapping[str, str], is_issued: Callable[[str], bool]) -> str:
    if uid in known:
        return known[uid]
    if is_issued(uid):
        raise NotInVault
    return uid


def _dates_back(shifted: str, original: str) -> Callable[[str], str]:
    """How dates that were moved together with that of the study become true again; others stay."""
    try:
        day, years = _day(shifted), int(shifted[:4]) - int(original[:4])
    except ValueError:
        return str

    def back(text: str) -> str:
        try:
            if not years or abs(_day(text) - day) > _NEAR:
                return text
        except ValueError:
            return text
        return (shift_date(text, years) if len(text) == len("YYYYMMDD") else shift_datetime(text, years)) or text

    return back


def _day(text: str) -> date:
    """The day of a date, or of a date and time; raise ValueError."""
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def _set(element: DataElement, text: str) -> None:
    element.value = make(element.tag, element.VR, text).value


def _restore(ds: Dataset, original: Original) -> None:
    """Put back what the study said of the patient and of itself; take out what tells of the de-identification."""
    for tag in _STATEMENTS:
        if tag in ds:
            del ds[tag]
    for tag, vr in {**PATIENT, **STUDY}.items():
        text = original.texts.get(tag)
        if text:
            ds[tag] = _designated(tag, text) if vr == "SQ" else _element(tag, vr, text)
        elif text is not None and tag in _TYPE_2:
            ds[tag] = make(tag, vr, "")
        elif text is not None and tag in ds:
            del ds[tag]
    if not all(text.isascii() for text in original.texts.values()):
        ds[_CHARACTER_SET] = make(_CHARACTER_SET, "CS", "ISO_IR 192")


def _element(tag: int, vr: str, text: str) -> DataElement:
    values = values_of(text, vr)
    return make(tag, vr, values if len(values) > 1 else text)


def _designated(tag: int, text: str) -> DataElement:
    """An issuer of its parts."""
    item = Dataset()
    for part, (part_tag, part_vr) in zip(text.split("\\"), DESIGNATOR.items(), strict=False):
        if part:
            item[part_tag] = make(part_tag, part_vr, part)
    return make(tag, dictionary_VR(tag), [item])
