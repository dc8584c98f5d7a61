"""The places that identity hides in: the patient's own attributes, descriptors, the whole table, private blocks."""

from __future__ import annotations

import re

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset

from benchmarks.deid.people import plain
from benchmarks.deid.planting import LIMITS, Planter, items
from gateway.deid.tables import table

#: A sequence that Table E.1-1 does not list, in which its attributes occur once more.
UNLISTED = 0x00189301
#: Facts of the TCIA private tag knowledge base of 2024-02-01: group, creator, element, VR; of the kept ones a value.
#: All kept ones are in Table E.3.10-1 of PS3.15, too.
_KEPT = {
    "GEMS": [
        (0x0019, "GEMS_ACQU_01", 0x23, "DS", "0.625"),
        (0x0019, "GEMS_ACQU_01", 0x27, "DS", "0.8"),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", "1000"),
        (0x0043, "GEMS_PARM_01", 0x6F, "DS", "2.5"),
    ],
    "SIEMENS": [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "1000"),
        (0x0019, "SIEMENS MR HEADER", 0x0D, "CS", "DIRECTIONAL"),
        (0x0019, "SIEMENS MR HEADER", 0x0E, "FD", [0.5, 0.25, 0.125]),
        (0x0019, "SIEMENS MR HEADER", 0x27, "FD", [0.5, 0.25, 0.125, 1.0, 2.0, 3.0]),
    ],
    "PHILIPS": [
        (0x2001, "Philips Imaging DD 001", 0x01, "FL", 3.5),
        (0x2001, "Philips Imaging DD 001", 0x04, "CS", "I"),
        (0x2001, "Philips Imaging DD 001", 0x06, "CS", "N"),
        (0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", 1.25),
    ],
}
_REMOVED = {
    "GEMS": [
        (0x0009, "GEMS_IDEN_01", 0x02, "SH"),
        (0x0009, "GEMS_IDEN_01", 0x30, "SH"),
        (0x0009, "GEMS_IDEN_01", 0x31, "SH"),
        (0x0043, "GEMS_PARM_01", 0x62, "SH"),
    ],
    "SIEMENS": [
        (0x0019, "SIEMENS MR HEADER", 0x09, "LO"),
        (0x0029, "SIEMENS CSA HEADER", 0x09, "LO"),
        (0x0051, "SIEMENS MR HEADER", 0x0A, "LO"),
        (0x0009, "SIEMENS CT VA0  IDE", 0x10, "LO"),
    ],
    "PHILIPS": [
        (0x2001, "Philips Imaging DD 001", 0xC8, "LO"),
        (0x2005, "Philips MR Imaging DD 001", 0x18, "LO"),
        (0x2005, "Philips MR Imaging DD 001", 0x35, "CS"),
        (0x0009, "SPI-P Release 1", 0x15, "LO"),
    ],
}
MAKERS = tuple(_KEPT)
_TEXT = {"LO", "SH", "ST", "LT", "UT", "UC"}
#: What names the object itself, which the rest of the corpus relies on.
_OWN = {0x00080018, 0x00100021, 0x0020000D, 0x0020000E, 0x00200052, 0x00100020, 0x00100010, 0x00100030}
_CATEGORY = "patient"


def patient(planter: Planter, mrn: str) -> None:
    """Everything that modalities fill in about the patient, the order and the place."""
    person, places = planter.person, planter.person.places
    born, name = person.born, person.name

    def put(keyword: str, vr: str, value: str, *texts: str) -> None:
        answers = [("text_removed", text) for text in texts or (value,)]
        planter.put(keyword, vr, value, *answers, category=_CATEGORY)

    put("PatientName", "PN", name, *filter(None, name.replace("=", "^").split("^")))
    planter.put("PatientID", "LO", mrn, ("text_removed", mrn), ("patid_consistent", mrn), category=_CATEGORY)
    put("PatientBirthDate", "DA", f"{born:%Y%m%d}")
    put("AccessionNumber", "SH", places["accession"])
    put("InstitutionName", "LO", places["institution"])
    put(
        "InstitutionAddress",
        "ST",
        f"{places['address']}, {places['ZIP']} {places['town']}",
        places["town"],
        places["ZIP"],
    )
    put("InstitutionalDepartmentName", "LO", places["department"])
    doctor = "^".join([places["physician"], places["physician's given name"]])
    put("ReferringPhysicianName", "PN", doctor, *doctor.split("^"))
    put("PerformingPhysicianName", "PN", doctor, *doctor.split("^"))
    put("OperatorsName", "PN", places["operator"])
    put("StationName", "SH", places["station"])
    put("DeviceSerialNumber", "LO", places["serial"])
    put("OtherPatientIDs", "LO", person.mrns[-1])
    put("PatientTelephoneNumbers", "SH", places["phone"])
    put("PatientAddress", "LO", places["address"])
    age = planter.study.day.year - born.year
    planter.control("PatientSex", "CS", "F")
    if person.is_old:
        planter.put("PatientAge", "AS", f"{age:03d}Y", ("text_removed", f"{age:03d}"), category=_CATEGORY)
    else:
        planter.control("PatientAge", "AS", f"{age:03d}Y")
    planter.control("PatientWeight", "DS", "71.5")


