"""UPS-RS: PS3.18 chapter 11, section 8.10, and PS3.4 Annex CC where chapter 11 refers to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse as Channel
from aiohttp import WSMsgType
from yarl import URL

from tests.conformance import native
from tests.conformance.caller import JSON, XML, Answer, Caller, value_of
from tests.conformance.objects import uid
from tests.conformance.test_stow import as_xml

GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
STATE, TRANSACTION, LABEL = "00741000", "00081195", "00741204"
SCHEDULED, STARTED, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
#: How long an event may take.
DEADLINE_S = 20


def one(vr: str, *values: Any) -> dict[str, Any]:
    """An attribute."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def code(value: str, meaning: str) -> dict[str, Any]:
    """A code sequence of one item."""
    item = {"00080100": one("SH", value), "00080102": one("SH", "99TEST"), "00080104": one("LO", meaning)}
    return one("SQ", item)


def workitem(name: str, **changes: Any) -> dict[str, Any]:
    """A workitem with all that creating one requires (PS3.4 Table CC.2.5-3)."""
    item = {
        "00080082": one("SQ"),
        "00081080": one("LO"),
        "00081084": one("SQ"),
        TRANSACTION: one("UI"),
        "00100010": one("PN", {"Alphabetic": "Quixote^Alonso"}),
        "00100020": one("LO", name),
        "00100021": one("LO"),
        "00100024": one("SQ"),
        "00100030": one("DA"),
        "00100040": one("CS"),
        "00101002": one("SQ"),
        "0020000D": one("UI", uid("CONF-A")),
        "00380010": one("LO"),
        "00380014": one("SQ"),
        "00400400": one("LT"),
        "00404005": one("DT", "20210304101112"),
        "00404018": code("W1", "Look"),
        "00404021": one("SQ"),
        "00404025": one("SQ"),
        "00404026": one("SQ"),
        "00404027": one("SQ"),
        "00404034": one("SQ"),
        "00404041": one("CS", "READY"),
        "0040A370": one("SQ"),
        STATE: one("CS", SCHEDULED),
        "00741002": one("SQ"),
        "00741200": one("CS", "MEDIUM"),
        "00741202": one("LO", "Conformance"),
        LABEL: one("LO", f"Task {name}"),
        "00741210": one("SQ"),
        "00741216": one("SQ"),
        "00741224": one("SQ"),
    } | changes
    return {tag: attribute for tag, attribute in sorted(item.items()) if attribute is not None}


def performed() -> dict[str, Any]:
    """What must be known before a workitem is completed (PS3.4 Table CC.2.5-3, column Final State)."""
    return {
        "00741216": one(
            "SQ",
            {
                "00404007": one("SQ"),
                "00404019": code("W1", "Look"),
                "00404028": code("ST1", "Station"),
                "00404029": one("SQ"),
                "00404030": one("SQ"),
                "00404033": one("SQ"),
                "00404050": one("DT", "20210304102000"),
                "00404051": one("DT", "20210304103000"),
            },
        )
    }


async def send(server: Caller, method: str, path: str, payload: Any = None, accept: str = JSON) -> Answer:
    """Send a data set as an array of one."""
    data = None if payload is None else json.dumps([payload]).encode()
    headers = {} if payload is None else {"Content-Type": JSON}
    return await server.send(method, path, data=data, accept=accept, headers=headers)


async def create(server: Caller, name: str, **changes: Any) -> str:
    """Create the workitem that belongs to a name; its path."""
    answer = await send(server, "POST", f"/workitems?{uid(name)}", workitem(name, **changes))
    assert answer.status == 201, answer.body
    return f"/workitems/{uid(name)}"


async def change(server: Caller, path: str, state: str, transaction: str | None) -> Answer:
    """Change the state of a workitem."""
    lock = {TRANSACTION: one("UI", transaction)} if transaction else {}
    return await send(server, "PUT", f"{path}/state", lock | {STATE: one("CS", state)})


