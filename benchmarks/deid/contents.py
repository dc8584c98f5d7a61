"""What the kinds of objects have people write into them, each in places of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.deid.planting import LIMITS, Planter
from gateway.deid.tables import table

_CONTENT = 0x0040A730
_TEXT_VALUE, _PERSON = 0x0040A160, 0x0040A123
_CLEAN = {"clean-descriptors", "clean-structured-content"}
#: Kind -> steps to an item, tag, VR.
_PLACES: Mapping[str, list[tuple[Any, int, str]]] = {
    "SR measurements": [
        (((_CONTENT, 0),), _PERSON, "PN"),
        (((_CONTENT, 2),), _TEXT_VALUE, "UT"),
        (((_CONTENT, 3), (_CONTENT, 1)), _TEXT_VALUE, "UT"),
    ],
    "SR dose": [(((_CONTENT, 3),), _TEXT_VALUE, "UT")],
    "SR text": [(((_CONTENT, 0),), _TEXT_VALUE, "UT")],
    "KO": [(((_CONTENT, 0),), _TEXT_VALUE, "UT")],
    "GSPS": [
        ((), 0x00700080, "CS"),
        ((), 0x00700081, "LO"),
        ((), 0x00700084, "PN"),
        (((0x00700001, 0), (0x00700008, 0)), 0x00700006, "ST"),
        (((0x00700060, 0),), 0x00700068, "LO"),
    ],
    "RTSTRUCT": [
        ((), 0x30060002, "SH"),
        ((), 0x30060004, "LO"),
        (((0x30060020, 0),), 0x30060026, "LO"),
        (((0x30060080, 0),), 0x300600A6, "PN"),
    ],
    "RTPLAN": [
        ((), 0x300A0002, "SH"),
        ((), 0x300E0008, "PN"),
        (((0x300A00B0, 0),), 0x300A00C2, "LO"),
        (((0x300A00B0, 0),), 0x300A00C3, "ST"),
    ],
    "SEG": [
        ((), 0x00700084, "PN"),
        (((0x00620002, 0),), 0x00620005, "LO"),
        (((0x00620002, 0),), 0x00620006, "ST"),
        (((0x00620002, 0),), 0x00620020, "UT"),
    ],
    "ECG": [(((0x0040B020, 0),), 0x00700006, "ST")],
    "WSI": [((), 0x00400512, "LO"), (((0x00400560, 0),), 0x00400551, "LO")],
    "CT": [((), 0x00180010, "LO"), ((), 0x00081090, "LO"), ((), 0x00181020, "LO")],
    "MR": [((), 0x00180024, "SH"), ((), 0x00180015, "CS")],
    **{kind: [((), 0x00420010, "ST")] for kind in ("PDF", "CDA", "STL")},
}
#: What stays as it is: kind -> steps, tag, value.
_CONTROLS: Mapping[str, list[tuple[Any, int, str]]] = {
    "SR measurements": [
        (((_CONTENT, 3), (_CONTENT, 2), (0x0040A300, 0)), 0x0040A30A, "12.5"),
        (((_CONTENT, 3), (_CONTENT, 2), (0x0040A043, 0)), 0x00080104, "Length"),
    ],
    "SR dose": [(((_CONTENT, 1), (0x0040A300, 0)), 0x0040A30A, "345.6")],
    "PET": [(((0x00540016, 0),), 0x00181074, "370000000"), (((0x00540016, 0),), 0x00181072, "091500")],
    "SEG": [(((0x00620002, 0), (0x0062000F, 0)), 0x00080104, "Bone")],
    "RTSTRUCT": [(((0x30060039, 0), (0x30060040, 0)), 0x30060046, "3")],
}


def fill(planter: Planter) -> None:
    """Plant identity where objects of this kind have people write."""
    kind = planter.entry.kind
    for at, tag, vr in _PLACES.get(kind, ()):
        if vr == "PN":
            family, given = planter.person.family, planter.person.given
            answers = [("text_removed", family), ("text_removed", given)]
            planter.put(tag, vr, planter.person.name, *answers, category="content", at=at)
        else:
            planter.text(tag, vr, category="content", at=at, cleaned=kind != "SR dose" and _is_cleaned(tag, vr))
    for at, tag, value in _CONTROLS.get(kind, ()):
        planter.note((*at, (tag,)), value, [("text_retained", value)], "control")
    if kind in {"PDF", "CDA", "STL"}:
        _document(planter)


def _is_cleaned(tag: int, vr: str) -> bool:
    """Whether words of radiology are to stay: the table says that the text is cleaned, or knows nothing of it."""
    if LIMITS[vr] <= LIMITS["SH"]:
        return False
    basic, options = table().get(f"{tag:08X}", ("", {}))
    return not basic or any(options.get(option) == "C" for option in _CLEAN)


def _document(planter: Planter) -> None:
    person = planter.person
    text = f"Report about {person.given} {person.family}, {person.mrns[0]}"
    wrapped = {
        "PDF": f"%PDF-1.4\n1 0 obj<</Title({text})>>endobj\ntrailer<</Info 1 0 R>>\n%%EOF\n",
        "CDA": f"<?xml version='1.0' encoding='UTF-8'?><ClinicalDocument><title>{text}</title></ClinicalDocument>\n",
        "STL": text.ljust(80),
    }[planter.entry.kind].encode("utf-8")
    value = wrapped + b"\0" * (len(wrapped) % 2)
    answers = [("text_removed", person.mrns[0])]
    planter.put("EncapsulatedDocument", "OB", value, *answers, category="content")
