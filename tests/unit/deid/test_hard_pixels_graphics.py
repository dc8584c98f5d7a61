"""Overlays, curves, icons, waveforms and pictures: what shows text beside the pixels goes, pixels stay as they are."""

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.risk import Risk, assess
from tests.samples import ct
from tests.unit.deid.objects import COMMENT, PATIENT, all_values, header, tags
from tests.unit.deid.passage import code, element, file, item, profile_of, refused, taken

NAME = b"QUIRINALE^ZEPHYRINA "


def overlay(group: int, **changes: tuple[str, object]) -> list[tuple[int, str, object]]:
    return [
        (group << 16 | 0x0010, "US", 8),
        (group << 16 | 0x0011, "US", 16),
        (group << 16 | 0x0022, "LO", "OF QUIRINALE"),
        (group << 16 | 0x0040, "CS", "G"),
        (group << 16 | 0x0050, "SS", [1, 1]),
        (group << 16 | 0x0100, "US", 1),
        (group << 16 | 0x0102, "US", 0),
        (group << 16 | 0x1500, "LO", "ZEPHYRINA"),
        (group << 16 | 0x3000, "OW", NAME[:16]),
        (group << 16 | 0x4000, "LT", COMMENT),
        *((group << 16 | int(name, 16), vr, value) for name, (vr, value) in changes.items()),
    ]


@pytest.mark.parametrize("group", [0x6000, 0x6002, 0x6012, 0x601E, 0x6020, 0x60FE])
@pytest.mark.parametrize("nested", [False, True])
def test_overlays_go_with_all_that_describes_them(
    research: Deidentifier, basic: Deidentifier, group: int, nested: bool
) -> None:
    inner = Dataset()
    for tag, vr, value in overlay(group):
        inner.add_new(tag, vr, value)
    ds = header(SourceImageSequence=Sequence([inner])) if nested else header()
    if not nested:
        ds.update(inner)
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert NAME[:16] not in stored.raw
        assert not [tag for tag in tags(stored.ds) if tag.group == group]


@pytest.mark.parametrize("position", [8, 12, 15])
@pytest.mark.parametrize("options", [(), ("modified-dates", "clean-descriptors"), ("clean-graphics",)])
def test_overlays_in_the_high_bits_of_pixels_are_refused(position: int, options: tuple[str, ...]) -> None:
    ds = ct(**PATIENT)
    ds.add_new(0x60000010, "US", 16)
    ds.add_new(0x60000011, "US", 16)
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", position)
    assert refused(profile_of(*options), file(ds)) == "An overlay lies in unused bits of the pixel data."


def test_an_overlay_with_data_of_its_own_may_not_say_that_its_bits_are_elsewhere(research: Deidentifier) -> None:
    for position in (0, 12):
        ds = ct(**PATIENT)
        for tag, vr, value in overlay(0x6002, **{"0102": ("US", position)}):
            ds.add_new(tag, vr, value)
        if position:
            assert refused(research, file(ds)) == "An overlay lies in unused bits of the pixel data."
        else:
            assert taken(research, file(ds)).found() == []


def test_curves_and_sounds_go(research: Deidentifier, basic: Deidentifier) -> None:
    for group in (0x5000, 0x5002, 0x501E):
        ds = header()
        for number, vr, value in (
            (0x0005, "US", 2),
            (0x0020, "CS", "TAC"),
            (0x0022, "LO", "QUIRINALE"),
            (0x0030, "SH", ["QUIRINALE"]),
            (0x2000, "US", 0),
            (0x200C, "OW", NAME),
            (0x200E, "LT", COMMENT),
            (0x3000, "OW", NAME),
        ):
            ds.add_new(group << 16 | number, vr, value)
        for deidentifier in (research, basic, profile_of("clean-graphics")):
            stored = taken(deidentifier, file(ds))
            assert stored.found() == []
            assert not [tag for tag in tags(stored.ds) if tag.group == group]


