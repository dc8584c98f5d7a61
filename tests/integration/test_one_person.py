"""One person is one pseudonym, whichever way they come, and what is asked for agrees with what is stored."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomweb.resource import Resource
from gateway.archive import Source
from gateway.assignment import Keys
from gateway.deid.uids import Pseudonyms, UidMap
from gateway.importer import import_files
from gateway.wiring import Core, open_core
from tests.conftest import KEY, KEYS
from tests.dicomweb_support import bodies, path_of, store
from tests.integration.dimse_support import listen, send_one  # noqa: F401
from tests.integration.test_wado_uri import dicom, wado
from tests.samples import ct, part10, stream
from tests.ups_support import Worklist, element, workitem

OTHER_KEYS = Keys(bytes(range(64, 96)), bytes(range(96, 128)))
PERSON = {
    "PatientID": "MRNX-90817263",
    "PatientName": "Quibblethwaite^Zaphodine",
    "IssuerOfPatientID": "UNTERWOELBLING",
}
PSEUDONYM = Pseudonyms(KEY).of_patient(PERSON["PatientID"], PERSON["IssuerOfPatientID"])
#: What a search may answer of its own, which no object has to carry.
_OF_THE_SERVICE = {"00080005", "00080054", "00080056", "00080061", "00080062", "00081190", "00083002"}
_COUNTS = {"00201206", "00201208", "00201209"}


@asynccontextmanager
async def sibling(core: Core, keys: Keys, mongod_uri: str, folder: Path | None = None, database: str = ""):
    """Another process over the same archive, or over one of its own."""
    settings = core.settings
    if folder is not None:
        settings = replace(settings, data=replace(settings.data, dir=folder))
        settings = replace(settings, mongodb=replace(settings.mongodb, database=database))
    async with open_core(settings, mongod_uri, keys) as other:
        yield other


async def file_of(core: Core, resource: Resource) -> bytes:
    (instance,) = await core.archive.instances(resource)
    return bytes(await core.archive.open(instance).read())


async def taken(core: Core, ds: Dataset, source: str = "stow") -> bytes:
    """The file that is kept of an object."""
    outcome = await core.archive.ingest(stream(part10(ds)), Source(source))
    assert outcome.stored is not None, outcome.reason
    return await file_of(core, outcome.stored)


async def test_every_way_in_gives_one_pseudonym(open_archive, serve, listen, tmp_path) -> None:  # noqa: F811
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client = await serve(core)
    assert (await store(client, ct(**PERSON))).status == 200
    written = ct(**PERSON | {"PatientID": " mrnx-90817263 "})  # case and space tell nobody apart
    listener = await listen(core)
    assert await core.workers.run(send_one, listener.port, part10(written)) == 0
    file = tmp_path / "one.dcm"
    file.write_bytes(part10(ct(**PERSON)))
    assert (await import_files(core.archive, [file], Source("import"))).stored == 1
    item = workitem(
        t00100010=element("PN", {"Alphabetic": PERSON["PatientName"]}),
        t00100020=element("LO", PERSON["PatientID"]),
        t00100021=element("LO", PERSON["IssuerOfPatientID"]),
    )
    work = Worklist(client)
    uid = await work.create(item)
    assert (await work.get(uid))["00100020"]["Value"] == [PSEUDONYM]
    studies = await bodies(client, "/dicomweb/studies")
    assert [study["00100020"]["Value"] for study in studies] == [[PSEUDONYM]] * 3
    assert {str(study["00100010"]["Value"][0]["Alphabetic"]) for study in studies} == {PSEUDONYM}
    mirror = await open_archive(ISTHMUS_INGEST__PROFILE="none")
    its_client, ds = await serve(mirror), ct(**PERSON)
    assert (await store(its_client, ds)).status == 200
    copy = await dicom(await wado(its_client, ds, contentType="application/dicom", anonymize="yes"))
    assert copy.PatientID == PSEUDONYM


async def test_answers_carry_what_the_object_carries(open_archive, serve) -> None:
    """Search results, metadata and pictures are of the stored object: each attribute of one is that of the other."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client, sent = await serve(core), ct(**PERSON, StudyDescription="CT HEAD Quibblethwaite", ProtocolName="HEAD")
    kept = dcmread(BytesIO(await taken(core, sent)))
    mapped = UidMap(KEY)
    assert (kept.StudyInstanceUID, kept.SOPInstanceUID) == (mapped(sent.StudyInstanceUID), mapped(sent.SOPInstanceUID))
    expected = json.loads(kept.to_json())
    for level in ("studies", "series", "instances"):
        (found,) = await bodies(client, f"/dicomweb/{level}?includefield=all")
        for tag in set(found) - _OF_THE_SERVICE - _COUNTS:
            assert found[tag].get("Value") == expected.get(tag, {}).get("Value"), tag
    (metadata,) = await bodies(client, f"{path_of(kept)}/metadata")
    assert {tag for tag in expected if not tag.startswith("0002")} - {"7FE00010"} <= set(metadata)
    assert "Quibblethwaite" not in str(metadata)
    # Whole dates move back by the patient's years, and are found by their new values alone.
    for date, count in ((kept.StudyDate, 1), (sent.StudyDate, 0), (f"{sent.StudyDate}-", 0)):
        assert len(await bodies(client, f"/dicomweb/studies?StudyDate={date}")) == count


