"""A made-up person whom nobody else is called like: the texts that say who it is, and objects that are refused."""

from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset

from tests.samples import part10

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
#: The person, and who and what is around them.
PERSON: dict[str, Any] = {
    "PatientName": "Quibblethwaite^Zaphodine",
    "PatientID": "MRNX-90817263",
    "PatientBirthDate": "19370629",
    "OtherPatientNames": "Schröttingsbrünn^Zaphodine",
    "OtherPatientIDs": "SSN-078-05-1120",
    "PatientAddress": "77 Gummibaerenweg",
    "PatientTelephoneNumbers": "+49 5550177342",
    "AccessionNumber": "ACCZ55667788",
    "StudyID": "STZ9182736",
    "ReferringPhysicianName": "Vandersnoot^Hieronymus",
    "OperatorsName": "Mxyzlfinger^Ottokar",
    "InstitutionName": "Krankenhaus Unterwoelbling",
    "InstitutionalDepartmentName": "Station Ypsilonflur",
    "StationName": "WQUIBSTATION",
    "PatientComments": "Quibblethwaite, see MRNX-90817263, born 19370629",
    "StudyDescription": "CT HEAD Quibblethwaite MRNX-90817263",
    "RequestAttributesSequence": [],
}
#: Who sends, in an AE title; and what headers, paths and file names of requests say of the person besides.
CALLING_TITLE = "WARDQUIBBLE7"
ASIDES = ("Refquaxolotl", "Agentblorptwist", "Filesnargle", "Locswizzlebin", "Querfumbledorn", "Pathgrimblewick",
          "Reqidsnorkelby", "Methodsprocket", "Paramglimworth")  # fmt: skip
_KNOWN = ("CT", "HEAD", "see", "born", "Station")
#: Texts that say who somebody is: words of names, numbers, dates and addresses.
TEXTS = sorted(
    {
        word
        for value in PERSON.values()
        if isinstance(value, str)
        for word in value.replace("^", " ").replace(",", " ").split()
        if len(word) > 4 and word not in _KNOWN
    }
    | {CALLING_TITLE, *ASIDES}
)


def bad_objects(planted: Callable[..., Dataset]) -> Iterator[tuple[bytes, str]]:
    """Objects that make each reason to refuse speak, with the UID that their sender may be told."""
    whole = planted()
    changes: list[dict[str, Any]] = [
        {"BurnedInAnnotation": "YES"},
        {
            "SOPClassUID": ENCAPSULATED_PDF,
            "DocumentTitle": "Quibblethwaite",
            "EncapsulatedDocument": b"Mxyzlfinger",
        },
        {"SOPClassUID": "1.2.826.0.1.3680043.9.7777"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LABEL"]},
    ]
    for change in changes:
        ds = planted(**change)
        yield part10(ds), str(ds.SOPInstanceUID)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        ds = planted()
        uid = str(ds.SOPInstanceUID)
        yield part10(ds).replace(str(ds[keyword].value).encode(), b"Quibblethwaite.MRNX-90817263"[:64]), uid
    content, uid = part10(whole), str(whole.SOPInstanceUID)
    yield content[:-40], uid
    yield content[:700], uid
    yield content.replace(b"19370629", b"1937DOE9"), uid
    yield content.replace(b"DA\x08\x0019370629", b"DS\x08\x0019370629"), uid
    yield content.replace(b"US\x02\x00\x10\x00", b"US\x03\x00\x10\x00"), uid
    yield content.replace(b"ISO_IR 100", b"Quibbletwa"), uid
    deep = planted()
    for _ in range(70):
        outer = Dataset()
        outer.ReferencedStudySequence, outer.PatientName = [deep], PERSON["PatientName"]
        deep = outer
    nested = planted()
    nested.ReferencedStudySequence = [deep]
    yield part10(nested), str(nested.SOPInstanceUID)