def test_icons_go(research: Deidentifier, basic: Deidentifier) -> None:
    icon = item(Rows=8, Columns=8, SamplesPerPixel=1, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    icon.PhotometricInterpretation = "MONOCHROME2"
    icon.add_new(0x7FE00010, "OB", (NAME * 4)[:64])
    ds = header(
        IconImageSequence=Sequence([icon]), SourceImageSequence=Sequence([item(IconImageSequence=Sequence([icon]))])
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert "IconImageSequence" not in stored.ds


def test_pixels_in_items_and_doubled_pixels_go(research: Deidentifier) -> None:
    """Pixel data lies at the top of an image, once; in any other place it is a picture that nobody looks at."""
    inner = Dataset()
    inner.add_new(0x7FE00010, "OW", NAME * 8)
    stored = taken(research, file(header(SourceImageSequence=Sequence([inner]))))
    assert stored.found() == []
    again = file(ct(**PATIENT), after=element(0x7FE00010, "OW", NAME * 8))
    assert taken(research, again).found() == []


def test_the_pixels_of_real_files_stay_to_the_bit(research: Deidentifier, data_folder: Path) -> None:
    checked = 0
    for path in sorted((data_folder / "transfer-syntaxes").glob("*.dcm")):
        try:
            before, stored = dcmread(path), taken(research, path.read_bytes())
        except Exception:  # noqa: BLE001 - broken files are the subject of other tests
            continue
        after = stored.ds
        if "PixelData" not in before or before.file_meta.TransferSyntaxUID.name.endswith("Big Endian"):
            continue
        came, left = (np.frombuffer(ds.PixelData, np.uint8) for ds in (before, after))
        differ = came != left[: came.size]
        assert not left[: came.size][differ].any(), path  # comments in codestreams, of which nothing is left
        assert before["PixelData"].is_undefined_length or not differ.any(), path
        checked += 1
    assert checked > 15


@pytest.mark.parametrize(
    "attributes",
    [
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "CT", "BurnedInAnnotation": "NO"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "DOSE INFO"]},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "Modality": "US", "BurnedInAnnotation": "NO"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "Modality": "US"},
        {"BurnedInAnnotation": "YES"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1.1", "Modality": "ES"},
    ],
)
def test_pictures_that_may_show_text_are_looked_at_whatever_they_say(attributes: dict[str, object]) -> None:
    assert assess(header(**{"Rows": 64, "Columns": 64, **attributes})).risk is Risk.HIGH


def test_what_says_that_text_is_burned_in_needs_a_look(basic: Deidentifier) -> None:
    """Where no profile asks for a look at pictures, such an object is refused."""
    assert "burned into" in refused(basic, file(ct(BurnedInAnnotation="YES", **PATIENT)))
    assert taken(basic, file(ct(BurnedInAnnotation="NO", **PATIENT))).found() == []


@pytest.mark.parametrize("value", [b"YES\0", b" YES", b"YES ", b"yes ", b"Yes ", b"YES\\NO", b"NO\\YES", b"Y "])
def test_yes_is_yes_however_it_is_written(basic: Deidentifier, value: bytes) -> None:
    raw = file(ct(**PATIENT), (0x00280301, element(0x00280301, "CS", value + b" " * (len(value) % 2))))
    assert "burned into" in refused(basic, raw)


