"""128 strings that stand for people, one in each place, in nine objects: what of them is in any byte afterwards?

The groups are those in which such a test was made of other tools before, so that the figures can be compared.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import config, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.deid import documents, images, scan
from benchmarks.deid.answers import Answer
from benchmarks.deid.images import Study
from benchmarks.deid.people import Person
from benchmarks.deid.pictures import is_hidden
from tests.burned_in import burn

COUNT = 128
_ROOT = "1.2.826.0.1.3680043.9.7134"
_NOBODY = Person(98, "Nobody^Known", "ISO_IR 100", ("X",), date(1950, 1, 2))


@dataclass
class Canaries:
    """Nine objects, and what is planted in each: token -> group."""

    objects: dict[str, bytes] = field(default_factory=dict)
    planted: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Where text was burned into the ultrasound image.
    box: tuple[int, int, int, int] = (0, 0, 0, 0)

    def groups(self) -> Counter[str]:
        """How many there are in each group."""
        return Counter(group for tokens in self.planted.values() for group in tokens.values())

    def write(self, folder: Path) -> None:
        """Write the objects into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, raw in self.objects.items():
            (folder / f"{name}.dcm").write_bytes(raw)

    def leaked(self, name: str, raw: bytes) -> Counter[str]:
        """How many canaries of an object are in the bytes that became of it, by group."""
        tokens = self.planted[name]
        found = scan.leaks(raw, {token: token for token in tokens})
        return Counter(tokens[token] for token in found)

    def burned(self, raw: bytes) -> Counter[str]:
        """How many canaries are still to be seen in the ultrasound image."""
        ((token, group),) = self.planted["US"].items()
        answer = Answer("pixels_hidden", token, (), token, group, self.box)
        return Counter() if is_hidden(self.objects["US"], raw, answer) else Counter([group])


