"""What coded concepts make of content items (PS3.15 Table E.3.4-1): a text may be an identifier, a number an age."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import cache
from typing import Final

from pydicom.dataset import Dataset

from gateway.deid.plan import Action
from gateway.deid.tables import facts
from gateway.deid.values import elements_of, make, read

CONCEPT_NAMES: Final = 0x0040A043
MEASURED_VALUES: Final = 0x0040A300
#: Tells that content items are named by their places in the tree, which then may not change (PS3.3 C.17.3.2.4).
POSITIONS: Final = 0x0040DB73
_VALUE_TYPE: Final = 0x0040A040
TEXT_VALUE: Final = 0x0040A160
_CODE_VALUE: Final = 0x00080100
_DESIGNATOR: Final = 0x00080102
#: References: their UIDs are replaced, and still tell what belongs to what.
_REFERENCES: Final = frozenset({"UIDREF", "COMPOSITE", "IMAGE", "WAVEFORM"})
#: What holds the value of content items that go, where the items themselves have to stay.
_VALUES: Final = {
    "TEXT": (TEXT_VALUE, "UT", "ANONYMIZED"),
    "NUM": (MEASURED_VALUES, "SQ", []),
    "CODE": (0x0040A168, "SQ", []),
    "CONTAINER": (0x0040A730, "SQ", []),
    "PNAME": (0x0040A123, "PN", "ANONYMIZED"),
    "DATE": (0x0040A121, "DA", "19000101"),
    "DATETIME": (0x0040A120, "DT", "19000101"),
    "TIME": (0x0040A122, "TM", "000000"),
}
_NUMERIC_VALUE: Final = 0x0040A30A
_UNITS: Final = 0x004008EA
#: Subject Birth Date (DCM), Date of birth (SCT, SRT, LOINC).
_BIRTH_DATES: Final = frozenset({"121031", "184099003", "P0-00101", "21112-8"})
#: Subject Age (DCM), Current age (SCT, SRT), Age (LOINC).
_AGES: Final = frozenset({"121033", "424144002", "R-00388", "30525-0"})
_MAX_AGE: Final = {"a": 90, "mo": 1080, "wk": 4680, "d": 32850}


@cache
def table() -> dict[tuple[str, str, str], tuple[str, dict[str, str]]]:
    """Table E.3.4-1 of 2026a: scheme, code and value type -> action of the profile and of its options."""
    return {
        (scheme, code, kind): (basic, options)
        for scheme, code, kind, _meaning, basic, options in facts("e3_4_1.json")["rows"]
    }


class ContentItems:
    """What one profile does with content items, beyond what it does with their attributes."""

    def __init__(self, options: AbstractSet[str]) -> None:
        self._actions = {key: action for key, row in table().items() if (action := _decided(key[2], *row, options))}

    def action(self, item: Dataset) -> Action | None:
        """Return REMOVE, DUMMY or TRANSCODE (the text stays as it is) for a content item; None if it is like others."""
        elements = elements_of(item)
        if CONCEPT_NAMES not in elements or _VALUE_TYPE not in elements:
            return None
        kind = read(item, _VALUE_TYPE).strip()
        return self._actions.get((*_coded(item, CONCEPT_NAMES), kind))

    def identifies(self, item: Dataset) -> bool:
        """Whether the text of a content item is an identifier or the name of a place, to be found nowhere else."""
        return self.action(item) in {Action.REMOVE, Action.DUMMY} and TEXT_VALUE in item


def _decided(kind: str, basic: str, options: dict[str, str], chosen: AbstractSet[str]) -> Action | None:
    """The action of a row under options; cleaned text and moved dates are the work of the rules for attributes."""
    taken = {options[option] for option in options if option in chosen}
    if kind in _REFERENCES or "C" in taken:
        return None
    if taken:
        return Action.TRANSCODE if kind == "TEXT" else None
    if basic == "X":
        return Action.REMOVE
    return Action.DUMMY if kind == "TEXT" else None


def blank(item: Dataset) -> None:
    """Take the value out of a content item that stays."""
    tag, vr, value = _VALUES[read(item, _VALUE_TYPE).strip()]
    item[tag] = make(tag, vr, value)


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
    return _coded(item, tag)[1]


def _coded(item: Dataset, tag: int) -> tuple[str, str]:
    """Scheme and value of the first code of a sequence."""
    if tag not in item or item[tag].VR != "SQ" or not item[tag].value:
        return "", ""
    entry = item[tag].value[0]
    return read(entry, _DESIGNATOR).strip(), read(entry, _CODE_VALUE).strip()