@pytest.mark.parametrize(
    "attributes", [{"SpecimenLabelInImage": "YES"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LABEL"]}]
)
def test_labels_of_slides_are_refused(
    research: Deidentifier, basic: Deidentifier, attributes: dict[str, object]
) -> None:
    for deidentifier in (research, basic):
        raw = file(header(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6", **attributes))
        assert refused(deidentifier, raw) == "The image shows the label of a slide."
    names = {"ImageType": ["ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"]}
    assert "label" in refused(basic, file(header(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6", **names)))


@pytest.mark.parametrize("number", ["1", "2", "4", "5", "6", "7"])
def test_documents_that_nobody_can_look_into_are_refused(
    research: Deidentifier, basic: Deidentifier, number: str
) -> None:
    ds = header(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.104.{number}", DocumentTitle="Report of QUIRINALE")
    ds.EncapsulatedDocument = b"%PDF-1.4 " + NAME
    ds.SourceInstanceSequence = Sequence([item(ReferencedSOPInstanceUID="1.2.840.99.1")])
    for deidentifier in (research, basic, profile_of("retain-uids", "retain-full-dates")):
        refused(deidentifier, file(ds))


@pytest.mark.parametrize("number", ["9.4.1", "9.4.2", "88.2"])
def test_voices_are_refused(research: Deidentifier, basic: Deidentifier, number: str) -> None:
    ds = header(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{number}", Modality="AU")
    ds.WaveformSequence = Sequence(
        [item(WaveformBitsAllocated=8, WaveformSampleInterpretation="MB", WaveformData=bytes(256))]
    )
    for deidentifier in (research, basic):
        assert "voice" in refused(deidentifier, file(ds))


def test_inventories_are_refused(research: Deidentifier, basic: Deidentifier) -> None:
    for deidentifier in (research, basic):
        assert "inventory" in refused(deidentifier, file(header(SOPClassUID="1.2.840.10008.5.1.4.1.1.201.1")))


def test_a_document_in_another_object_goes(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(EncapsulatedDocument=b"%PDF-1.4 " + NAME, MIMETypeOfEncapsulatedDocument="application/pdf")
    ds.SourceImageSequence = Sequence([item(EncapsulatedDocument=b"%PDF-1.4 " + NAME, DocumentTitle="QUIRINALE")])
    for deidentifier in (research, basic):
        assert taken(deidentifier, file(ds)).found() == []


def test_waveforms_keep_their_samples_and_lose_names(research: Deidentifier, basic: Deidentifier) -> None:
    channel = item(ChannelLabel="Lead of QUIRINALE", ChannelDerivationDescription=COMMENT[:60], WaveformBitsStored=16)
    channel.ChannelSourceSequence = code("2:1", "MDC", "Lead I")
    group = item(NumberOfWaveformChannels=1, NumberOfWaveformSamples=8, WaveformBitsAllocated=16)
    group.MultiplexGroupLabel = "QUIRINALE"
    group.WaveformSampleInterpretation = "SS"
    group.ChannelDefinitionSequence = Sequence([channel])
    samples = struct.pack("<8h", *range(100, 900, 100))
    group.add_new(0x54001010, "OW", samples)
    annotation = item(UnformattedTextValue="ECG of Quirinale, MRN-7788123", AnnotationGroupNumber=1)
    annotation.ConceptNameCodeSequence = code("QUIRINALE", "99Q", "seen by Houseman")
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.9.1.1",
        WaveformSequence=Sequence([group]),
        WaveformAnnotationSequence=Sequence([annotation, item(PersonName="HOUSEMAN^G", TextValue=COMMENT)]),
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.ds.WaveformSequence[0].WaveformData == samples
    assert taken(research, file(ds)).ds.WaveformSequence[0].MultiplexGroupLabel == "***"


def test_a_name_in_the_bytes_of_a_table_or_profile_is_refused(research: Deidentifier) -> None:
    for tag, vr in ((0x00282000, "OB"), (0x00281201, "OW"), (0x00281101, "US"), (0x0028140F, "OB")):
        for value in (NAME, b"\0" * 4000 + NAME, "QUIRINALE".encode("utf-16-le") + b"\0\0"):
            try:
                stored = taken(research, file(None, (tag, element(tag, vr, value))))
            except Refusal as refusal:
                assert f"{tag >> 16:04X},{tag & 0xFFFF:04X}" in refusal.message  # noqa: PT017
            else:
                assert stored.found() == []


def jpeg(*segments: bytes) -> bytes:
    """The start of a JPEG, with segments of one's own, and an end."""
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(range(64)) + b"\xff\xd9"


def compressed(syntax: str, *frames: bytes) -> bytes:
    ds = ct(NumberOfFrames=len(frames), **PATIENT)
    ds.PixelData = encapsulate(list(frames))
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    return file(ds, syntax=syntax)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, len(content) + 2) + content


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_offset_tables_hold_offsets_alone(research: Deidentifier, syntax: str) -> None:
    raw = compressed(syntax, jpeg())
    at = raw.index(b"\xfe\xff\x00\xe0")
    table = struct.pack("<HHL", 0xFFFE, 0xE000, 20) + NAME
    length = struct.unpack_from("<L", raw, at + 4)[0]
    assert "offsets" in refused(research, raw[:at] + table + raw[at + 8 + length :])
    named = file(ct(**PATIENT), (0x7FE00001, element(0x7FE00001, "OV", b"Thornberry Mabel")))
    assert "offsets" in refused(research, named)
    stored = taken(research, raw)
    assert all_values(stored.ds, "UI")