async def started(server: Caller, name: str) -> tuple[str, str]:
    """Create a workitem and claim it; its path and transaction UID."""
    path, lock = await create(server, name), uid(name + " lock")
    assert (await change(server, path, STARTED, lock)).status == 200
    return path, lock


async def finished(server: Caller, name: str, state: str) -> tuple[str, str]:
    """Create, claim and end a workitem."""
    path, lock = await started(server, name)
    assert (await send(server, "POST", f"{path}?{lock}", performed())).status == 200
    answer = await change(server, path, state, lock)
    assert answer.status == 200, (answer.headers, answer.body)
    return path, lock


async def read(server: Caller, path: str) -> dict[str, Any]:
    """The workitem."""
    (item,) = await server.items(path)
    return item


async def test_ups_01_create(server, fresh):
    answer = await send(server, "POST", f"/workitems?{uid(fresh)}", workitem(fresh))
    assert answer.status == 201
    assert answer.headers["Location"] == f"{server.base}/workitems/{uid(fresh)}"
    assert value_of(await read(server, f"/workitems/{uid(fresh)}"), STATE) == SCHEDULED


async def test_ups_02_the_uid_in_the_data_set(server, fresh):
    answer = await send(server, "POST", "/workitems", workitem(fresh, **{"00080018": one("UI", uid(fresh))}))
    assert answer.status == 201
    assert answer.headers["Location"].endswith(f"/workitems/{uid(fresh)}")


async def test_ups_03_only_once(server, fresh):
    await create(server, fresh)
    assert (await send(server, "POST", f"/workitems?{uid(fresh)}", workitem(fresh))).status == 409


@pytest.mark.parametrize(
    "changes",
    [
        {LABEL: None},
        {"00741200": None},
        {"00404005": None},
        {"00404041": None},
        {STATE: None},
        {STATE: one("CS", STARTED)},
        {TRANSACTION: one("UI", "1.2.3")},
        {"00741200": one("CS", "SOON")},
    ],
    ids=["label", "priority", "start", "readiness", "state", "started", "locked", "odd priority"],
)
async def test_ups_04_what_creation_requires(server, fresh, changes):
    answer = await send(server, "POST", f"/workitems?{uid(fresh)}", workitem(fresh, **changes))
    assert answer.status == 400
    assert (await server.get(f"/workitems/{uid(fresh)}", JSON)).status == 404


async def test_ups_05_retrieve(server, fresh):
    path = await create(server, fresh)
    answer = await server.get(path, JSON)
    assert (answer.status, answer.media_type) == (200, JSON)
    (item,) = answer.json()
    assert list(item) == sorted(item)
    assert (value_of(item, LABEL), value_of(item, "00100020")) == (f"Task {fresh}", fresh)


async def test_ups_06_the_lock_is_never_shown(server, fresh):
    path, lock = await started(server, fresh)
    assert lock not in (await server.get(path, JSON)).body.decode()
    assert lock not in (await server.get(f"/workitems?PatientID={fresh}&includefield=all", JSON)).body.decode()
    assert TRANSACTION not in await read(server, path)


async def test_ups_07_what_is_not_there(server):
    assert (await server.get("/workitems/1.2.3.4", JSON)).status == 404
    assert (await send(server, "POST", "/workitems/1.2.3.4?1.2.3", performed())).status == 404
    assert (await change(server, "/workitems/1.2.3.4", STARTED, "1.2.3")).status == 404
    assert (await send(server, "POST", "/workitems/1.2.3.4/cancelrequest", {})).status == 404


async def test_ups_08_update(server, fresh):
    path = await create(server, fresh)
    assert (await send(server, "POST", path, {LABEL: one("LO", "Other")})).status == 200
    assert value_of(await read(server, path), LABEL) == "Other"
    assert value_of(await read(server, path), "00100020") == fresh, "the rest stays"


