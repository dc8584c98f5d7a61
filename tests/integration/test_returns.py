"""Results pushed back to a PACS: what it gets is about its own patient and images, and nobody else gets to know."""

import asyncio
import json
import logging
import os
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import CTImageStorage

from dicomweb.resource import Resource
from gateway.auth.tokens import Tokens
from gateway.config import Address, Remote
from gateway.dimse.scu import Offer, associated
from tests.dicomweb_support import MULTIPART_DICOM, multipart
from tests.integration.api_support import validated
from tests.integration.dimse_support import dcmtk, listen, storescp  # noqa: F401
from tests.integration.orthanc import orthanc
from tests.integration.test_reidentify import fetched, referenced_uids, segmentation, series
from tests.integration.test_stored_back import report_on
from tests.samples import part10

RETURNS = "/api/v1/returns"
SECRETS = ("Quixote", "Alonso", "4711", "Cervantes", "ACC77")
pytestmark = [
    pytest.mark.filterwarnings("ignore:The string:UserWarning"),  # a pseudonym is an unlikely name
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # pynetdicom leaves a socket open
]


@pytest.fixture
async def remotes(tmp_path):
    """storescp as a PACS, and its folder."""
    folder = tmp_path / "pacs"
    folder.mkdir()
    async with storescp(folder) as port:
        yield port, folder


@pytest.fixture
async def core(open_archive, remotes):
    return await open_archive(
        ISTHMUS_INGEST__PROFILE="research",
        ISTHMUS_AUTH__MODE="token",
        ISTHMUS_REMOTES__PACS=f"STORESCP@127.0.0.1:{remotes[0]}",
        ISTHMUS_REMOTES__DOWN="NOBODY@127.0.0.1:9",
    )


async def as_user(core, *rights):
    token = await Tokens(core.catalogue.db).create("bearer", "doctor", rights=rights)
    return {"Authorization": f"Bearer {token}"}


async def sent_by_c_store(core, listen, folder, originals):  # noqa: F811
    """Originals as a modality sends them; what became of them."""
    files = []
    for number, ds in enumerate(originals):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(part10(ds))
    listener = await listen(core)
    code, said = await dcmtk("storescu", "-aec", "ISTHMUS", "127.0.0.1", listener.port, *files)
    assert code == 0, said
    uids = core.identities.uids
    return [
        await fetched(core, Resource(uids(ds.StudyInstanceUID), uids(ds.SeriesInstanceUID), uids(ds.SOPInstanceUID)))
        for ds in originals
    ]


async def stored_back(client, headers, *results):
    body = BytesIO(multipart(*map(part10, results)))
    answer = await client.post("/dicomweb/studies", data=body, headers=headers | {"Content-Type": MULTIPART_DICOM})
    assert answer.status == 200, await answer.text()


async def asked(client, headers, **body):
    answer = await client.post(RETURNS, json=body, headers=headers)
    said = await answer.json()
    if answer.status == 200:
        validated(said, "ReturnedResults")
        assert answer.headers["Cache-Control"] == "no-store"
    return answer.status, said


async def received(folder: Path):
    return await asyncio.to_thread(lambda: [dcmread(path) for path in sorted(folder.iterdir())])


async def audited(core):
    return [(entry.user, entry.action, entry.outcome, entry.what) async for entry in core.audit.entries()]


@pytest.fixture
async def study(core, serve, listen, tmp_path):  # noqa: F811
    """A CT that came by C-STORE, and a SEG and an SR of it that came back by STOW-RS."""
    (tmp_path / "modality").mkdir()
    originals = series()
    images = await sent_by_c_store(core, listen, tmp_path / "modality", originals)
    client, anyone = await serve(core), await as_user(core)
    results = [segmentation(images), report_on(images[0])]
    await stored_back(client, anyone, *results)
    return client, originals, images, results


def assert_belongs(returned, originals, results):
    """What a PACS has got belongs to its own study and refers to its own images."""
    for ds in returned:
        first = originals[0]
        assert (ds.PatientID, ds.PatientName) == (first.PatientID, first.PatientName)
        assert (ds.StudyInstanceUID, ds.AccessionNumber) == (first.StudyInstanceUID, first.AccessionNumber)
        assert "DeidentificationMethod" not in ds
    assert {ds.SOPInstanceUID for ds in returned} == {str(ds.SOPInstanceUID) for ds in results}
    known = {str(ds.SOPInstanceUID) for ds in originals}
    named = set().union(*(referenced_uids(ds) for ds in returned))
    assert known <= named


