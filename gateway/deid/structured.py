"""What coded concepts make of content items (PS3.15 Table E.3.4-1): a date may be a birth date, a number an age."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from gateway.deid.values import make, read

CONCEPT_NAMES: Final = 0x0040A043
MEASURED_VALUES: Final = 0x0040A300
_CODE_VALUE: Final = 0x00080100
_NUMERIC_VALUE: Final = 0x0040A30A
_UNITS: Final = 0x004008EA
#: Subject Birth Date (DCM), Date of birth (SCT, SRT, LOINC).
_BIRTH_DATES: Final = frozenset({"121031", "184099003", "P0-00101", "21112-8"})
#: Subject Age (DCM), Current age (SCT, SRT), Age (LOINC).
_AGES: Final = frozenset({"121033", "424144002", "R-00388", "30525-0"})
_MAX_AGE: Final = {"a": 90, "mo": 1080, "wk": 4680, "d": 32850}


def is_birth_date(item: Dataset) -> bool:
    """Whether a DATE or DATETIME content item says when someone was born: no shift makes that harmless."""
    return _concept(item) in _BIRTH_DATES


def cap_age(item: Dataset, measured: Dataset) -> None:
    """Bring the measured value of a content item that is an age over 90 years down to 90."""
    if _concept(item) not in _AGES:
        return
    limit = _MAX_AGE.get(_first_code(measured, _UNITS), 0)
    try:
        is_over = float(read(measured, _NUMERIC_VALUE) or 0) > limit
    except ValueError:
        is_over = True
    if is_over:
        measured[_NUMERIC_VALUE] = make(_NUMERIC_VALUE, "DS", str(limit))


def _concept(item: Dataset) -> str:
    return _first_code(item, CONCEPT_NAMES)


def _first_code(item: Dataset, tag: int) -> str:
    if tag not in item or item[tag].VR != "SQ" or not item[tag].value:
        return ""
    return read(item[tag].value[0], _CODE_VALUE).strip()