async def test_ups_09_update_of_a_claimed_workitem_needs_its_lock(server, fresh):
    path, lock = await started(server, fresh)
    for query in ("", "?1.2.3"):
        answer = await send(server, "POST", path + query, performed())
        assert answer.status in {400, 409}
        assert "Warning" in answer.headers
    assert (await send(server, "POST", f"{path}?{lock}", performed())).status == 200


@pytest.mark.parametrize("state", [COMPLETED, CANCELED])
async def test_ups_10_no_update_at_the_end(server, fresh, state):
    path, lock = await finished(server, fresh, state)
    answer = await send(server, "POST", f"{path}?{lock}", {LABEL: one("LO", "Other")})
    assert answer.status == 400
    assert "Warning" in answer.headers


@pytest.mark.parametrize("tag", [STATE, TRANSACTION, "00080018"])
async def test_ups_11_what_no_update_may_change(server, fresh, tag):
    path = await create(server, fresh)
    value = one("CS", COMPLETED) if tag == STATE else one("UI", "1.2.3")
    assert (await send(server, "POST", path, {tag: value})).status in {400, 409}
    assert value_of(await read(server, path), tag) == value_of(
        {**workitem(fresh), "00080018": one("UI", uid(fresh))}, tag
    )


async def test_ups_12_claim_and_complete(server, fresh):
    path, lock = await started(server, fresh)
    assert value_of(await read(server, path), STATE) == STARTED
    assert (await send(server, "POST", f"{path}?{lock}", performed())).status == 200
    assert (await change(server, path, COMPLETED, lock)).status == 200
    assert value_of(await read(server, path), STATE) == COMPLETED


async def test_ups_13_the_lock_must_be_there_and_right(server, fresh):
    path = await create(server, fresh)
    answer = await change(server, path, STARTED, None)
    assert answer.status == 400
    assert f"299 {server.base}: The Transaction UID is missing." in answer.warnings
    path, _ = await started(server, fresh + "B")
    answer = await change(server, path, CANCELED, "1.2.3")
    assert answer.status == 400
    assert f"299 {server.base}: The Transaction UID is incorrect." in answer.warnings


@pytest.mark.parametrize("state", [COMPLETED, CANCELED, SCHEDULED, "PAUSED"])
async def test_ups_14_transitions_that_cannot_be(server, fresh, state):
    path = await create(server, fresh)
    answer = await change(server, path, state, uid(fresh))
    assert answer.status in {400, 409}
    assert "Warning" in answer.headers
    assert value_of(await read(server, path), STATE) == SCHEDULED


async def test_ups_15_claimed_once(server, fresh):
    path, _ = await started(server, fresh)
    answer = await change(server, path, STARTED, uid("another lock"))
    assert answer.status in {400, 409}
    assert "inconsistent with the state" in answer.warnings or "incorrect" in answer.warnings


@pytest.mark.parametrize("state", [COMPLETED, CANCELED])
async def test_ups_16_already_in_the_state(server, fresh, state):
    path, lock = await finished(server, fresh, state)
    answer = await change(server, path, state, lock)
    assert answer.status == 200
    assert f"299 {server.base}: The UPS is already in the requested state of {state}." in answer.warnings


async def test_ups_17_completion_needs_what_was_done(server, fresh):
    path, lock = await started(server, fresh)
    answer = await change(server, path, COMPLETED, lock)
    assert answer.status in {400, 409}
    assert value_of(await read(server, path), STATE) == STARTED


async def test_ups_18_request_cancellation(server, fresh):
    path, _ = await started(server, fresh)
    answer = await send(server, "POST", f"{path}/cancelrequest", {"00741238": one("LT", "Not needed")})
    assert answer.status == 202


@pytest.mark.parametrize(("state", "status"), [(COMPLETED, {409}), (CANCELED, {202, 409})])
async def test_ups_19_cancellation_at_the_end(server, fresh, state, status):
    path, _ = await finished(server, fresh, state)
    answer = await send(server, "POST", f"{path}/cancelrequest", {})
    assert answer.status in status
    if state == CANCELED:
        assert f"299 {server.base}: The UPS is already in the requested state of CANCELED." in answer.warnings