async def test_the_original_is_not_to_be_asked_for(open_archive, serve) -> None:
    """Status, headers and body of an answer are the same for the original's values as for values of nobody."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client, sent = await serve(core), ct(**PERSON)
    kept = dcmread(BytesIO(await taken(core, sent)))
    nobody = ct(**{name: value[::-1] for name, value in PERSON.items()} | {"AccessionNumber": "77CCA"})
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "IssuerOfPatientID"):
        for pattern in ("{}", "{}*", "*{}*"):
            asked = [
                await said(client, f"/dicomweb/studies?{keyword}={pattern.format(ds[keyword].value)}")
                for ds in (sent, nobody)
                if keyword != "StudyInstanceUID" or pattern == "{}"
            ]
            assert all(one == asked[0] for one in asked), keyword
    for tail in ("", "/metadata", "/rendered", "/thumbnail"):
        assert await said(client, path_of(sent) + tail) == await said(client, path_of(nobody) + tail)
        assert (await client.get(path_of(kept) + tail)).status == 200
    assert (await wado(client, sent)).status == (await wado(client, nobody)).status == 404
    removal = [(await client.delete(f"/dicomweb/studies/{ds.StudyInstanceUID}")).status for ds in (sent, nobody)]
    assert removal == [404, 404]
    assert len(await bodies(client, f"/dicomweb/studies?PatientID={PSEUDONYM}")) == 1
    assert len(await bodies(client, f"/dicomweb/studies?PatientName={PSEUDONYM[:5]}*")) == 1
    assert len(await bodies(client, f"/dicomweb/studies?StudyInstanceUID={kept.StudyInstanceUID}")) == 1


@pytest.mark.parametrize("value", ['{"$ne":null}', "$ne", ".*", "^.", "' || 1 || '", "(?i)quibble", "\\x51uibble"])
async def test_a_value_is_no_expression(open_archive, serve, value) -> None:
    """What a query holds is compared as it is: nobody is found by an operator or a pattern of the database."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none")
    client = await serve(core)
    assert (await store(client, ct(**PERSON))).status == 200
    for keyword in ("PatientID", "PatientName", "AccessionNumber"):
        answer = await client.get("/dicomweb/studies", params={keyword: value})
        assert answer.status in (200, 400)
        assert not isinstance(await answer.json(content_type=None), list) or await answer.text() == "[]"