class _Nest:
    """Puts canaries into one object."""

    def __init__(self, canaries: Canaries, name: str, ds: Dataset) -> None:
        self.ds, self._name, self._canaries = ds, name, canaries
        self._tokens = canaries.planted.setdefault(name, {})
        self._number = 1000 * (1 + len(canaries.planted))

    def token(self, group: str, kind: str = "text") -> str:
        """A new canary."""
        self._number += 1
        number = self._number
        token = {
            "text": f"ZQ{number}XWV",
            "uid": f"{_ROOT}.{number}.20190317{number}",
            "date": f"19{number % 89 + 10:02d}{1 + number % 12:02d}{1 + number % 28:02d}",
        }[kind]
        self._tokens[token] = group
        return token

    def put(self, group: str, *keywords: str | int, into: Dataset | None = None, kind: str = "text") -> None:
        """Set attributes to canaries."""
        for keyword in keywords:
            tag = keyword if isinstance(keyword, int) else tag_for_keyword(keyword)
            assert tag is not None, keyword
            vr = dictionary_VR(tag) if not tag >> 16 & 1 and tag not in _UNKNOWN else "LO"
            value: object = self.token(group, kind)
            if vr in {"OB", "OW", "OB or OW", "UN"}:
                vr, value = "OB", f"{value}X".encode()[: 2 * ((len(str(value)) + 1) // 2)]
            elif vr == "DT":
                value = f"{value}101112"
            add(self.ds if into is None else into, tag, vr, value)

    def done(self, *, meta: bool = False, preamble: bool = False) -> None:
        """Encode the object."""
        info = FileMetaDataset()
        info.MediaStorageSOPClassUID, info.MediaStorageSOPInstanceUID = self.ds.SOPClassUID, self.ds.SOPInstanceUID
        info.TransferSyntaxUID = ExplicitVRLittleEndian
        if meta:
            info.SourceApplicationEntityTitle = self.token("file meta")
            info.PrivateInformationCreatorUID = f"{_ROOT}.1"
            info.PrivateInformation = self.token("file meta").encode() + b" "
        head = self.token("preamble").encode() if preamble else b""
        self.ds.file_meta, self.ds.preamble = info, head.ljust(128, b"\0")
        buffer = BytesIO()
        dcmwrite(buffer, self.ds, enforce_file_format=True)
        self._canaries.objects[self._name] = buffer.getvalue()


_UNKNOWN = {0x0008FFF0, 0x0010FFF0, 0x0018FFF0}


def add(ds: Dataset, tag: int, vr: str, value: object) -> None:
    """Set an element without a look at its value."""
    ds[tag] = DataElement(BaseTag(tag), vr, value, validation_mode=config.IGNORE)


def make() -> Canaries:
    """All nine objects."""
    canaries = Canaries()
    study = Study(_NOBODY, 9, date(2019, 3, 17), np.random.default_rng(9))
    slices = [images.ct(study) for _ in range(2)]
    _ct(_Nest(canaries, "CT", slices[0]))
    _ultrasound(_Nest(canaries, "US", images.ultrasound(study, "color")), canaries)
    _report(_Nest(canaries, "SR", documents.measurements(study, slices)))
    _presentation(_Nest(canaries, "GSPS", documents.presentation(study, slices)))
    _document(_Nest(canaries, "PDF", documents.document(study, "PDF")))
    nest = _Nest(canaries, "SEG", documents.segmentation(study, slices))
    nest.put("SEG", "SegmentDescription", into=nest.ds.SegmentSequence[0])
    nest.done()
    _structures(_Nest(canaries, "RT", documents.structure_set(study, slices)))
    _directory(_Nest(canaries, "DICOMDIR", images.base(study, "1.2.840.10008.1.3.10", "OT", "directory")))
    _japanese(canaries, images.mr(study))
    assert sum(canaries.groups().values()) == COUNT, canaries.groups()
    return canaries


def _ct(nest: _Nest) -> None:
    ds = nest.ds
    nest.put("UIDs, dates in UIDs", *_UIDS, kind="uid")
    nest.put("identifiers", *_IDENTIFIERS)
    nest.put("dates", *_DATES, kind="date")
    nest.put("descriptors", *_DESCRIPTORS)
    nest.put("AE titles", "ScheduledStationAETitle", "RetrieveAETitle")
    nest.put("unlisted", *_UNKNOWN, "GraphicLayerDescription", "SegmentLabel")
    nest.put("retired", 0x00084000, 0x40080115, 0x4008010B)
    for number in range(5):
        ds.private_block(0x0009, "GEMS_IDEN_01", create=True).add_new(number, "LO", nest.token("private"))
    ds.private_block(0x0011, nest.token("private"), create=True).add_new(1, "LO", "1")
    _nested(nest)
    _bits(nest)
    nest.done(meta=True, preamble=True)


def _nested(nest: _Nest) -> None:
    """Items of sequences that the table does not list, one and four deep."""
    inner, outer, reference = Dataset(), Dataset(), Dataset()
    nest.put("nested text", "PatientComments", "TextValue", "PersonName", "StudyDescription", into=inner)
    nest.put("nested text", "SeriesDescription", "PatientID", "InstitutionName", "OperatorsName", into=outer)
    nest.put("nested dates", "StudyDate", into=inner, kind="date")
    nest.put("nested dates", "AcquisitionDateTime", into=outer, kind="date")
    nest.put("nested UIDs", "ReferencedSOPInstanceUID", "StudyInstanceUID", into=inner, kind="uid")
    nest.put("nested UIDs", "FrameOfReferenceUID", "SeriesInstanceUID", "UID", into=outer, kind="uid")
    for tag in (0x00189301, 0x00189346, 0x00189321):
        wrapped = Dataset()
        add(wrapped, tag, "SQ", Sequence([inner]))
        inner = wrapped
    add(reference, 0x00189301, "SQ", Sequence([outer]))
    add(nest.ds, 0x00189732, "SQ", Sequence([inner, reference]))


def _bits(nest: _Nest) -> None:
    """Overlays, curves, an icon, a signature, padding."""
    ds = nest.ds
    for tag, value in ((0x60000010, 16), (0x60000011, 16), (0x60000100, 1), (0x60000102, 0)):
        add(ds, tag, "US", value)
    add(ds, 0x60000040, "CS", "G")
    add(ds, 0x60000050, "SS", [1, 1])
    add(ds, 0x60003000, "OW", (nest.token("overlay").encode() + b" ").ljust(32, b"\0"))
    for tag, vr in ((0x60000022, "LO"), (0x60001500, "LO"), (0x60004000, "LT")):
        add(ds, tag, vr, nest.token("overlay"))
    add(ds, 0x50002500, "LO", nest.token("curve"))
    add(ds, 0x50003000, "OW", nest.token("curve").encode() + b" ")
    icon, signature = Dataset(), Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated = 4, 8, 8
    add(icon, 0x7FE00010, "OB", nest.token("icon, burned in").encode().ljust(32, b"\0"))
    add(ds, 0x00880200, "SQ", Sequence([icon]))
    add(signature, 0x04000115, "OB", nest.token("signature").encode() + b" ")
    add(signature, 0x04000120, "OB", zlib.compress(nest.token("signature").encode() * 3) + b"\0")
    add(ds, 0xFFFAFFFA, "SQ", Sequence([signature]))
    add(ds, 0xFFFCFFFC, "OB", nest.token("padding").encode() + b" ")


def _ultrasound(nest: _Nest, canaries: Canaries) -> None:
    """Text in pixels: no byte spells it, so that it is looked at."""
    ds = nest.ds
    pixels = np.frombuffer(ds.PixelData, np.uint8).copy().reshape(ds.Rows, ds.Columns, 3)
    box = burn(pixels, nest.token("icon, burned in"), (8, 10), 18, 250).box
    canaries.box = (int(box[0]), int(box[1]), int(box[2]), int(box[3]))
    ds.PixelData = pixels.tobytes()
    nest.done()


def _report(nest: _Nest) -> None:
    ds = nest.ds
    person, when, comment, group = ds.ContentSequence
    group_text = group.ContentSequence[1]
    nest.put("SR", "PersonName", into=person)
    nest.put("SR", "DateTime", into=when, kind="date")
    nest.put("SR", "TextValue", into=comment)
    nest.put("SR", "TextValue", into=group_text)
    nest.put("SR", "UID", into=group.ContentSequence[0], kind="uid")
    author, observer = Dataset(), Dataset()
    nest.put("SR", "PersonName", "InstitutionName", into=author)
    add(ds, 0x0040A078, "SQ", Sequence([author]))
    nest.put("SR", "VerifyingObserverName", "VerifyingOrganization", into=observer)
    add(ds, 0x0040A073, "SQ", Sequence([observer]))
    nest.done()


def _presentation(nest: _Nest) -> None:
    ds = nest.ds
    nest.put("GSPS", "ContentDescription", "ContentCreatorName", "ContentLabel")
    nest.put("GSPS", "UnformattedTextValue", into=ds.GraphicAnnotationSequence[0].TextObjectSequence[0])
    nest.put("GSPS", "GraphicLayerDescription", into=ds.GraphicLayerSequence[0])
    nest.done()


def _document(nest: _Nest) -> None:
    nest.put("PDF", "DocumentTitle")
    text = f"%PDF-1.4\n1 0 obj<</Author({nest.token('PDF')})>>endobj\n%%EOF\n".encode()
    add(nest.ds, 0x00420011, "OB", text + b"\0" * (len(text) % 2))
    nest.done()


def _structures(nest: _Nest) -> None:
    ds = nest.ds
    nest.put("RT", "StructureSetLabel", "StructureSetName", "StructureSetDescription", "ReviewerName")
    nest.put("RT", "ROIName", "ROIDescription", into=ds.StructureSetROISequence[0])
    nest.put("RT", "ROIInterpreter", into=ds.RTROIObservationsSequence[0])
    nest.done()


def _directory(nest: _Nest) -> None:
    patient, image = Dataset(), Dataset()
    patient.DirectoryRecordType, image.DirectoryRecordType = "PATIENT", "IMAGE"
    nest.put("DICOMDIR", "PatientName", "PatientID", into=patient)
    nest.put("DICOMDIR", "ReferencedFileID", into=image)
    nest.ds.DirectoryRecordSequence = [patient, image]
    nest.done()


def _japanese(canaries: Canaries, ds: Dataset) -> None:
    """A name in kanji, which its comment repeats."""
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds.PatientName, ds.ImageComments = "Kurotsuru^Minemori=黒鶴^峰森", "黒鶴 峰森"
    canaries.planted["Japanese"] = {"黒鶴": "Japanese"}
    nest = _Nest(canaries, "Japanese", ds)
    nest.done()


_UIDS = """SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID SynchronizationFrameOfReferenceUID
    InstanceCreatorUID StorageMediaFileSetUID DimensionOrganizationUID ConcatenationUID IrradiationEventUID
    PaletteColorLookupTableUID LargePaletteColorLookupTableUID FiducialUID DoseReferenceUID
    ReferencedFrameOfReferenceUID RelatedFrameOfReferenceUID TransactionUID TemplateExtensionOrganizationUID
    DeviceUID TargetUID""".split()
_IDENTIFIERS = """PatientName PatientID OtherPatientNames AccessionNumber InstitutionName InstitutionAddress
    ReferringPhysicianName PerformingPhysicianName OperatorsName StationName DeviceSerialNumber PatientAddress
    PatientTelephoneNumbers PatientMotherBirthName MilitaryRank""".split()
_DATES = "PatientBirthDate StudyDate SeriesDate AcquisitionDate ContentDate LastMenstrualDate".split()
_DESCRIPTORS = """StudyDescription SeriesDescription ProtocolName ImageComments PatientComments AdditionalPatientHistory
    RequestedProcedureDescription DerivationDescription AdmittingDiagnosesDescription Allergies ContrastBolusAgent
    BodyPartExamined AcquisitionDeviceProcessingDescription ManufacturerModelName""".split()