@pytest.mark.parametrize(
    "query",
    [
        "PatientID={}",
        "00741204=Task%20{}",
        "ProcedureStepLabel=Task*{}",
        "PatientID={}&ProcedureStepState=SCHEDULED",
        "PatientID={}&InputReadinessState=READY&ScheduledProcedureStepPriority=MEDIUM",
        "PatientID={}&ScheduledProcedureStepStartDateTime=20210304-20210305",
        "PatientID={}&ScheduledWorkitemCodeSequence.CodeValue=W1",
        "PatientID={}&WorklistLabel=Conf*",
        "PatientID={}&PatientName=Quix*",
    ],
)
async def test_ups_20_search(server, fresh, query):
    await create(server, fresh)
    answer = await server.get(f"/workitems?{query.format(fresh)}", JSON)
    assert (answer.status, answer.media_type, len(answer.json())) == (200, JSON, 1)
    (item,) = answer.json()
    assert value_of(item, "00080018") == uid(fresh)


async def test_ups_21_what_a_search_returns(server, fresh):
    await create(server, fresh)
    (item,) = await server.items(f"/workitems?PatientID={fresh}")
    for tag in ("00080016", "00080018", "00100010", "00100020", "00404005", "00404018", "00404041", STATE, LABEL):
        assert tag in item, tag
    (item,) = await server.items(f"/workitems?PatientID={fresh}&includefield=WorklistLabel")
    assert value_of(item, "00741202") == "Conformance"


async def test_ups_22_pages_of_a_search(server, fresh):
    for number in range(3):
        await create(server, f"{fresh}{number}", **{"00100020": one("LO", fresh)})
    answer = await server.get(f"/workitems?PatientID={fresh}&limit=2", JSON)
    assert len(answer.json()) == 2
    assert f"299 {server.base}: There are 1 additional results that can be requested" in answer.warnings
    rest = await server.items(f"/workitems?PatientID={fresh}&limit=2&offset=2")
    uids = {value_of(item, "00080018") for item in [*answer.json(), *rest]}
    assert uids == {uid(f"{fresh}{number}") for number in range(3)}


async def test_ups_23_bad_searches(server):
    for query in ("limit=x", "offset=-1", "fuzzymatching=perhaps", "ScheduledProcedureStepStartDateTime=soon"):
        assert (await server.get(f"/workitems?{query}", JSON)).status == 400


async def test_ups_24_xml(server, fresh):
    _, _, document = as_xml(workitem(fresh))
    headers = {"Content-Type": "application/dicom+xml"}
    answer = await server.send("POST", f"/workitems?{uid(fresh)}", data=document, headers=headers)
    assert answer.status == 201, answer.body
    found = await server.get(f"/workitems?PatientID={fresh}", XML)
    (part,) = found.parts()
    assert native.read(part.body)["00100020"] == ("LO", [fresh])
    single = await server.get(f"/workitems/{uid(fresh)}", f"application/dicom+xml, {XML}")
    body = single.parts()[0].body if single.media_type.startswith("multipart") else single.body
    assert native.read(body)[LABEL] == ("LO", [f"Task {fresh}"])


async def subscribe(server: Caller, resource: str, title: str, query: str = "") -> Answer:
    """Subscribe an Application Entity."""
    return await server.send("POST", f"/workitems/{resource}/subscribers/{title}{query}")


async def test_ups_25_subscribe_to_a_workitem(server, fresh):
    await create(server, fresh)
    answer = await subscribe(server, uid(fresh), fresh)
    assert answer.status == 201
    assert URL(answer.headers["Content-Location"]).scheme in {"ws", "wss"}
    assert (await subscribe(server, "1.2.3.4", fresh)).status == 404


