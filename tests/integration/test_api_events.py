"""What happens is told: server-sent events and the ordered change feed, on real change streams."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import TestClient, TestServer

from dicomweb.resource import Resource
from gateway.api import events, stream
from gateway.api.events import Event, summarise
from gateway.jobs.model import State, new_id
from gateway.store import change_stream
from gateway.store.changes import Change
from ray_plugins.sdk import Progress
from tests.integration.api_support import api, application, services_of  # noqa: F401
from tests.integration.jobs_support import order, store_series, until


class Listener:
    """Reads server-sent events as browsers do."""

    def __init__(self, content):
        self._content = content
        self.last_id = ""

    async def next(self, *names):
        """The next event of one of these names; comments are passed over."""
        async with asyncio.timeout(20):
            while True:
                name, data = await self._block()
                if name in names:
                    return data

    async def _block(self):
        name, data = "", None
        while line := (await self._content.readline()).decode().rstrip("\n"):
            field, _, value = line.partition(": ")
            name = value if field == "event" else name
            data = json.loads(value) if field == "data" else data
            self.last_id = value if field == "id" else self.last_id
        if not name and self._content.at_eof():
            raise EOFError
        return name, data


@asynccontextmanager
async def listening(api, **headers):  # noqa: F811
    """A connection of a browser, with these headers."""
    async with api.client.get("/api/v1/events", headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield Listener(answer.content)


async def test_every_step_of_a_run_is_told(api):  # noqa: F811
    async with listening(api) as listener:
        run = await api.start()
        assert await listener.next("run") == run
        queue = api.services.queue
        claimed = await queue.claim("a")
        assert (await listener.next("run"))["state"] == "running"
        await queue.report(claimed, progress=Progress(0.5, "half-way"))
        told = await listener.next("run")
        assert (told["progress"], told["message"]) == (0.5, "half-way")
        await queue.finish(claimed, State.FAILED, error="No bone.")
        told = await listener.next("run")
        assert (told["state"], told["error"]) == ("failed", "No bone.")


async def test_what_is_stored_and_deleted_is_told(api, data_folder):  # noqa: F811
    async with listening(api) as listener:
        study_uid, series_uid = await store_series(api.core, data_folder / "series-traps" / "gantry-tilt")
        told = await listener.next("stored")
        assert (told["study"], told["series"]) == (study_uid, series_uid)
        while told["instances"] < len(await api.core.archive.instances(Resource(study_uid))):
            told["instances"] += (await listener.next("stored"))["instances"]
        await api.core.archive.delete(Resource(study_uid))
        assert await listener.next("deleted") == {"study": study_uid}


async def test_who_comes_back_is_told_what_it_missed(api, data_folder):  # noqa: F811
    async with listening(api) as listener:
        await api.core.archive.delete(Resource(api.study))
        assert await listener.next("deleted") == {"study": api.study}
        last_id = listener.last_id
    study_uid, series_uid = await store_series(api.core, data_folder / "series-traps" / "gantry-tilt")
    count = len(await api.core.archive.instances(Resource(study_uid)))
    async with listening(api, **{"Last-Event-ID": last_id}) as listener:
        told = await listener.next("stored", "deleted")
        assert told == {"study": study_uid, "series": series_uid, "instances": count}
        assert int(listener.last_id) == int(last_id) + count
    async with listening(api, **{"Last-Event-ID": "no number"}) as listener:
        await api.core.archive.delete(Resource(study_uid))
        assert await listener.next("deleted") == {"study": study_uid}


async def test_every_client_hears_everything_over_one_change_stream_that_is_there_while_they_are(api):  # noqa: F811
    client, database = api.core.catalogue.client, api.core.settings.mongodb.database
    ours = {"cursor.tailable": True, "ns": {"$regex": f"^{database}\\."}}

    async def there_are(number):  # one that ends, or is asked just now, may be listed besides
        streams = await client.admin.aggregate([{"$currentOp": {"idleCursors": True}}, {"$match": ours}])
        return len({stream["cursor"]["cursorId"] for stream in await streams.to_list()}) == number

    for _ in range(2):
        async with listening(api) as one, listening(api) as two:
            run = await api.start()
            assert await one.next("run") == await two.next("run") == run
            await until(lambda: there_are(1))
            await api.services.queue.cancel(run["id"])
        await until(lambda: there_are(0))


async def test_a_slow_client_is_ended_clearly(api, monkeypatch):  # noqa: F811
    monkeypatch.setattr(events, "MAX_WAITING", 4)
    async with api.services.events.subscribe() as slow:
        for number in range(6):
            slow.put(Event("run", {"number": number}))
        assert (await slow.get()) is events.END


async def test_the_line_is_kept_open_by_comments(api, monkeypatch):  # noqa: F811
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    async with api.client.get("/api/v1/events") as answer:
        assert await asyncio.wait_for(answer.content.readuntil(b"\n: \n\n"), 5)


async def test_too_many_clients_are_asked_to_come_again(api, monkeypatch):  # noqa: F811
    monkeypatch.setattr(events, "MAX_CLIENTS", 1)
    async with listening(api):
        answer = await api.client.get("/api/v1/events")
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)


async def test_a_client_that_leaves_is_forgotten(api, monkeypatch):  # noqa: F811
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(events, "MAX_CLIENTS", 1)
    async with listening(api):
        pass

    async def welcome():
        return (await api.client.get("/api/v1/events")).status == 200

    await until(welcome)


async def test_a_server_that_stops_ends_its_streams(core):
    async with TestClient(TestServer(application(services_of(core)))) as client:
        answer = await client.get("/api/v1/events")
        async with asyncio.timeout(5):
            await client.server.close()
        assert b"event: end" in await answer.read()


async def test_a_change_stream_that_breaks_is_opened_again_and_clients_are_told_to_return(api, monkeypatch):  # noqa: F811
    monkeypatch.setattr(change_stream, "RECONNECT_S", 0.05)
    async with listening(api) as listener:
        await api.core.catalogue.db.command("dropDatabase")  # which invalidates every stream on it
        await listener.next("end")
    async with listening(api) as listener:

        async def heard():
            await api.services.queue.enqueue(order(parameters={"number": new_id()}))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    return await listener.next("run")

        assert await until(heard)


async def test_changes_are_listed_in_order_and_by_pages(api):  # noqa: F811
    count = len(await api.core.archive.instances(Resource(api.study)))
    whole = await (await api.client.get("/api/v1/changes")).json()
    assert [change["seq"] for change in whole["changes"]] == list(range(1, count + 1))
    assert {change["action"] for change in whole["changes"]} == {"stored"}
    assert whole["latest"] == count
    page = await (await api.client.get("/api/v1/changes?since=5&limit=3")).json()
    assert page == {"changes": whole["changes"][5:8], "latest": count}
    await api.core.archive.delete(Resource(api.study))
    rest = await (await api.client.get(f"/api/v1/changes?since={count}")).json()
    assert [change["action"] for change in rest["changes"]] == ["deleted"] * count
    assert rest["latest"] == 2 * count
    assert (await (await api.client.get("/api/v1/changes?since=10000")).json())["changes"] == []


@pytest.mark.parametrize(
    "question", ["since=-1", "since=x", "since=1e3", "since=", "limit=0", "limit=5001", f"since={10**30}"]
)
async def test_a_page_that_cannot_be_is_refused(api, question):  # noqa: F811
    answer = await api.client.get(f"/api/v1/changes?{question}")
    assert answer.status == 400
    assert "whole number from" in (await answer.json())["error"]


def change(seq, action, series="1.1", study="1"):
    return Change(seq, action, study, series, f"{series}.{seq}", datetime.now(UTC))


def test_changes_are_counted_by_series_and_the_last_event_carries_the_number():
    made = summarise([change(1, "stored"), change(2, "stored", "1.2"), change(3, "stored"), change(4, "stored", "1.2")])
    assert made == [
        Event("stored", {"study": "1", "series": "1.1", "instances": 2}),
        Event("stored", {"study": "1", "series": "1.2", "instances": 2}, 4),
    ]


def test_what_happened_last_comes_last():
    made = summarise([change(1, "deleted"), change(2, "stored"), change(3, "deleted", "1.2")])
    assert [(event.name, event.seq) for event in made] == [("stored", 0), ("deleted", 3)]
    assert summarise([]) == []


def test_an_event_travels_as_the_standard_says():
    assert Event("deleted", {"study": "1.2"}, 7).encode() == b'id: 7\nevent: deleted\ndata: {"study": "1.2"}\n\n'
    assert Event("run", {"message": "a\nb"}).encode() == b'event: run\ndata: {"message": "a\\nb"}\n\n'
