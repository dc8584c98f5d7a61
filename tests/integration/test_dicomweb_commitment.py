"""Storage commitment over HTTP: by instances and by studies, in JSON and XML, under a profile, after a restart."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from pydicom.uid import generate_uid

from dicomweb.dicom_xml import from_xml, to_xml
from gateway.commitments import ArchiveCommitments
from tests.dicomweb_support import bodies, path_of, store
from tests.samples import CT_IMAGE_STORAGE, ct

COMMITTED, FAILED, STUDIES, FAILED_STUDIES = "00081199", "00081198", "00081110", "0008119B"


def sequence(*items):
    return {"vr": "SQ", "Value": list(items)}


def ui(uid):
    return {"vr": "UI", "Value": [uid]}


def by_instance(*objects):
    return {
        COMMITTED: sequence(*({"00081150": ui(ds.SOPClassUID), "00081155": ui(ds.SOPInstanceUID)} for ds in objects))
    }


def by_study(*objects):
    return {
        STUDIES: sequence(
            *(
                {
                    "0020000D": ui(ds.StudyInstanceUID),
                    "00081115": sequence(
                        {
                            "0020000E": ui(ds.SeriesInstanceUID),
                            "00081112": sequence(
                                {
                                    "00081150": ui(ds.SOPClassUID),
                                    "0008114A": sequence({"00081155": ui(ds.SOPInstanceUID)}),
                                }
                            ),
                        }
                    ),
                }
                for ds in objects
            )
        )
    }


def path(uid=None):
    return f"/dicomweb/commitment-requests/{uid or generate_uid(None)}"


async def ask(client, item, url=None, **headers):
    body = item if isinstance(item, bytes) else json.dumps(item).encode()
    headers = {"Content-Type": "application/dicom+json"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    return await client.post(url or path(), data=io.BytesIO(body), headers=headers)


def failures(answered):
    return {item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in answered[FAILED]["Value"]}


async def test_by_instance(client):
    kept, unknown, other_class = ct(), ct(), ct()
    await store(client, kept, other_class)
    other_class.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    url = path()
    response = await ask(client, by_instance(kept, unknown, other_class), url)
    assert response.status == 200, await response.text()
    assert response.content_type == "application/dicom+json"
    answered = await response.json(content_type=None)
    assert list(answered) == sorted(answered)
    assert answered[COMMITTED] == by_instance(kept)[COMMITTED]
    assert failures(answered) == {unknown.SOPInstanceUID: 0x0112, other_class.SOPInstanceUID: 0x0119}
    later = await client.get(url)
    assert later.status == 200
    assert await later.json(content_type=None) == answered


async def test_by_study_in_several_parts_of_xml(client):
    kept, elsewhere = ct(), ct()
    await store(client, kept, elsewhere)
    elsewhere.StudyInstanceUID = generate_uid(None)
    parts = [b"--XX\r\n\r\n" + to_xml(by_study(ds)) + b"\r\n" for ds in (kept, elsewhere)]
    headers = {"Content-Type": 'multipart/related; type="application/dicom+xml"; boundary=XX'}
    response = await client.post(
        path(), data=io.BytesIO(b"".join(parts) + b"--XX--"), headers=headers | {"Accept": "application/dicom+xml"}
    )
    assert response.status == 200, await response.text()
    assert response.content_type == "application/dicom+xml"
    answered = from_xml(await response.read())
    assert answered[STUDIES] == by_study(kept)[STUDIES]
    (failed,) = answered[FAILED_STUDIES]["Value"]
    assert failed["0020000D"] == ui(elsewhere.StudyInstanceUID)
    (series,) = failed["00081115"]["Value"]
    (group,) = series["00081112"]["Value"]
    (instance,) = group["0008114A"]["Value"]
    assert instance["00081197"]["Value"] == [0x0112]


async def test_what_is_lost_is_not_committed(client, core):
    whole, cut, lost = ct(), ct(), ct()
    await store(client, whole, cut, lost)
    rows = {row["_id"]: row["key"] async for row in core.catalogue.db.instances.find({}, {"key": 1})}
    await core.objects.delete(rows[lost.SOPInstanceUID])
    await core.catalogue.db.instances.update_one({"_id": cut.SOPInstanceUID}, {"$inc": {"size": 2}})
    answered = await (await ask(client, by_instance(whole, cut, lost))).json(content_type=None)
    assert answered[COMMITTED] == by_instance(whole)[COMMITTED]
    assert failures(answered) == {cut.SOPInstanceUID: 0x0110, lost.SOPInstanceUID: 0x0110}


async def test_what_was_deleted_is_not_committed(client):
    image = ct()
    await store(client, image)
    await client.delete(path_of(image))
    answered = await (await ask(client, by_instance(image))).json(content_type=None)
    assert failures(answered) == {image.SOPInstanceUID: 0x0112}


@pytest.mark.parametrize("form", [by_instance, by_study])
async def test_under_a_profile_by_sent_and_by_stored_uids(open_archive, serve, form):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client = await serve(core)
    image = ct()
    await store(client, image)
    url = path()
    response = await ask(client, form(image), url)
    assert response.status == 200, await response.text()
    assert await response.json(content_type=None) == form(image)
    (found,) = await bodies(client, "/dicomweb/instances")
    stored = ct(
        **{
            name: found[tag]["Value"][0]
            for name, tag in (
                ("StudyInstanceUID", "0020000D"),
                ("SeriesInstanceUID", "0020000E"),
                ("SOPInstanceUID", "00080018"),
            )
        }
    )
    assert stored.SOPInstanceUID != image.SOPInstanceUID
    assert await (await ask(client, form(stored))).json(content_type=None) == form(stored)
    records = [str(record) async for record in core.catalogue.db.commitments.find({})]
    assert len(records) == 2
    assert not [record for record in records if image.SOPInstanceUID in record or image.StudyInstanceUID in record]


async def test_a_transaction_uid_is_used_once(client):
    url = path()
    assert (await ask(client, by_instance(ct()), url)).status == 200
    assert (await ask(client, by_instance(ct()), url)).status == 409


async def test_results_are_kept_for_a_while(client, core):
    url = path()
    await ask(client, by_instance(ct()), url)
    assert (await client.get(path())).status == 404
    past = datetime.now(UTC) - timedelta(seconds=1)
    await core.catalogue.db.commitments.update_one({}, {"$set": {"expires_at": past}})
    assert (await client.get(url)).status == 410
    assert (await ask(client, by_instance(ct()), url)).status == 409


async def test_what_takes_long_is_answered_later_by_another_worker(core, serve, monkeypatch):
    """The first worker has no patience and ends; the second takes over what it left."""
    first, second = await serve(core), await serve(core)
    images = [ct() for _ in range(3)]
    await store(first, *images)
    monkeypatch.setattr("gateway.commitments._PATIENCE_S", 0)
    url = path()
    response = await ask(first, by_instance(*images), url)
    assert response.status == 202
    assert await response.read() == b""
    assert response.headers["Retry-After"].isdigit()
    await first.close()
    monkeypatch.setattr("gateway.commitments._PATIENCE_S", 10)
    response = await second.get(url)
    assert response.status == 200
    assert await response.json(content_type=None) == by_instance(*images)


async def test_a_worker_that_was_killed(client, core):
    """Its lease runs out, and whoever is asked then does the work."""
    image = ct()
    await store(client, image)
    url = path()
    await ask(client, by_instance(image), url)
    working = {
        "failures": "",
    }
    future = datetime.now(UTC) + timedelta(seconds=60)
    await core.catalogue.db.commitments.update_one({}, {"$unset": working, "$set": {"lease_until": future}})
    assert (await client.get(url)).status == 202
    await core.catalogue.db.commitments.update_one({}, {"$set": {"lease_until": datetime.now(UTC)}})
    assert (await client.get(url)).status == 200


async def test_only_who_asked_is_answered(core, client):
    url = path()
    await ask(client, by_instance(ct()), url)
    await core.catalogue.db.commitments.update_one({}, {"$set": {"owner": "stow:somebody"}})
    assert (await client.get(url)).status == 404


@pytest.mark.parametrize(
    "item",
    [b"", b"{", b"{}", b"[]", by_instance(), {COMMITTED: sequence({})}, {COMMITTED: 7}, {COMMITTED: sequence("x")},
     {STUDIES: sequence({"0020000D": ui("1.2")})}, {COMMITTED: sequence({"00081150": ui("1.2"), "00081155": ui("x")})}],
)  # fmt: skip
async def test_malformed_requests(client, item):
    response = await ask(client, item)
    assert response.status == 400, await response.text()


async def test_other_media_types_paths_and_methods(client):
    item = by_instance(ct())
    assert (await ask(client, item, Content_Type="text/plain")).status == 415
    assert (await ask(client, item, Content_Type="application/dicom")).status == 415
    assert (await ask(client, item, Accept="image/png")).status == 406
    assert (await ask(client, item, path("1.2.x"))).status == 400
    response = await client.delete(path())
    assert response.status == 405
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


async def test_many_at_once(core, client):
    """A thousand references in one request, most of them unknown, in batches."""
    images = [ct() for _ in range(3)]
    await store(client, *images)
    item = by_instance(*images)
    item[COMMITTED]["Value"] += [
        {"00081150": ui(CT_IMAGE_STORAGE), "00081155": ui(f"1.2.3.{number}")} for number in range(1, 1200)
    ]
    answered = await (await ask(client, item)).json(content_type=None)
    assert len(answered[COMMITTED]["Value"]) == 3
    assert len(answered[FAILED]["Value"]) == 1199


async def test_no_more_are_checked_at_once_than_may_be(client, monkeypatch):
    monkeypatch.setattr("gateway.commitments._MAX_REQUESTS", 0)
    url = path()
    response = await ask(client, by_instance(ct()), url)
    assert response.status == 503
    assert response.headers["Retry-After"].isdigit()
    monkeypatch.undo()
    assert (await client.get(url)).status == 404  # nothing of it was kept
    assert (await ask(client, by_instance(ct()), url)).status == 200


async def test_a_catalogue_that_fails_leaves_the_request_for_later(core, client, monkeypatch):
    image = ct()
    await store(client, image)
    url = path()

    async def fail(*_):
        from gateway.errors import CatalogueUnavailable

        raise CatalogueUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveCommitments, "_check_batch", fail)
        assert (await ask(client, by_instance(image), url)).status == 202
    response = await client.get(url)
    assert response.status == 200
    assert await response.json(content_type=None) == by_instance(image)
