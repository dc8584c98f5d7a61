"""Subscriptions to workitems and the WebSockets of their events, over two workers and restarts."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import WSMsgType

from dicomweb.worklist.subscriptions import FILTERED, GLOBAL
from gateway.jobs import worklist_hub
from tests.ups_support import PERFORMER, Worklist, coded, element, event, new_uid, state_of, workitem

STATE, CANCEL, PROGRESS, STATUS, ASSIGNED = 1, 2, 3, 4, 5


@pytest.fixture
async def workers(core, serve):
    """Two workers over one database."""
    return Worklist(await serve(core)), Worklist(await serve(core))


async def test_a_subscriber_of_one_workitem(workers):
    here, there = workers
    uid = await here.create(workitem())
    async with there.channel("WATCHER") as socket:
        answer = await here.subscribe(uid, "WATCHER")
        assert answer.status == 201
        assert answer.headers["Content-Location"].startswith("ws://")
        assert answer.headers["Content-Location"].endswith("/dicomweb/subscribers/WATCHER")
        kind, named, report = await event(socket)
        assert (kind, named) == (STATE, uid)
        assert report["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
        assert report["00741000"] == {"vr": "CS", "Value": ["SCHEDULED"]}
        assert report["00404041"] == {"vr": "CS", "Value": ["READY"]}
        await there.put(uid, "IN PROGRESS")
        assert (await event(socket))[2]["00741000"]["Value"] == ["IN PROGRESS"]
        progress = {"00741002": element("SQ", {"00741004": element("DS", "50"), "00741006": element("ST", "half")})}
        await here.update(uid, progress, PERFORMER)
        kind, _, report = await event(socket)
        assert kind == PROGRESS
        assert report["00741002"]["Value"][0]["00741004"]["Value"] == ["50"]
        await here.update(uid, {"00404025": element("SQ", coded("CT1", "99L", "x"))}, PERFORMER)
        kind, _, report = await event(socket)
        assert kind == ASSIGNED
        assert report["00404025"]["Value"][0]["00080100"]["Value"] == ["CT1"]
        reason = {"00741238": element("LT", "Please"), "0074100C": element("LO", "Somebody")}
        path = f"/dicomweb/workitems/{uid}/cancelrequest/ASKER"
        assert (await here.client.post(path, json=reason)).status == 202
        kind, _, report = await event(socket)
        assert kind == CANCEL
        assert report["00741236"] == {"vr": "AE", "Value": ["ASKER"]}
        assert report["00741238"]["Value"] == ["Please"]
        assert report["0074100C"]["Value"] == ["Somebody"]
        await here.put(uid, "CANCELED")
        _, _, report = await event(socket)
        assert report["00741000"]["Value"] == ["CANCELED"]
        assert report["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
        assert report["00000110"]["Value"] == [6]


async def test_only_the_subscribed_are_told(workers):
    here, there = workers
    first, second = await here.create(workitem()), await here.create(workitem())
    async with there.channel("A") as a, here.channel("B") as b:
        await here.subscribe(first, "A")
        await here.subscribe(second, "B")
        assert (await event(a))[1] == first
        assert (await event(b))[1] == second
        assert (await here.client.delete(f"/dicomweb/workitems/{first}/subscribers/A")).status == 200
        assert (await here.client.delete(f"/dicomweb/workitems/{first}/subscribers/A")).status == 404
        await here.put(first, "IN PROGRESS")
        await here.subscribe(second, "A")
        assert (await event(a))[1:2] == (second,)


async def test_global_subscription_with_lock(core, workers):
    here, there = workers
    old = [await here.create(workitem()) for _ in range(3)]
    async with there.channel("ALL") as socket:
        assert (await here.subscribe(GLOBAL, "ALL", "?deletionlock=true")).status == 201
        assert {(await event(socket))[1] for _ in old} == set(old)
        new = await there.create(workitem(t00404025=element("SQ", coded("CT1", "99L", "x"))))
        told = [await event(socket), await event(socket)]
        assert [(kind, uid) for kind, uid, _ in told] == [(STATE, new), (ASSIGNED, new)]
        suspended = await here.client.post(f"/dicomweb/workitems/{GLOBAL}/subscribers/ALL/suspend")
        assert suspended.status == 200
        await here.create(workitem())
        await here.put(new, "IN PROGRESS")
        assert (await event(socket))[1] == new  # existing subscriptions stay, the newest was not told of
        assert (await here.client.delete(f"/dicomweb/workitems/{GLOBAL}/subscribers/ALL")).status == 200
        assert await core.catalogue.db["workitems"].count_documents({"subscribers.ae": "ALL"}) == 0
        again = await here.client.delete(f"/dicomweb/workitems/{GLOBAL}/subscribers/ALL")
        assert again.status == 404
        assert (await here.client.post(f"/dicomweb/workitems/{GLOBAL}/subscribers/ALL/suspend")).status == 404


async def test_global_subscription_without_lock_tells_of_new_ones_only(workers):
    here, there = workers
    await here.create(workitem())
    async with there.channel("ALL") as socket:
        assert (await here.subscribe(GLOBAL, "ALL")).status == 201
        new = await here.create(workitem())
        assert (await event(socket))[1] == new


async def test_filtered_subscription(workers):
    here, there = workers
    await here.create(workitem(t00741202=element("LO", "MR")))
    old = await here.create(workitem(t00741202=element("LO", "CT")))
    async with there.channel("CTS") as socket:
        answer = await here.subscribe(FILTERED, "CTS", "?filter=WorklistLabel=CT&deletionlock=true")
        assert answer.status == 201
        assert (await event(socket))[1] == old
        await here.create(workitem(t00741202=element("LO", "MR")))
        new = await here.create(workitem(t00741202=element("LO", "CT")))
        assert (await event(socket))[1] == new
        one = await here.create(workitem())
        await here.subscribe(one, "CTS")
        assert (await event(socket))[1] == one
        assert (await here.client.delete(f"/dicomweb/workitems/{FILTERED}/subscribers/CTS")).status == 200
        await here.put(new, "IN PROGRESS")
        await here.put(one, "IN PROGRESS")
        assert (await event(socket))[1] == one  # what was subscribed by itself stays


@pytest.mark.parametrize(
    "path",
    [
        f"{FILTERED}/subscribers/AE",
        f"{FILTERED}/subscribers/AE?filter=Nonsense=1",
        f"{GLOBAL}/subscribers/AE?filter=WorklistLabel=CT",
        f"{GLOBAL}/subscribers/AE?deletionlock=perhaps",
        f"{GLOBAL}/subscribers/{'A' * 17}",
        "1.2.3/subscribers/AE/suspend",
        "x/subscribers/AE",
    ],
)
async def test_subscriptions_that_are_refused(workers, path):
    assert (await workers[0].client.post(f"/dicomweb/workitems/{path}")).status == 400


async def test_a_channel_is_a_websocket(workers):
    assert (await workers[0].client.get("/dicomweb/subscribers/AE")).status == 400
    assert (await workers[0].client.get("/dicomweb/")).status == 400


async def test_the_channel_of_a_user_has_all_that_the_user_subscribed(workers):
    """PS3.18 section 8.10.4: the target is the service itself, which no AE title is part of."""
    here, there = workers
    first, second = await here.create(workitem()), await here.create(workitem())
    async with there.client.ws_connect("/dicomweb/") as socket:
        await here.subscribe(first, "A")
        await here.subscribe(second, "B")
        assert {(await event(socket))[1], (await event(socket))[1]} == {first, second}


async def test_a_going_server_says_so_and_a_new_one_that_it_is_back(core, serve):
    first = Worklist(await serve(core))
    uid = await first.create(workitem())
    async with first.channel("A") as socket:
        await first.subscribe(uid, "A")
        await event(socket)
        await first.client.server.app.shutdown()
        kind, named, report = await event(socket)
        assert (kind, named) == (STATUS, GLOBAL)
        assert report["00741242"]["Value"] == ["GOING DOWN"]
        assert (await socket.receive(timeout=10)).type is WSMsgType.CLOSE
    assert (await first.client.get("/dicomweb/subscribers/A", headers=_UPGRADE)).status == 503
    second = Worklist(await serve(core))
    async with second.channel("A") as socket:
        kind, _, report = await event(socket)
        assert kind == STATUS
        assert [report[tag]["Value"][0] for tag in ("00741242", "00741244", "00741246")] == [
            "RESTARTED",
            "WARM START",
            "WARM START",
        ]
        await second.put(uid, "IN PROGRESS")
        assert (await event(socket))[2]["00741000"]["Value"] == ["IN PROGRESS"]
    async with second.channel("A") as socket:
        await second.put(uid, "CANCELED")
        assert (await event(socket))[0] == STATE  # told once


async def test_a_slow_subscriber_is_closed(core, serve, monkeypatch):
    monkeypatch.setattr(worklist_hub, "MAX_WAITING", 3)
    connection = worklist_hub.Connection("A", "")
    for number in range(10):
        connection.put(str(number), (1, {}))
    got = [await connection.get() for _ in range(4)]
    assert [one and one[0] for one in got] == ["0", "1", "2", None]
    worklist = Worklist(await serve(core))
    async with worklist.channel("A"):
        monkeypatch.setattr(worklist_hub, "MAX_CONNECTIONS", 1)
        assert (await worklist.client.get("/dicomweb/subscribers/B", headers=_UPGRADE)).status == 503


_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_another_site_gets_no_events(workers):
    headers = _UPGRADE | {"Origin": "https://elsewhere.example"}
    assert (await workers[0].client.get("/dicomweb/subscribers/A", headers=headers)).status == 403


async def test_subscribing_while_workitems_are_created_misses_none(core, workers):
    here, there = workers
    async with there.channel("ALL") as socket:
        creating = asyncio.gather(*(workers[n % 2].create(workitem()) for n in range(20)))
        assert (await here.subscribe(GLOBAL, "ALL", "?deletionlock=true")).status == 201
        uids = set(await creating)
        assert {(await event(socket))[1] for _ in uids} == uids
    subscribed = await core.catalogue.db["workitems"].count_documents({"subscribers.ae": "ALL"})
    assert subscribed == len(uids)


async def test_a_lock_can_be_taken_back(core, workers):
    here, _ = workers
    uid = await here.create(workitem())
    await here.subscribe(uid, "A", "?deletionlock=true")
    await here.client.post(f"/dicomweb/workitems/{uid}/cancelrequest")
    assert state_of(await here.get(uid)) == "CANCELED"
    document = await core.catalogue.db["workitems"].find_one({"_id": uid})
    assert document["expires"] is None
    await here.subscribe(uid, "A", "?deletionlock=false")
    document = await core.catalogue.db["workitems"].find_one({"_id": uid})
    assert document["expires"] > datetime.now(UTC) + timedelta(hours=100)
    assert new_uid() != uid
