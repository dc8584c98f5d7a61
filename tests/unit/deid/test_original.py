"""What is sealed of an object: all that names it and is said no longer, and nothing else."""

from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from gateway.deid.engine import Deidentifier
from gateway.deid.original import PATIENT_ID, Original, context_of
from gateway.intake.elements import Elements
from gateway.intake.header import HeaderReader
from gateway.intake.source import ByteSource
from gateway.intake.stored import StoredHeader, prepare
from tests.samples import ct, part10

KEY = bytes(range(32))
RESEARCH, BASIC, NONE = (Deidentifier.load(name, KEY) for name in ("research", "basic", "none"))
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


async def prepared(content: bytes, profile: Deidentifier = RESEARCH) -> StoredHeader:
    async def part():
        yield content

    source = ByteSource(part(), max_bytes=1 << 28, on_growth=lambda _: None)
    await source.fill(1 << 28)
    return prepare(HeaderReader(source, max_bytes=1 << 28).read(), profile, Elements())


async def original_of(ds: Dataset, profile: Deidentifier = RESEARCH, syntax: str = ExplicitVRLittleEndian) -> Original:
    return Original.unpack((await prepared(encoded(ds, syntax), profile)).original)


def encoded(ds: Dataset, syntax: str) -> bytes:
    if syntax == ExplicitVRLittleEndian:
        return part10(ds)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = bytes(512)
    ds = dcmread(BytesIO(part10(ds)))
    ds.file_meta.TransferSyntaxUID = syntax
    out = BytesIO()
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    ds.set_original_encoding(implicit, little)
    dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def nested(uid: str, depth: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedImageSequence = [item]
        item = outer
    return item


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("is_undefined", [False, True])
async def test_uids_are_found_however_they_are_encoded(syntax: str, is_undefined: bool) -> None:
    uids = [generate_uid(None) for _ in range(4)]
    ds = ct(ReferencedImageSequence=[nested(uids[0], 0), nested(uids[1], 3)])
    ds.SourceImageSequence = [nested(uids[2], 0)]
    ds.SynchronizationFrameOfReferenceUID = uids[3]
    ds["ReferencedImageSequence"].is_undefined_length = is_undefined
    original = await original_of(ds, syntax=syntax)
    assert {*uids, ds.FrameOfReferenceUID} <= set(original.uids)
    assert set(original.all_uids) == {*original.uids, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID}
    assert not [uid for uid in original.uids if uid.startswith("1.2.840.10008")]
    assert original.texts[PATIENT_ID] == "MRN-4711"


async def test_what_is_said_still_is_not_sealed() -> None:
    texts = (await original_of(ct())).texts
    assert 0x00100040 not in texts  # the sex
    assert 0x00080030 not in texts  # the time of the study
    assert (await original_of(ct(), BASIC)).texts[0x00080030] == "101112"


async def test_nothing_is_sealed_where_nothing_is_taken() -> None:
    assert (await prepared(part10(ct()), NONE)).original == b""
    first = await prepared(part10(ct()))
    again = await prepared(first.head + bytes(512))
    assert again.original == b""


async def test_a_patient_without_id_is_told_from_one_who_had_a_pseudonym() -> None:
    ds = ct()
    del ds.PatientID
    assert (await original_of(ds)).texts[PATIENT_ID] == ""
    assert (await original_of(ct(PatientID=""))).texts[PATIENT_ID] == ""


async def test_references_beyond_number_do_not_swell_a_row() -> None:
    ds = ct(ReferencedImageSequence=[nested(generate_uid(None), 0) for _ in range(3000)])
    original = await original_of(ds)
    assert len(original.uids) == 512


async def test_several_values_are_kept() -> None:
    original = await original_of(ct(OtherPatientIDs=["A-1", "B-2"], OtherPatientNames=["Doe^Jane", "Roe^Jane"]))
    assert original.texts[0x00101000] == "A-1\\B-2"
    assert original.texts[0x00101001] == "Doe^Jane\\Roe^Jane"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\\=^"), max_size=30),
    patient_id=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\\"), max_size=30
    ),
)
async def test_any_name_comes_back_as_it_was(name: str, patient_id: str) -> None:
    header = await prepared(part10(ct(SpecificCharacterSet="ISO_IR 192", PatientName=name, PatientID=patient_id)))
    texts = Original.unpack(header.original).texts
    assert texts[0x00100010] == name.rstrip(" ")
    assert texts[PATIENT_ID] == patient_id.rstrip(" ")


@pytest.mark.parametrize(
    "value", [b"UI", b"UI\xff\xff1.2", b"xUI\x08\x002.\xff\xff\xff\xff\xff\xff", b"UI\x40\x001." + b"1" * 64]
)
async def test_bytes_that_look_like_uids_do_no_harm(value: bytes) -> None:
    ds = ct(ImageComments=value.decode("latin-1"), SpecificCharacterSet="ISO_IR 100")
    original = await original_of(ds)
    assert ds.FrameOfReferenceUID in original.uids
    assert all(len(uid) <= 64 for uid in original.uids)


def test_a_seal_belongs_to_one_instance() -> None:
    assert context_of("1.2") != context_of("1.20")
