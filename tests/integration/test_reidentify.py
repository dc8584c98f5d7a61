"""From a CT that comes in to a result that goes back: what the PACS gets is about its own patient, study and images."""

import asyncio
from io import BytesIO

import highdicom
import numpy as np
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicomweb.errors import Conflict
from dicomweb.resource import Resource
from gateway.archive import Source
from gateway.audit import Caller
from gateway.deid.reidentify import NotInVault, Truth, issued_uids, reidentified
from tests.integration.test_stored_back import report_on
from tests.samples import ct, part10, stream

ME = Caller("tester", "here")
pytestmark = pytest.mark.filterwarnings("ignore:The string:UserWarning")  # a pseudonym is an unlikely name
_NUMBER_OF_SLICES = 3
RESTORED = """PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime
    AccessionNumber StudyID ReferringPhysicianName""".split()


def series() -> list[Dataset]:
    first = ct(StudyTime="101112", IssuerOfPatientID="HOSPITAL", PatientName="Quixote^Alonso")
    shared = {name: first[name].value for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    referenced = Dataset()
    referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID = (
        "1.2.840.10008.3.1.2.3.1",
        generate_uid(None),
    )
    return [
        ct(
            **shared,
            InstanceNumber=number + 1,
            ImagePositionPatient=[0, 0, 5 * number],
            IssuerOfPatientID="HOSPITAL",
            ReferencedStudySequence=[referenced],
        )
        for number in range(_NUMBER_OF_SLICES)
    ]


async def stored(core, ds, kind="dimse") -> Dataset:
    outcome = await core.archive.ingest(stream(part10(ds)), Source(kind, "CT1"))
    assert outcome.stored is not None, outcome.reason
    return await fetched(core, outcome.stored)


async def fetched(core, resource: Resource) -> Dataset:
    (instance,) = await core.archive.instances(resource)
    return dcmread(BytesIO(await core.archive.open(instance).read()))


def segmentation(images: list[Dataset]) -> Segmentation:
    segment = SegmentDescription(
        1, "Bone", codes.SCT.Tissue, codes.SCT.Bone, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    return Segmentation(
        source_images=images,
        pixel_array=np.ones((len(images), 16, 16), np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(None),
        series_number=7,
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        manufacturer="Isthmus",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
    )


def referenced_uids(ds: Dataset) -> set[str]:
    """Every instance that a data set refers to."""
    return {str(one.value) for one in ds.iterall() if one.keyword == "ReferencedSOPInstanceUID"}


async def truth_of(core, ds) -> Truth:
    issued = await asyncio.to_thread(issued_uids, ds, core.identities.uids.is_issued)
    return await core.identities.truth_of(ds, ME, issued)


async def back(core, ds) -> Dataset:
    truth = await truth_of(core, ds)
    return await asyncio.to_thread(reidentified, ds, truth, core.identities.uids.is_issued)


@pytest.fixture
async def core(open_archive):
    return await open_archive(ISTHMUS_INGEST__PROFILE="research")


@pytest.mark.parametrize("kind", ["plugin", "stow"])
@pytest.mark.parametrize("make", [segmentation, lambda images: report_on(images[0])])
async def test_a_result_goes_back_as_one_of_the_hospital(core, make, kind):
    originals = series()
    images = [await stored(core, ds) for ds in originals]
    sent = make(images)
    result = await stored(core, sent, kind)
    if kind == "stow":
        assert result.SOPInstanceUID != sent.SOPInstanceUID
    returned = await back(core, result)
    for keyword in RESTORED:
        assert returned[keyword].value == originals[0][keyword].value, keyword
    known = {ds.SOPInstanceUID for ds in originals} | {originals[0].ReferencedStudySequence[0].ReferencedSOPInstanceUID}
    assert {ds.SOPInstanceUID for ds in originals[: 1 if returned.Modality == "SR" else 3]} <= referenced_uids(returned)
    assert referenced_uids(returned) <= known
    assert (returned.SOPInstanceUID, returned.SeriesInstanceUID) == (sent.SOPInstanceUID, sent.SeriesInstanceUID)
    assert returned.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    if "FrameOfReferenceUID" in returned:
        assert returned.FrameOfReferenceUID == originals[0].FrameOfReferenceUID
    assert issued_uids(returned, core.identities.uids.is_issued) == set()
    assert result.PatientID not in str(returned)
    for keyword in ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
                    "LongitudinalTemporalInformationModified"):  # fmt: skip
        assert keyword not in returned
    assert str(returned.ContentDate) == str(sent.ContentDate)
    if "PixelData" in sent:
        assert returned.PixelData == sent.PixelData
    records = [(entry.action, entry.outcome, entry.what) async for entry in core.audit.entries()]
    assert records == [
        (
            "reidentify",
            "found",
            {"study_uid": images[0].StudyInstanceUID, "instance_uid": core.identities.uids(result.SOPInstanceUID)},
        )
    ]


async def test_what_went_back_comes_in_as_it_was(core):
    originals = series()
    images = [await stored(core, ds) for ds in originals]
    result = await stored(core, segmentation(images), "stow")
    returned = await back(core, result)
    await core.archive.delete(Resource(result.StudyInstanceUID, result.SeriesInstanceUID))
    again = await stored(core, returned)
    assert (again.SOPInstanceUID, again.SeriesInstanceUID, again.StudyInstanceUID, again.FrameOfReferenceUID) == (
        result.SOPInstanceUID,
        result.SeriesInstanceUID,
        result.StudyInstanceUID,
        result.FrameOfReferenceUID,
    )
    assert referenced_uids(again) == referenced_uids(result)
    assert (again.PatientID, again.StudyDate) == (result.PatientID, result.StudyDate)


async def test_an_image_is_no_result(open_archive, core, tmp_path):
    (tmp_path / "mirror.toml").write_text('options = ["retain-uids"]')
    mirror = await open_archive(ISTHMUS_INGEST__PROFILE="mirror", ISTHMUS_DEID__PROFILES_DIR=str(tmp_path))
    for archive in (core, mirror):
        images = [await stored(archive, ds) for ds in series()]
        assert [(await truth_of(archive, image)).is_own for image in images] == [True] * 3


async def test_a_result_that_names_somebody_is_still_of_its_pseudonym(core):
    """Who may store cannot have a name of their choice sent to the PACS, nor keep a result from going there."""
    images = [await stored(core, ds) for ds in series()]
    forged = report_on(images[0])
    forged.PatientID, forged.PatientName = images[0].PatientID.lower(), "Panza^Sancho"
    forged.OtherPatientIDs = "MRN-9"
    result = await stored(core, forged, "stow")
    returned = await back(core, result)
    assert (returned.PatientID, returned.PatientName) == ("MRN-4711", "Quixote^Alonso")
    assert not any(text in str(returned) for text in ("Panza", "MRN-9"))


async def test_a_result_refers_to_nothing_of_another_patient(core):
    images = [await stored(core, ds) for ds in series()]
    other = await stored(core, ct(PatientID="MRN-9", PatientName="Panza^Sancho"))
    theirs = await stored(core, report_on(other), "stow")
    for foreign in (other.SOPInstanceUID, theirs.SOPInstanceUID):
        result = report_on(images[0])
        evidence = result.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = foreign
        with pytest.raises(NotInVault):
            await back(core, await stored(core, result, "plugin"))


async def test_originals_that_disagree_on_the_patient_are_taken_for_none(core):
    """One study UID and one ID, but two people: nobody can tell which of them a result without images is of."""
    one, two = series()[:2]
    two.SeriesInstanceUID, two.PatientName = generate_uid(None), "Panza^Sancho"
    images = [await stored(core, one), await stored(core, two)]
    for image, name in zip(images, ("Quixote^Alonso", "Panza^Sancho"), strict=True):
        assert (await back(core, await stored(core, segmentation([image]), "plugin"))).PatientName == name
    blind = report_on(images[0])
    for tag in ("CurrentRequestedProcedureEvidenceSequence", "ContentSequence"):
        blind.pop(tag, None)
    with pytest.raises(Conflict, match="disagree"):
        await truth_of(core, blind)
    assert [entry.outcome async for entry in core.audit.entries()][-1] == "ambiguous"


async def test_names_in_other_scripts_go_back(core):
    original = ct(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    kept = await stored(core, original)
    out = BytesIO()
    (await back(core, kept)).save_as(out)
    out.seek(0)
    assert dcmread(out).PatientName == original.PatientName


async def test_an_issuer_of_accession_numbers_goes_back(core):
    designator = Dataset()
    designator.LocalNamespaceEntityID = "RIS"
    designator.UniversalEntityID, designator.UniversalEntityIDType = "1.2.3.4.5.6.7.8", "ISO"
    kept = await stored(core, ct(IssuerOfAccessionNumberSequence=[designator]))
    assert kept.IssuerOfAccessionNumberSequence[0] != designator
    assert (await back(core, kept)).IssuerOfAccessionNumberSequence[0] == designator


async def test_a_reference_to_what_is_not_held_goes_nowhere(core):
    images = [await stored(core, ds) for ds in series()]
    result = await stored(core, segmentation(images), "plugin")
    await core.archive.delete(
        Resource(images[0].StudyInstanceUID, images[0].SeriesInstanceUID, images[0].SOPInstanceUID)
    )
    with pytest.raises(NotInVault) as failure:
        await back(core, result)
    assert isinstance(failure.value, Conflict)
    assert images[0].SOPInstanceUID not in failure.value.message
    await core.archive.delete(Resource(images[0].StudyInstanceUID, images[0].SeriesInstanceUID))
    with pytest.raises(NotInVault):
        await truth_of(core, result)
    assert [entry.outcome async for entry in core.audit.entries()] == ["found", "unknown"]


async def test_another_patient_s_study_is_not_taken_for_it(core):
    """Two patients in one study: the result is of the one whose pseudonym it bears."""
    one, two = series()[:2]
    two.PatientID, two.PatientName = "MRN-9", "Panza^Sancho"
    await stored(core, one)
    image = await stored(core, two)
    returned = await back(core, await stored(core, segmentation([image]), "plugin"))
    assert (returned.PatientID, returned.PatientName) == ("MRN-9", "Panza^Sancho")
    image.PatientID = "AAAAA-AAAAA-AAAAA-AAAAA"
    del image.LongitudinalTemporalInformationModified
    with pytest.raises(NotInVault):
        await truth_of(core, report_on(image))
