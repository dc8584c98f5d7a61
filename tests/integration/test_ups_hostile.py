"""What callers send to break the worklist is refused with one sentence, or kept and told again, but never an error."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dicomweb.errors import Unavailable
from dicomweb.worklist.subscriptions import FILTERED, GLOBAL
from dicomweb.worklist.transitions import created
from gateway.jobs.workitems import MAX_ITEM_BYTES, Decision, Stored, WorkitemStore
from tests.ups_support import Worklist, element, new_uid, workitem

_PRIVATE = "00091001"


@pytest.fixture
def worklist(client) -> Worklist:
    return Worklist(client)


async def test_a_filter_that_is_refused_is_not_kept(core, worklist):
    answer = await worklist.subscribe(FILTERED, "A", f"?filter=ProcedureStepLabel={'*a' * 9}")
    assert answer.status == 400
    assert await core.catalogue.db["worklist_registrations"].count_documents({}) == 0


async def test_no_filter_holds_creation_up(worklist):
    pattern = "*a" * 8 + "b"
    assert (await worklist.subscribe(FILTERED, "A", f"?filter=ProcedureStepLabel={pattern}")).status == 201
    async with asyncio.timeout(5):
        await worklist.create(workitem(t00741204=element("LO", "a" * 10_000)))
        assert await worklist.search(f"ProcedureStepLabel={pattern}") == []
        assert len(await worklist.search(f"ProcedureStepLabel={pattern[:-1]}")) == 1


async def test_a_workitem_does_not_grow_for_ever(worklist):
    uid = await worklist.create(workitem())
    growing = [{f"0009{0x1000 + number:04X}": element("LT", "x" * 900_000)} for number in range(4)]
    answers = [(await worklist.update(uid, changes)).status for changes in growing]
    assert answers == [200, 200, 413, 413]
    assert 2 * 900_000 < len(str(await worklist.get(uid))) < MAX_ITEM_BYTES


async def test_what_has_expired_takes_no_room(core):
    store = WorkitemStore(core.catalogue.db, keep=timedelta(0), max_workitems=2)
    await store.create_indexes()

    async def add() -> None:
        change = created(new_uid(), workitem(), datetime.now(UTC))
        await store.add(Decision.of(Stored(change.workitem), change))

    await add()
    await add()
    with pytest.raises(Unavailable):
        await add()
    await core.catalogue.db["workitems"].update_one({}, {"$set": {"expires": datetime.now(UTC)}})
    await store.expire()
    await add()


async def test_subscribers_are_bounded(core, worklist, monkeypatch):
    monkeypatch.setattr("gateway.jobs.workitems.MAX_SUBSCRIBERS", 2)
    uid = await worklist.create(workitem())
    for title in "ABC":
        assert (await worklist.subscribe(GLOBAL, title, "?deletionlock=true")).status == 201
        suspended = await worklist.client.post(f"/dicomweb/workitems/{GLOBAL}/subscribers/{title}/suspend")
        assert suspended.status == 200
    stored = await core.catalogue.db["workitems"].find_one({"_id": uid})
    assert [one["ae"] for one in stored["subscribers"]] == ["A", "B"]


@pytest.mark.parametrize("profile", ["none", "research"])
async def test_values_that_are_none_of_their_vr(open_archive, serve, profile):
    worklist = Worklist(await serve(await open_archive(ISTHMUS_INGEST__PROFILE=profile)))
    odd = [
        *(("XX", "a"), ("OB", "a"), ("UN", "a"), ("AT", "zz"), ("DA", "x"), ("TM", "x"), ("UI", "x"), ("AS", "x")),
        *(("FD", "a"), ("FL", 1e300), ("US", "70000"), ("US", 70000), ("SS", -40000), ("UV", -1), ("US", 1.5)),
        *(("IS", "x"), ("IS", 1.5), ("DS", "x"), ("DS", 1e300), ("DS", 0.1234567890123456789)),
        *(("SH", "x" * 100), ("CS", "lower case"), ("LO", "a\\b"), ("LO", "\x1b$B")),
    ]
    for vr, value in odd:
        item = workitem() | {_PRIVATE: element(vr, value)}
        answer = await worklist.client.post(f"/dicomweb/workitems?{new_uid()}", json=item)
        assert answer.status in (201, 400, 422), (vr, value)
        if answer.status == 201:
            path = f"/dicomweb/workitems/{answer.headers['Location'].rpartition('/')[2]}"
            for accept in ("application/dicom+xml", "application/dicom+json"):
                assert (await worklist.client.get(path, headers={"Accept": accept})).status == 200, (vr, value)


@pytest.mark.parametrize(
    "query",
    [
        "offset=99999999999999999999",
        "limit=-1",
        "ProcedureStepLabel=%00",
        "ProcedureStepLabel=" + "*a" * 9,
        "ScheduledProcedureStepStartDateTime=a-b",
        "PatientName=%FF",
        "PatientName=%ED%A0%80",
        "%00=1",
    ],
)
async def test_searches_that_are_refused_or_find_nothing(worklist, query):
    await worklist.create(workitem())
    answer = await worklist.client.get(f"/dicomweb/workitems?{query}")
    assert answer.status in (204, 400)
