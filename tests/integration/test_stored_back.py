"""What is made from de-identified objects and stored back lands in the study, patient and dates that it belongs to."""

import asyncio
from io import BytesIO

import pytest
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    TrackingIdentifier,
)
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicomweb.query import Query
from dicomweb.resource import Level, Resource
from gateway.archive import Source
from tests.dicomweb_support import store
from tests.samples import ct, part10, stream


def report_on(image) -> Comprehensive3DSR:
    """An SR as a viewer makes it: same study and patient, series and instance of its own, dated by the image."""
    observer = ObserverContext(
        codes.DCM.Device, DeviceObserverIdentifyingAttributes(uid=generate_uid(None), name="Viewer")
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(None), identifier="Lesion 1"),
        measurements=[Measurement(name=codes.SCT.Length, value=12.5, unit=codes.UCUM.Millimeter)],
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=CodedConcept("P5-09051", "SRT", "CT of abdomen"),
        imaging_measurements=[group],
    )
    return Comprehensive3DSR(
        evidence=[image],
        content=report[0],
        series_number=99,
        series_instance_uid=generate_uid(None),
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        manufacturer="Viewer",
    )


@pytest.mark.filterwarnings("ignore:The string:UserWarning")  # highdicom finds a pseudonym an unlikely name
async def test_a_report_lands_in_the_study_it_refers_to(open_archive, serve) -> None:
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client = await serve(core)
    outcome = await core.archive.ingest(stream(part10(ct())), Source("dimse", "CT1"))
    (instance,) = await core.archive.instances(outcome.stored)
    image = await asyncio.to_thread(dcmread, core.objects.uri(instance.key).removeprefix("file://"))
    sent = report_on(image)
    answer = await store(client, part10(sent), path=f"/dicomweb/studies/{image.StudyInstanceUID}")
    assert answer.status == 200, await answer.text()
    item = (await answer.json(content_type=None))["00081199"]["Value"][0]
    assert item["00081155"]["Value"] == [sent.SOPInstanceUID]
    assert image.StudyInstanceUID in item["00081190"]["Value"][0]
    (study,) = (await core.archive.search(Query(Level.STUDY))).items
    assert study["00080061"]["Value"] == ["CT", "SR"]
    assert study["00201208"]["Value"] == [2]
    (stored,) = [
        one
        for one in await core.archive.instances(Resource(image.StudyInstanceUID))
        if one.sop_class_uid == sent.SOPClassUID
    ]
    back = dcmread(BytesIO(await core.archive.open(stored).read()))
    assert (back.PatientID, back.PatientName, back.StudyDate) == (image.PatientID, image.PatientName, image.StudyDate)
    referenced = back.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == image.SeriesInstanceUID
    assert referenced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert back.SOPInstanceUID != sent.SOPInstanceUID
    assert "12.5" in str(back)
    again = await store(client, part10(sent))
    assert again.status == 200
    assert (await core.archive.search(Query(Level.STUDY))).items[0]["00201208"]["Value"] == [2]