async def test_storescp_gets_results_of_its_own_patient(core, study, remotes, tmp_path, caplog):
    client, originals, images, results = study
    headers = await as_user(core, "reidentify")
    with caplog.at_level(logging.DEBUG):
        status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="pacs")
    assert status == 200, said
    assert [(one["outcome"], one["status"]) for one in said["results"]] == [("sent", 0)] * 2
    returned = await received(remotes[1])
    assert_belongs(returned, originals, results)
    (seg,) = [ds for ds in returned if ds.Modality == "SEG"]
    assert seg.PixelData == results[0].PixelData
    assert seg.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert not any(secret in json.dumps(said) + caplog.text for secret in SECRETS)
    issued = {uid for one in said["results"] for uid in (one["series"], one["instance"])}
    assert not issued & {str(ds.SOPInstanceUID) for ds in results}, "the answer speaks as the caller knows it"
    records = await audited(core)
    assert [record[1:3] for record in records] == [
        ("return", "begun"), ("reidentify", "found"), ("reidentify", "found"), ("return", "done"),
    ]  # fmt: skip
    assert {record[0] for record in records} == {"doctor"}
    assert sorted(records[-1][3]["sent"]) == sorted(one["instance"] for one in said["results"])
    assert records[0][3]["to"] == "pacs"
    assert not any(secret in str(records) for secret in SECRETS)
    assert original_on_disk(core, originals) == []


def original_on_disk(core, originals):
    names = [secret.encode() for secret in SECRETS] + [ds.SOPInstanceUID.encode() for ds in originals]
    files = [path for path in core.settings.data.dir.rglob("*") if path.is_file()]
    return [path for path in files if any(name in path.read_bytes() for name in names)]


async def test_orthanc_joins_results_to_its_study(core, study, tmp_path, remotes):
    """A real PACS that holds the originals: it has one patient and one study afterwards."""
    client, originals, images, results = study
    async with orthanc(tmp_path / "orthanc") as pacs:
        remote = Remote("ORTHANC", Address("127.0.0.1", pacs.dicom_port))
        offer = Offer(CTImageStorage, ExplicitVRLittleEndian)
        async with associated(remote, "MODALITY", [offer], core.workers, timeout_s=30) as peer:
            for ds in originals:
                content = part10(ds)
                start = content.index(b"DICM") + 4 + 12 + int.from_bytes(content[140:144], "little")
                assert await peer.store(offer, ds.SOPInstanceUID, once(content[start:])) == 0
        core.settings.remotes["orthanc"] = remote
        headers = await as_user(core, "reidentify")
        status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="orthanc")
        assert (status, [one["outcome"] for one in said["results"]]) == (200, ["sent", "sent"])
        (patient,) = await pacs.get("/patients?expand")
        assert patient["MainDicomTags"]["PatientID"] == "MRN-4711"
        (only,) = await pacs.get("/studies?expand")
        assert only["MainDicomTags"]["StudyInstanceUID"] == originals[0].StudyInstanceUID
        assert len(only["Series"]) == 3
        found = [await pacs.file(f"/instances/{one}/file") for one in await pacs.get("/instances")]
    assert_belongs([ds for ds in found if ds.Modality != "CT"], originals, results)
    held = {ds.SOPInstanceUID for ds in found}
    references = set().union(*(referenced_uids(ds) for ds in found)) - {
        originals[0].ReferencedStudySequence[0].ReferencedSOPInstanceUID
    }
    assert references <= held, "every reference resolves there"


async def once(data):
    yield data


async def test_who_lacks_the_right_is_turned_away_and_noted(core, study, remotes):
    client, _, images, _ = study
    for headers in (
        await as_user(core),
        {"Authorization": f"Bearer {await Tokens(core.catalogue.db).create('bearer', 'admin')}"},
    ):
        status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="pacs")
        assert status == 403
        assert "reidentify" in said["error"]
    status, _ = await asked(client, {}, study=images[0].StudyInstanceUID, to="pacs")
    assert status == 401
    assert list(remotes[1].iterdir()) == []
    assert [record[:3] for record in await audited(core)] == [
        ("doctor", "reidentify", "denied"),
        ("admin", "reidentify", "denied"),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"to": "nobody"}, 404),
        ({"study": "1.2.3"}, 404),
        ({"series": ["1.2.3"]}, 404),
        ({"instances": ["1.2.3"]}, 404),
        ({"instances": []}, 400),
        ({"series": ["1.2.3"], "instances": ["1.2.3"]}, 400),
        ({"instances": "1.2.3"}, 400),
        ({"instances": [1]}, 400),
        ({"instances": ["1.2.3"] * 101}, 400),
        ({"instances": ["../1"]}, 400),
        ({"study": 1}, 400),
        ({"study": "x"}, 400),
        ({"to": None}, 400),
        ({"more": 1}, 400),
        ({"to": "down"}, 502),
    ],
)
async def test_what_cannot_be_done_is_said(core, study, remotes, body, expected):
    client, _, images, _ = study
    headers = await as_user(core, "reidentify")
    status, said = await asked(client, headers, **{"study": images[0].StudyInstanceUID, "to": "pacs"} | body)
    assert status == expected, said
    assert list(remotes[1].iterdir()) == []