def descriptors(planter: Planter) -> None:
    """Descriptors as people fill them: words of radiology, with a patient among them; and some without."""
    for keyword, vr in (("StudyDescription", "LO"), ("SeriesDescription", "LO"), ("ImageComments", "LT")):
        planter.text(keyword, vr, category="descriptor", cleaned=True)
    planter.control("ProtocolName", "LO", planter.term())
    planter.control("Manufacturer", "LO", "SIEMENS")
    planter.control("Modality", "CS", planter.ds.Modality)
    planter.text("PatientComments", "LT", category="descriptor", cleaned=True)
    planter.text("AdditionalPatientHistory", "LT", category="descriptor", cleaned=True)
    planter.text("RequestedProcedureDescription", "LO", category="descriptor", cleaned=True)


def numbers(planter: Planter) -> None:
    """Measured and technical values, which must stay."""
    for keyword in ("KVP", "EchoTime", "DiffusionBValue", "SliceThickness", "Rows", "Columns", "RescaleSlope"):
        element = planter.ds.get_item(keyword)
        if element is not None:
            planter.control(keyword, str(planter.ds[keyword].VR), planter.ds[keyword].value)
    planter.note(
        ((0x00080016,),), str(planter.ds.SOPClassUID), [("text_retained", str(planter.ds.SOPClassUID))], "control"
    )


def private_blocks(planter: Planter, maker: str) -> None:
    """A maker's private attributes, half of them harmless, and a block of nobody's in which the patient is named."""
    for group, creator, number, vr, value in _KEPT[maker]:
        first = value[0] if isinstance(value, list) else value
        planter.private(creator, (group, number), vr, value, "text_retained", str(first))
    for group, creator, number, vr in _REMOVED[maker]:
        identity = planter.identity(LIMITS[vr], is_ascii=vr == "CS")
        value = identity.upper() if vr == "CS" else identity
        planter.private(creator, (group, number), vr, value, "text_removed", identity)
    name = plain(planter.person.family)[:16] if planter.person.family.isascii() else "NAMED BY NOBODY"
    mrn = planter.person.mrns[0]
    planter.private(name, (0x0099, 0x01), "UN", mrn.encode() + b" " * (len(mrn) % 2), "text_removed", mrn)
    nested = Dataset()
    nested.PatientName, nested.PatientComments = planter.person.name, planter.identity(60)
    planter.private("ACME PRIVATE", (0x0011, 0x05), "SQ", items(nested), "text_removed", planter.person.family)


def whole_table(planter: Planter) -> None:
    """Identity in every attribute of Table E.1-1 whose VR can hold it, once more inside a sequence it does not list."""
    planter.put(UNLISTED, "SQ", items(Dataset()), category="nested")
    for pattern, (_, options) in table().items():
        if not re.fullmatch("[0-4][0-9A-F]{7}", pattern) or (tag := int(pattern, 16)) < 0x00080000:
            continue
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "LO"  # the newest are in no dictionary yet
        if tag >> 16 & 1:
            continue
        is_cleaned = options.get("clean-descriptors") == "C" and dictionary_has_tag(tag)
        if tag not in _OWN:
            _listed(planter, tag, vr, is_cleaned, ())
        _listed(planter, tag, vr, is_cleaned, ((UNLISTED, 0),))


def _listed(planter: Planter, tag: int, vr: str, is_cleaned: bool, at: tuple[tuple[int, int], ...]) -> None:
    """Identity in one attribute of the table, as its VR allows."""
    study, person = planter.study, planter.person
    category = "table, nested" if at else "table"

    def put(value: object, *answers: tuple[str, str]) -> None:
        planter.put(tag, vr, value, *answers, category=category, at=at)

    if vr in _TEXT:
        planter.text(tag, vr, category=category, at=at, cleaned=is_cleaned and LIMITS[vr] > LIMITS["SH"])
    elif vr in {"CS", "AE"}:
        planter.text(tag, vr, category=category, at=at)
    elif vr == "PN":
        put(person.name, ("text_removed", person.family), ("text_removed", person.given))
    elif vr == "UR":
        put(person.places["URL"], ("text_removed", person.places["URL"]))
    elif vr == "UI":
        uid = study.uid(f"{tag:08x}{at}")
        put(uid, ("uid_changed", uid), ("uid_consistent", uid))
    elif vr in {"DA", "DT"}:
        day = f"{study.day:%Y%m%d}" + ("101112" if vr == "DT" else "")
        put(day, ("date_shifted", day))
    elif vr == "TM":
        put("101112")
    elif vr == "SQ":
        _sequence(planter, tag, (*at, (tag, 0)))
    elif vr in {"OB", "OW", "UN"}:
        text = person.family.encode("utf-8")
        put(text + b" " * (len(text) % 2), ("text_removed", person.family))


def _sequence(planter: Planter, tag: int, at: tuple[tuple[int, int], ...]) -> None:
    """A sequence of the table, with an item in which the patient is named."""
    category = "table, items"
    planter.put(tag, "SQ", items(Dataset()), category=category, at=at[:-1])
    planter.text("PatientComments", "LT", category=category, at=at)
    planter.text("TextValue", "UT", category=category, at=at)
    name = planter.person.name
    planter.put("PersonName", "PN", name, ("text_removed", planter.person.family), category=category, at=at)
    uid = planter.study.uid(f"item{tag:08x}")
    planter.put("ReferencedSOPInstanceUID", "UI", uid, ("uid_changed", uid), category=category, at=at)
    day = f"{planter.study.day:%Y%m%d}"
    planter.put("ScheduledProcedureStepStartDate", "DA", day, ("date_shifted", day), category=category, at=at)