@pytest.mark.parametrize("resource", [GLOBAL, FILTERED])
async def test_ups_26_subscribe_to_the_worklist(server, fresh, resource):
    query = f"?filter=PatientID={fresh}" if resource == FILTERED else ""
    answer = await subscribe(server, resource, fresh, query)
    assert answer.status == 201, answer.body
    assert answer.headers["Content-Location"].startswith("ws")
    assert (await server.send("DELETE", f"/workitems/{resource}/subscribers/{fresh}")).status == 200


@pytest.mark.parametrize("resource", [GLOBAL, FILTERED, None])
async def test_ups_27_unsubscribe(server, fresh, resource):
    if resource is None:
        await create(server, fresh)
    path = f"/workitems/{resource or uid(fresh)}/subscribers/{fresh}"
    query = f"?filter=PatientID={fresh}" if resource == FILTERED else ""
    assert (await server.send("POST", path + query)).status == 201
    answer = await server.send("DELETE", path)
    assert (answer.status, answer.body) == (200, b"")
    assert (await server.send("DELETE", path)).status == 404


async def test_ups_28_suspend(server, fresh):
    await subscribe(server, GLOBAL, fresh)
    path = f"/workitems/{GLOBAL}/subscribers/{fresh}"
    assert (await server.send("POST", path + "/suspend")).status == 200
    assert (await server.send("POST", f"/workitems/{GLOBAL}/subscribers/NOBODY/suspend")).status == 404
    await server.send("DELETE", path)


async def test_ups_29_bad_subscriptions(server, fresh):
    await create(server, fresh)
    assert (await subscribe(server, uid(fresh), fresh, "?deletionlock=perhaps")).status == 400
    assert (await subscribe(server, FILTERED, fresh)).status == 400, "a filtered worklist needs a filter"


@asynccontextmanager
async def listening(server: Caller, resource: str, title: str, query: str = "") -> AsyncIterator[Channel]:
    """Open the connection that a subscription names, and subscribe."""
    answer = await subscribe(server, resource, title, query)
    assert answer.status == 201, answer.body
    url = answer.headers["Content-Location"]
    async with server.session.ws_connect(url, headers={"Origin": server.origin}) as channel:
        # Only now is there a connection that could take what a subscription causes (section 11.10).
        assert (await subscribe(server, resource, title, query)).status == 201
        yield channel