async def test_series_and_instances_are_chosen(core, study, remotes):
    client, _, images, _ = study
    headers, study_uid = await as_user(core, "reidentify"), images[0].StudyInstanceUID
    there = await core.archive.instances(Resource(study_uid))
    seg, report = (next(one for one in there if f".1.1.{branch}." in one.sop_class_uid) for branch in (66, 88))
    _, said = await asked(client, headers, study=study_uid, series=[seg.series_uid], to="pacs")
    assert [one["instance"] for one in said["results"]] == [seg.instance_uid]
    _, said = await asked(client, headers, study=study_uid, instances=[report.instance_uid], to="pacs")
    assert [one["instance"] for one in said["results"]] == [report.instance_uid]


async def test_images_are_not_sent_over_their_originals(core, study, remotes):
    client, _, images, _ = study
    headers = await as_user(core, "reidentify")
    uids = [ds.SOPInstanceUID for ds in images]
    status, said = await asked(client, headers, study=images[0].StudyInstanceUID, instances=uids, to="pacs")
    assert status == 200
    assert {one["outcome"] for one in said["results"]} == {"refused"}
    assert "no result" in said["results"][0]["reason"]
    assert list(remotes[1].iterdir()) == []


async def test_a_reference_that_cannot_be_resolved(core, study, remotes):
    client, _, images, _ = study
    gone = images[1]
    await core.archive.delete(Resource(gone.StudyInstanceUID, gone.SeriesInstanceUID, gone.SOPInstanceUID))
    headers = await as_user(core, "reidentify")
    there = await core.archive.instances(Resource(gone.StudyInstanceUID))
    (seg,) = [one.instance_uid for one in there if ".1.1.66." in one.sop_class_uid]
    status, said = await asked(client, headers, study=gone.StudyInstanceUID, instances=[seg], to="pacs")
    assert status == 409, said
    assert "holds no original of its patient" in said["error"]
    assert list(remotes[1].iterdir()) == []
    status, said = await asked(client, headers, study=gone.StudyInstanceUID, to="pacs")
    assert (status, sorted(one["outcome"] for one in said["results"])) == (200, ["refused", "sent"])
    assert [ds.Modality for ds in await received(remotes[1])] == ["SR"]


async def test_a_remote_that_takes_implicit_vr_alone(core, study, tmp_path):
    client, originals, images, results = study
    folder = tmp_path / "old"
    folder.mkdir()
    async with storescp(folder, "+xi") as port:
        core.settings.remotes["old"] = Remote("OLD", Address("127.0.0.1", port))
        headers = await as_user(core, "reidentify")
        status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="old")
    assert status == 200, said
    returned = await received(folder)
    assert {ds.file_meta.TransferSyntaxUID for ds in returned} == {ImplicitVRLittleEndian}
    assert_belongs(returned, originals, results)
    (seg,) = [ds for ds in returned if ds.Modality == "SEG"]
    assert seg.PixelData == results[0].PixelData


async def test_large_results_come_whole(core, study, remotes):
    """Larger than what is on its way at a time, with a trailing odd byte of pixels."""
    client, _, images, _ = study
    result = report_on(images[0])
    large = segmentation(images)
    large.Rows, large.Columns = 4000, 4001
    large.BitsAllocated, large.BitsStored, large.HighBit = 8, 8, 7
    large.PixelData = os.urandom(3 * 4000 * 4001)
    large.SOPInstanceUID = large.file_meta.MediaStorageSOPInstanceUID = generate_uid(None)
    await stored_back(client, await as_user(core), large, result)
    headers = await as_user(core, "reidentify")
    status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="pacs")
    assert (status, [one["outcome"] for one in said["results"]]) == (200, ["sent"] * 4)
    (back,) = [ds for ds in await received(remotes[1]) if ds.SOPInstanceUID == large.SOPInstanceUID]
    assert back.PixelData == large.PixelData


async def test_what_a_remote_refuses_is_told(core, study, tmp_path):
    client, _, images, _ = study
    folder = tmp_path / "full"
    folder.mkdir()
    async with storescp(folder, "--abort-after") as port:  # in the middle of the first
        core.settings.remotes["full"] = Remote("FULL", Address("127.0.0.1", port))
        headers = await as_user(core, "reidentify")
        status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="full")
    assert status == 502, said
    assert [record[1:3] for record in await audited(core)][-1] == ("return", "broken off")


async def test_too_many_are_asked_for_one_part_at_a_time(core, study, monkeypatch):
    monkeypatch.setattr("gateway.returns.MAX_INSTANCES", 1)
    client, _, images, _ = study
    headers = await as_user(core, "reidentify")
    status, said = await asked(client, headers, study=images[0].StudyInstanceUID, to="pacs")
    assert status == 413
    assert "name series or instances" in said["error"]