async def said(client, path: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but when it was given."""
    answer = await client.get(path)
    headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "X-Request-ID")}
    return answer.status, headers, await answer.read()


async def test_gateways_with_keys_of_their_own_cannot_be_linked(open_archive, mongod_uri, databases, tmp_path) -> None:
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    sent = ct(**PERSON)
    with databases.one() as database:
        async with sibling(core, OTHER_KEYS, mongod_uri, tmp_path / "other", database) as other:
            ours, theirs = [dcmread(BytesIO(await taken(one, sent))) for one in (core, other)]
    same = identifiers(ours) & identifiers(theirs)
    assert not same
    assert len(identifiers(ours)) >= 5


def identifiers(ds: Dataset) -> set[str]:
    """The UIDs of instances and the pseudonyms."""
    values = {str(one.value) for one in ds.iterall() if one.VR == "UI" or one.tag in (0x00100010, 0x00100020)}
    return {value for value in values if value and not value.startswith("1.2.840.10008")}


async def test_a_restart_and_another_machine_store_the_same_bytes(
    open_archive, mongod_uri, databases, tmp_path
) -> None:
    """The same key makes the same file, in a process that has seen nothing before and in one that has."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    objects = [ct(**PERSON, StudyDescription="CT HEAD Quibblethwaite") for _ in range(3)]
    objects.append(referring(objects[0]))
    first = [await taken(core, ds) for ds in objects]
    for number, order in enumerate((objects, objects[::-1])):
        with databases.one() as database:
            async with sibling(core, KEYS, mongod_uri, tmp_path / str(number), database) as other:
                again = {ds.SOPInstanceUID: await taken(other, ds, "dimse") for ds in order}
        assert [again[ds.SOPInstanceUID] for ds in objects] == first
    async with sibling(core, KEYS, mongod_uri) as restarted:
        for ds, content in zip(objects, first, strict=True):
            outcome = await restarted.archive.ingest(stream(part10(ds)), Source("stow"))
            assert outcome.duplicate
            assert await file_of(restarted, outcome.stored) == content


def referring(image: Dataset, **changes: Any) -> Dataset:
    """An image that is derived from another, in a series and, for what is known, a study of its own."""
    ds = ct(**PERSON, **changes)
    ds.FrameOfReferenceUID = image.FrameOfReferenceUID
    source, evidence, series = Dataset(), Dataset(), Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    ds.SourceImageSequence = [source]
    series.SeriesInstanceUID, series.ReferencedSOPSequence = image.SeriesInstanceUID, [Dataset(source)]
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = image.StudyInstanceUID, [series]
    ds.StudiesContainingOtherReferencedInstancesSequence = [evidence]
    return ds


async def test_references_resolve_whatever_comes_first_and_wherever(open_archive, serve, mongod_uri) -> None:
    """Of two processes one takes what refers, before the other takes what it refers to."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client = await serve(core)
    image = ct(**PERSON)
    referring_ones = [referring(image), referring(image, StudyInstanceUID=image.StudyInstanceUID)]
    async with sibling(core, KEYS, mongod_uri) as other:
        kept = [dcmread(BytesIO(await taken(other, ds))) for ds in referring_ones]
    target = dcmread(BytesIO(await taken(core, image)))
    for ds in kept:
        evidence = ds.StudiesContainingOtherReferencedInstancesSequence[0]
        series = evidence.ReferencedSeriesSequence[0]
        for reference in (ds.SourceImageSequence[0], series.ReferencedSOPSequence[0]):
            path = (
                f"/dicomweb/studies/{evidence.StudyInstanceUID}/series/{series.SeriesInstanceUID}"
                f"/instances/{reference.ReferencedSOPInstanceUID}"
            )
            assert (await client.get(path)).status == 200
        assert ds.FrameOfReferenceUID == target.FrameOfReferenceUID
        assert not [uid for uid in identifiers(image) if uid.startswith("2.25") and uid in identifiers(ds)]


async def test_a_sender_hears_of_its_own_uids_alone(open_archive, serve) -> None:
    """References and failures name what was sent; where it can be retrieved is said with what is kept."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client, good, bad = await serve(core), ct(**PERSON), ct(**PERSON, SOPClassUID="1.2.826.0.1.3680043.9.7777")
    answer = await store(client, good, bad)
    assert answer.status == 202
    item = await answer.json(content_type=None)
    (stored,), (failed,) = item["00081199"]["Value"], item["00081198"]["Value"]
    assert stored["00081155"]["Value"] == [good.SOPInstanceUID]
    assert failed["00081155"]["Value"] == [bad.SOPInstanceUID]
    assert UidMap(KEY)(good.SOPInstanceUID) in stored["00081190"]["Value"][0]
    assert UidMap(KEY)(bad.SOPInstanceUID) not in await answer.text()
    result = ct(**PERSON)  # made of what was retrieved, under a UID of the maker's own
    (found,) = await bodies(client, "/dicomweb/instances")
    result.StudyInstanceUID, result.PatientID = found["0020000D"]["Value"][0], PSEUDONYM
    result.PatientName, result.SOPInstanceUID = PSEUDONYM, generate_uid(None)
    item = await (await store(client, result)).json(content_type=None)
    (stored,) = item["00081199"]["Value"]
    assert stored["00081155"]["Value"] == [result.SOPInstanceUID]
    assert f"/studies/{result.StudyInstanceUID}/" in stored["00081190"]["Value"][0]


async def test_how_an_object_came_is_kept_and_not_from_whom(open_archive) -> None:
    """An AE title may name a ward or a doctor: it stays with objects that stay as they are."""
    for profile, kept in (("research", "dimse"), ("none", "dimse:DRQUIBBLE")):
        core = await open_archive(ISTHMUS_INGEST__PROFILE=profile)
        outcome = await core.archive.ingest(stream(part10(ct())), Source("dimse", "DRQUIBBLE"))
        row = await core.catalogue.db.instances.find_one({"_id": outcome.stored.instance_uid})
        assert row["source"] == kept


@pytest.mark.parametrize("header", ["MRNX-90817263", "Quibblethwaite", "x" * 64])
async def test_an_id_of_a_request_that_may_be_a_name_is_not_taken(open_archive, serve, header) -> None:
    client = await serve(await open_archive())
    given = {"X-Request-ID": header}
    assert (await client.get("/health/live", headers=given)).headers["X-Request-ID"] != header
    trace = {"X-Request-ID": "0af76519-16cd-43dd-8448-eb211c80319c"}
    assert (await client.get("/health/live", headers=trace)).headers["X-Request-ID"] == trace["X-Request-ID"]