async def event(channel: Channel, workitem_uid: str, kind: int) -> dict[str, Any]:
    """The next event of that kind about that workitem."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            message = await channel.receive()
            assert message.type == WSMsgType.TEXT, message
            found: dict[str, Any] = json.loads(message.data)
            if value_of(found, "00001000") == workitem_uid and value_of(found, "00001002") == kind:
                return found


async def test_ups_30_events_of_a_workitem(server, fresh):
    path = await create(server, fresh)
    async with listening(server, uid(fresh), fresh) as channel:
        first = await event(channel, uid(fresh), 1)
        assert (value_of(first, STATE), value_of(first, "00404041")) == (SCHEDULED, "READY")
        await change(server, path, STARTED, uid(fresh + " lock"))
        report = await event(channel, uid(fresh), 1)
        if (
            value_of(report, STATE) == SCHEDULED
        ):  # that it was made may be told after what it was when it was subscribed to
            report = await event(channel, uid(fresh), 1)
        assert value_of(report, STATE) == STARTED
        # UPS Push, as PS3.4 section CC.2.4.3 rules; the example of section 11.13 shows UPS Event.
        assert value_of(report, "00000002") == "1.2.840.10008.5.1.4.34.6.1"
        assert isinstance(value_of(report, "00000110"), int)
        assert uid(fresh + " lock") not in json.dumps(report)


async def test_ups_31_events_of_cancel_requests(server, fresh):
    path, _ = await started(server, fresh)
    async with listening(server, uid(fresh), fresh) as channel:
        await send(server, "POST", f"{path}/cancelrequest", {"00741238": one("LT", "Not needed")})
        report = await event(channel, uid(fresh), 2)
        assert value_of(report, "00741238") == "Not needed"


async def test_ups_32_events_of_progress(server, fresh):
    path, lock = await started(server, fresh)
    async with listening(server, uid(fresh), fresh) as channel:
        progress = {"00741002": one("SQ", {"00741004": one("DS", 50)})}
        assert (await send(server, "POST", f"{path}?{lock}", progress)).status == 200
        report = await event(channel, uid(fresh), 3)
        assert float(value_of(value_of(report, "00741002"), "00741004")) == 50


async def test_ups_33_subscribers_of_the_worklist_hear_of_new_workitems(server, fresh):
    async with listening(server, GLOBAL, fresh) as channel:
        await create(server, fresh)
        assert value_of(await event(channel, uid(fresh), 1), STATE) == SCHEDULED
    await server.send("DELETE", f"/workitems/{GLOBAL}/subscribers/{fresh}")


async def test_ups_34_filtered_subscribers_hear_of_what_matches(server, fresh):
    async with listening(server, FILTERED, fresh, f"?filter=PatientID={fresh}B") as channel:
        await create(server, fresh + "A")
        await create(server, fresh + "B")
        async with asyncio.timeout(DEADLINE_S):
            message = await channel.receive()
        assert value_of(json.loads(message.data), "00001000") == uid(fresh + "B"), "the first that is heard of"
    await server.send("DELETE", f"/workitems/{FILTERED}/subscribers/{fresh}")


async def test_ups_35_no_events_after_unsubscribing(server, fresh):
    path = await create(server, fresh)
    async with listening(server, uid(fresh), fresh) as channel:
        await event(channel, uid(fresh), 1)
        await server.send("DELETE", f"{path}/subscribers/{fresh}")
        await change(server, path, STARTED, uid(fresh + " lock"))
        await create(server, fresh + "other")
        await subscribe(server, uid(fresh + "other"), fresh)
        report = json.loads((await asyncio.wait_for(channel.receive(), DEADLINE_S)).data)
        assert value_of(report, "00001000") == uid(fresh + "other")


async def test_ups_36_other_media_types(server, fresh):
    path = await create(server, fresh)
    assert (await server.get(path, "image/jpeg")).status == 406
    answer = await server.send("POST", f"/workitems?{uid(fresh)}1", data=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status == 415


async def test_ups_37_payloads_that_cannot_be(server, fresh):
    for data in (b"", b"{", b"[]", b"[1]", b"[{}, {}]"):
        answer = await server.send("POST", f"/workitems?{uid(fresh)}", data=data, headers={"Content-Type": JSON})
        assert answer.status == 400, data


async def test_ups_38_a_scheduled_workitem_can_be_cancelled_by_request(server, fresh):
    path = await create(server, fresh)
    answer = await send(server, "POST", f"{path}/cancelrequest", {})
    # Chapter 11 lists 409 for it; PS3.4 section CC.2.2.3 lets the manager cancel what nobody has claimed.
    assert answer.status in {202, 409}
    expected = {202: {CANCELED, SCHEDULED}, 409: {SCHEDULED}}[answer.status]
    assert value_of(await read(server, path), STATE) in expected


async def test_ups_39_no_workitem_matches(server, fresh):
    answer = await server.get(f"/workitems?PatientID={fresh}", JSON)
    assert (answer.status, answer.body) == (204, b"")


async def test_ups_40_deletion_locks(server, fresh):
    await create(server, fresh)
    for query in ("?deletionlock=true", "?deletionlock=false"):
        answer = await subscribe(server, uid(fresh), fresh, query)
        assert answer.status == 201
        assert "not granted" not in answer.warnings


async def test_ups_41_creation_and_deletion_have_no_payload(server, fresh):
    answer = await send(server, "POST", f"/workitems?{uid(fresh)}", workitem(fresh))
    assert (answer.status, answer.body) == (201, b"")
    assert (await change(server, f"/workitems/{uid(fresh)}", STARTED, uid(fresh))).body == b""
