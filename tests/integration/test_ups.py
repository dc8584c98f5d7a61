"""The worklist service over HTTP: every transaction with its status codes and warnings, over two workers."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest

from dicomweb import dicom_xml
from dicomweb.ports import Limits
from dicomweb.worklist.search import matches, parsed, tree_of
from gateway.jobs import workitems
from tests.ups_support import PERFORMER, Worklist, coded, element, new_uid, performed, state, state_of, workitem

_INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."


@pytest.fixture
def worklist(client):
    return Worklist(client)


def warning(answer) -> str:
    """The text of the Warning header, after the service that it names."""
    code, service, text = answer.headers["Warning"].split(" ", 2)
    assert code == "299"
    assert service.endswith("/dicomweb:")
    return text


async def claimed(worklist: Worklist, **attributes) -> str:
    uid = await worklist.create(workitem(**attributes))
    assert (await worklist.put(uid, "IN PROGRESS")).status == 200
    return uid


async def test_create_and_retrieve(worklist):
    uid = new_uid()
    answer = await worklist.client.post(f"/dicomweb/workitems?workitem={uid}", json=workitem())
    assert answer.status == 201
    assert answer.headers["Location"].endswith(f"/dicomweb/workitems/{uid}")
    assert "Warning" not in answer.headers
    assert await answer.read() == b""
    item = await worklist.get(uid)
    assert item["00080018"]["Value"] == [uid]
    assert state_of(item) == "SCHEDULED"
    assert "00081195" not in item
    assert (await worklist.client.post(f"/dicomweb/workitems?{uid}", json=workitem())).status == 409


async def test_the_uid_may_be_in_the_query_without_a_name_or_in_the_data_set(worklist):
    first, second = new_uid(), new_uid()
    assert (await worklist.client.post(f"/dicomweb/workitems?{first}", json=workitem())).status == 201
    held = [workitem(t00080018=element("UI", second))]
    assert (await worklist.client.post("/dicomweb/workitems", json=held)).status == 201
    assert state_of(await worklist.get(first)) == state_of(await worklist.get(second))
    assert (await worklist.client.post("/dicomweb/workitems", json=workitem())).status == 400
    assert (await worklist.client.post(f"/dicomweb/workitems?{new_uid()}", json=held)).status == 400
    assert (await worklist.client.post("/dicomweb/workitems?1.2.840.10008.5.1.4.34.5", json=workitem())).status == 400


async def test_what_was_modified_is_said(worklist):
    answer = await worklist.client.post(f"/dicomweb/workitems?{new_uid()}", json=workitem(t00741202=element("LO")))
    assert answer.status == 201
    assert warning(answer) == "The Workitem was created with modifications."


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/dicom+json", 400),
        (b"[]", "application/dicom+json", 400),
        (b"[{}, {}]", "application/dicom+json", 400),
        (json.dumps(workitem(t00741204=None)).encode(), "application/dicom+json", 400),
        (b"<x/>", "application/dicom+xml", 400),
        (b"{}", "text/plain", 415),
        (b" " * (2 << 20), "application/dicom+json", 413),
        (b"[" * 100_000, "application/dicom+json", 400),
    ],
)
async def test_bodies_that_are_refused(worklist, body, media_type, status):
    answer = await worklist.client.post(
        f"/dicomweb/workitems?{new_uid()}", data=BytesIO(body), headers={"Content-Type": media_type}
    )
    assert answer.status == status
    assert (await answer.json())["error"]


async def test_xml_both_ways(worklist):
    uid = new_uid()
    document = dicom_xml.to_xml(workitem())
    answer = await worklist.client.post(
        f"/dicomweb/workitems?{uid}", data=document, headers={"Content-Type": "application/dicom+xml"}
    )
    assert answer.status == 201
    many = 'multipart/related; type="application/dicom+xml"'
    body = b"--B\r\nContent-Type: application/dicom+xml\r\n\r\n" + document + b"\r\n--B--\r\n"
    answer = await worklist.client.post(
        f"/dicomweb/workitems?{new_uid()}", data=body, headers={"Content-Type": f"{many}; boundary=B"}
    )
    assert answer.status == 201
    one = await worklist.client.get(f"/dicomweb/workitems/{uid}", headers={"Accept": "application/dicom+xml"})
    assert dicom_xml.from_xml(await one.read())["00080018"]["Value"] == [uid]
    found = await worklist.client.get("/dicomweb/workitems", headers={"Accept": many})
    assert (await found.read()).count(b"<NativeDicomModel") == 2
    assert (await worklist.client.get(f"/dicomweb/workitems/{uid}", headers={"Accept": "image/png"})).status == 406


async def test_what_is_not_there(worklist):
    uid = new_uid()
    path = f"/dicomweb/workitems/{uid}"
    assert (await worklist.client.get(path)).status == 404
    assert (await worklist.update(uid, {"00741204": element("LO", "x")})).status == 404
    assert (await worklist.put(uid, "IN PROGRESS")).status == 404
    assert (await worklist.client.post(path + "/cancelrequest")).status == 404
    assert (await worklist.subscribe(uid, "AE")).status == 404
    assert (await worklist.client.delete(path + "/subscribers/AE")).status == 404
    assert (await worklist.client.get("/dicomweb/workitems/x")).status == 400


async def test_claiming(worklist):
    uid = await worklist.create(workitem())
    missing = await worklist.put(uid, "IN PROGRESS", None)
    assert (missing.status, warning(missing)) == (400, "The Transaction UID is missing.")
    early = await worklist.put(uid, "COMPLETED")
    assert (early.status, warning(early)) == (409, _INCONSISTENT)
    assert (await worklist.put(uid, "IN PROGRESS")).status == 200
    other = await worklist.put(uid, "IN PROGRESS", "1.2.3")
    assert (other.status, warning(other)) == (400, "The Transaction UID is incorrect.")
    again = await worklist.put(uid, "IN PROGRESS")
    assert (again.status, warning(again)) == (409, _INCONSISTENT)
    back = await worklist.put(uid, "SCHEDULED")
    assert (back.status, warning(back)) == (409, _INCONSISTENT)
    assert (await worklist.put(uid, "DONE")).status == 400
    item = await worklist.get(uid)
    assert state_of(item) == "IN PROGRESS"
    assert PERFORMER not in json.dumps(item)


async def test_one_of_many_claims_wins(worklist, core, serve):
    others = [worklist, Worklist(await serve(core))]
    uid = await worklist.create(workitem())
    answers = await asyncio.gather(*(others[n % 2].put(uid, "IN PROGRESS", f"1.2.{n}") for n in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 9


async def test_updates_and_their_lock(worklist):
    uid = await worklist.create(workitem())
    label = {"00741204": element("LO", "Other")}
    unclaimed = await worklist.update(uid, label, PERFORMER)
    assert (unclaimed.status, warning(unclaimed)) == (409, "The target URI did not reference a claimed Workitem.")
    assert (await worklist.update(uid, label)).status == 200
    assert (await worklist.get(uid))["00741204"]["Value"] == ["Other"]
    await worklist.put(uid, "IN PROGRESS")
    text = "The submitted request is inconsistent with the current state of the Workitem."
    for wrong in (None, "1.2.3"):
        answer = await worklist.update(uid, label, wrong)
        assert (answer.status, warning(answer)) == (400, text)
    assert (await worklist.update(uid, label, PERFORMER)).status == 200
    assert (await worklist.update(uid, label | {"00081195": element("UI", PERFORMER)})).status == 200
    answer = await worklist.client.post(f"/dicomweb/workitems/{uid}?transaction-uid={PERFORMER}", json=label)
    assert answer.status == 200
    refused = await worklist.update(uid, {"00100010": element("PN", {"Alphabetic": "Doe^Jane"})}, PERFORMER)
    assert refused.status == 400
    assert "Doe" not in await refused.text() + str(refused.headers)


async def test_completion(worklist):
    uid = await claimed(worklist)
    unmet = await worklist.put(uid, "COMPLETED")
    assert (unmet.status, warning(unmet)) == (409, _INCONSISTENT)
    assert (await worklist.update(uid, {"00741216": element("SQ", performed())}, PERFORMER)).status == 200
    assert (await worklist.put(uid, "COMPLETED")).status == 200
    assert state_of(await worklist.get(uid)) == "COMPLETED"
    again = await worklist.put(uid, "COMPLETED")
    assert (again.status, warning(again)) == (200, "The UPS is already in the requested state of COMPLETED.")
    assert (await worklist.put(uid, "CANCELED")).status == 409
    late = await worklist.update(uid, {"00741204": element("LO", "x")}, PERFORMER)
    assert late.status == 400
    cancel = await worklist.client.post(f"/dicomweb/workitems/{uid}/cancelrequest")
    assert cancel.status == 409


async def test_cancellation_by_the_performer(worklist):
    uid = await claimed(worklist)
    assert (await worklist.put(uid, "CANCELED")).status == 200
    (progress,) = (await worklist.get(uid))["00741002"]["Value"]
    assert progress["00404052"]["Value"]
    assert progress["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
    again = await worklist.put(uid, "CANCELED")
    assert (again.status, warning(again)) == (200, "The UPS is already in the requested state of CANCELED.")
    asked = await worklist.client.post(f"/dicomweb/workitems/{uid}/cancelrequest")
    assert (asked.status, warning(asked)) == (202, "The UPS is already in the requested state of CANCELED.")


async def test_a_cancel_request_ends_what_nobody_has_begun(worklist):
    uid = await worklist.create(workitem())
    reason = {
        "00741238": element("LT", "Not needed"),
        "0074100E": element("SQ", coded("110510", "DCM", "Duplicate order")),
    }
    answer = await worklist.client.post(f"/dicomweb/workitems/{uid}/cancelrequest/ASKER", json=reason)
    assert answer.status == 202
    item = await worklist.get(uid)
    assert state_of(item) == "CANCELED"
    assert item["00741002"]["Value"][0]["00741238"]["Value"] == ["Not needed"]
    assert item["00741002"]["Value"][0]["0074100E"]["Value"][0]["00080100"]["Value"] == ["110510"]


async def test_a_cancel_request_leaves_what_somebody_performs(worklist):
    uid = await claimed(worklist)
    assert (await worklist.client.post(f"/dicomweb/workitems/{uid}/cancelrequest")).status == 202
    assert state_of(await worklist.get(uid)) == "IN PROGRESS"


async def test_search(worklist):
    code = element("SQ", coded("ct-lung", "99X", "Lung"), coded("110001", "DCM", "Image Processing"))
    lung = await worklist.create(
        workitem(t00404018=code, t00741204=element("LO", "Lung"), t00741200=element("CS", "HIGH"))
    )
    bone = await worklist.create(workitem(t00404005=element("DT", "20250102")))
    assert await worklist.search("") == [lung, bone]
    assert await worklist.search("ScheduledProcedureStepPriority=HIGH") == [lung]
    assert await worklist.search("ProcedureStepLabel=L*") == [lung]
    assert await worklist.search("ScheduledProcedureStepStartDateTime=2025-") == [bone]
    sequence = "ScheduledWorkitemCodeSequence"
    assert await worklist.search(f"{sequence}.CodeValue=ct-lung&{sequence}.CodingSchemeDesignator=99X") == [lung]
    assert await worklist.search(f"{sequence}.CodeValue=ct-lung&{sequence}.CodingSchemeDesignator=DCM") == []
    assert await worklist.search(f"{sequence}.CodeValue=%22%22&emptyvaluematching=true") == [bone]
    assert await worklist.search(f"SOPInstanceUID={lung},{bone}") == [lung, bone]
    await worklist.put(lung, "IN PROGRESS")
    assert await worklist.search("ProcedureStepState=IN%20PROGRESS") == [lung]
    nothing = await worklist.client.get("/dicomweb/workitems?ProcedureStepState=CANCELED")
    assert nothing.status == 204


async def test_pages_and_warnings(worklist):
    uids = [await worklist.create(workitem(t00404005=element("DT", f"2024010{day}"))) for day in (1, 2, 3)]
    answer = await worklist.client.get("/dicomweb/workitems?limit=1&offset=1&Nonsense=1")
    assert [one["00080018"]["Value"][0] for one in await answer.json(content_type=None)] == uids[1:2]
    texts = " ".join(answer.headers.getall("Warning"))
    assert "There are 1 additional results that can be requested" in texts
    assert "ignored: Nonsense" in texts
    for bad in ("limit=x", "fuzzymatching=x", "ScheduledProcedureStepStartDateTime=x", "limit=1&limit=2"):
        assert (await worklist.client.get(f"/dicomweb/workitems?{bad}")).status == 400
    empty = await worklist.client.get("/dicomweb/workitems?limit=0")
    assert empty.status == 204
    assert "There are 3 additional" in empty.headers["Warning"]


async def test_a_page_is_bounded_in_bytes(worklist, monkeypatch):
    monkeypatch.setattr(workitems, "MAX_PAGE_BYTES", 4096)
    for _ in range(5):
        await worklist.create(workitem(t00400400=element("LT", "x" * 1500)))
    answer = await worklist.client.get("/dicomweb/workitems")
    assert 0 < len(await answer.json(content_type=None)) < 5
    assert "additional results" in answer.headers["Warning"]


async def test_search_agrees_with_the_filter_that_subscriptions_use(worklist):
    """What MongoDB finds is what `worklist.search.matches` finds."""
    stored = [
        await worklist.get(await worklist.create(workitem(**attributes)))
        for attributes in (
            {"t00100010": element("PN", {"Alphabetic": "Müller^Jörg"})},
            {"t00100010": element("PN", {"Alphabetic": "Smith^Ann"}), "t0020000D": element("UI", "1.2.3")},
            {"t00404025": element("SQ", coded("CT1", "99L", "CT"), coded("MR", "99M", "MR"))},
            {"t00404005": element("DT", "20240601120000-0500"), "t00100020": element("LO", "A*B")},
        )
    ]
    for pairs in (
        [("PatientName", "m*")],
        [("PatientName", "smyth"), ("fuzzymatching", "true")],
        [("PatientName", "jorg muller"), ("fuzzymatching", "true")],
        [("PatientName", '""'), ("emptyvaluematching", "true")],
        [("PatientID", "A*")],
        [("PatientID", "?*B")],
        [("StudyInstanceUID", "1.2.3,1.2.4")],
        [("ScheduledProcedureStepStartDateTime", "20240601170000")],
        [("ScheduledProcedureStepStartDateTime", "202406-")],
        [
            ("ScheduledStationNameCodeSequence.CodeValue", "CT1"),
            ("ScheduledStationNameCodeSequence.CodingSchemeDesignator", "99M"),
        ],
        [("ScheduledStationNameCodeSequence.CodeValue", '""'), ("emptyvaluematching", "true")],
        [("ScheduledStationNameCodeSequence.CodeValue", "C*")],
    ):
        query = parsed(pairs, Limits()).query
        expected = {
            one["00080018"]["Value"][0] for one in stored if matches(tree_of(one), query.matches, fuzzy=query.fuzzy)
        }
        found = await worklist.client.get("/dicomweb/workitems", params=pairs)
        items = await found.json(content_type=None) if found.status == 200 else []
        assert {one["00080018"]["Value"][0] for one in items} == expected, pairs


async def test_finished_workitems_expire_but_for_locks(core, worklist):
    items = core.catalogue.db["workitems"]
    uid = await claimed(worklist)
    assert (await worklist.subscribe(uid, "WATCHER", "?deletionlock=true")).status == 201
    await worklist.put(uid, "CANCELED")
    assert (await items.find_one({"_id": uid}))["expires"] is None
    path = f"/dicomweb/workitems/{uid}/subscribers/WATCHER"
    assert (await worklist.client.delete(path)).status == 200
    expires = (await items.find_one({"_id": uid}))["expires"]
    assert timedelta(hours=167) < expires - datetime.now(UTC) < timedelta(hours=169)
    await items.update_one({"_id": uid}, {"$set": {"expires": datetime.now(UTC) - timedelta(seconds=1)}})
    assert (await worklist.client.get(f"/dicomweb/workitems/{uid}")).status == 410
    assert await worklist.search("") == []
    await workitems.WorkitemStore(core.catalogue.db, keep=timedelta(0)).expire()
    assert set(await items.find_one({"_id": uid})) == {"_id", "gone", "forget"}
    assert (await worklist.client.get(f"/dicomweb/workitems/{uid}")).status == 410
    assert (await worklist.client.post(f"/dicomweb/workitems?{uid}", json=workitem())).status == 409


async def test_state_outlives_the_server(core, serve, worklist):
    uid = await claimed(worklist)
    second = Worklist(await serve(core))
    assert (await second.put(uid, "IN PROGRESS", "1.2.3")).status == 400
    assert (await second.put(uid, "CANCELED")).status == 200


async def test_capabilities_and_openapi_name_the_service(worklist):
    answer = await worklist.client.options("/dicomweb/", headers={"Accept": "application/vnd.sun.wadl+xml"})
    assert "workitems/{workitem}/state" in await answer.text()
    described = (await (await worklist.client.get("/api/openapi.json")).json())["paths"]
    assert "put" in described["/dicomweb/workitems/{workitem}/state"]
    assert described["/dicomweb/workitems"]["post"]["requestBody"]["required"]
    asked = described["/dicomweb/workitems/{workitem}/cancelrequest"]["post"]
    assert not asked["requestBody"]["required"]  # section 11.8.1.4: whoever asks need not say why


async def test_answers_are_compressed(worklist):
    for _ in range(5):
        await worklist.create(workitem())
    answer = await worklist.client.get("/dicomweb/workitems")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(await answer.json(content_type=None)) == 5


async def test_the_requester_of_a_state_may_be_named(worklist):
    uid = await worklist.create(workitem())
    answer = await worklist.client.put(f"/dicomweb/workitems/{uid}/state/AE", json=state("IN PROGRESS"))
    assert answer.status == 200
