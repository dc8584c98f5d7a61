"""Workitems that ask for plugins: validated, claimed, performed once, told of, canceled; nothing is done twice."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dicomweb.resource import Resource
from gateway.api import worklist as api_worklist
from gateway.archive import Source
from gateway.jobs.model import Output, State
from gateway.jobs.performer import Performer
from gateway.jobs.queue import RunQueue
from gateway.jobs.workitems import WorkitemStore
from tests.integration.jobs_support import dispatching, order, plugins, store_series, until
from tests.ups_support import Worklist, element, event, new_uid, ordered, parameter, state_of, workitem


@pytest.fixture
async def series(core, data_folder):
    """A CT that is stored; study and series UID."""
    return await store_series(core, data_folder / "ct-abdomen-labelled")


@pytest.fixture
async def worklist(core, serve, monkeypatch):
    """The worklist of a server that has the plugins of tests."""
    real = api_worklist.worklist_services
    monkeypatch.setattr("gateway.app.worklist_services", lambda core, _: real(core, plugins()))
    return Worklist(await serve(core))


@pytest.fixture
def performer(core):
    """A performer that works when it is told to."""
    db = core.catalogue.db
    archive = core.archive.for_source(Source("plugin"))
    return Performer(WorkitemStore(db, keep=timedelta(hours=1)), RunQueue(db), archive, plugins(), "/isthmus")


async def finished(worklist, uid, timeout_s=60.0):
    async def final():
        item = await worklist.get(uid)
        return item if state_of(item) in ("COMPLETED", "CANCELED") else None

    return await until(final, timeout_s)


def runs_of(core):
    return core.catalogue.db["runs"].find({}).to_list(None)


async def test_a_plugin_is_run_for_a_workitem(core, worklist, series):
    async with worklist.channel("ASKER") as socket, dispatching(core):
        item = ordered(*series, level=200, how="well", number=3)
        uid = await worklist.create(item)
        await worklist.subscribe(uid, "ASKER")
        done = await finished(worklist, uid)
        assert state_of(done) == "COMPLETED"
        kinds = []
        while "COMPLETED" not in kinds:
            kind, _, report = await event(socket)
            kinds.append(report["00741000"]["Value"][0] if kind == 1 else kind)
        assert 3 in kinds
        assert kinds.index("IN PROGRESS") < kinds.index("COMPLETED")
    (run,) = await runs_of(core)
    assert run["state"] == "succeeded"
    assert run["parameters"] == {"how": "well", "level": 200, "number": 3, "grave": ""}
    (performed,) = done["00741216"]["Value"]
    assert performed["00404019"]["Value"][0]["00080100"]["Value"] == ["act"]
    assert performed["00404028"]["Value"][0]["00080100"]["Value"] == ["ISTHMUS"]
    assert performed["00404051"]["Value"][0] >= performed["00404050"]["Value"][0]
    references = [
        (reference["00081150"]["Value"][0], reference["00081155"]["Value"][0], output)
        for output in performed["00404033"]["Value"]
        for reference in output["00081199"]["Value"]
    ]
    assert {kind for kind, _, _ in references} == {"1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.88.33"}
    for _, instance_uid, output in references:
        url = output["0040E025"]["Value"][0]["00081190"]["Value"][0]
        assert url.startswith("http://")
        metadata = await worklist.client.get(
            url.partition("/dicomweb")[1] + url.partition("/dicomweb")[2] + "/metadata"
        )
        stored = await metadata.json(content_type=None)
        assert instance_uid in [one["00080018"]["Value"][0] for one in stored]
    assert "Mesh Block: /api/v1/meshes/" in performed["00400280"]["Value"][0]
    mesh = performed["00400280"]["Value"][0].partition(": ")[2]
    assert (await worklist.client.get(mesh, headers={"Accept": "model/stl"})).status == 200
    (progress,) = done["00741002"]["Value"]
    assert progress["00741004"]["Value"] == ["100"]


async def test_a_series_of_images_is_told_image_by_image(core, worklist, series):
    uid = await worklist.create(ordered(*series, how="images"))
    async with dispatching(core):
        done = await finished(worklist, uid)
    (output,) = done["00741216"]["Value"][0]["00404033"]["Value"]
    source = await core.archive.instances(Resource(*series))
    assert {one["00081150"]["Value"][0] for one in output["00081199"]["Value"]} == {source[0].sop_class_uid}
    assert len({one["00081155"]["Value"][0] for one in output["00081199"]["Value"]}) == len(source)
    assert output["0020000E"]["Value"] != [series[1]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"plugin": "nonsense"}, "names no plugin"),
        ({"level": 9000}, "level must be"),
        ({"depth": 1}, "no parameter depth"),
        ({"number": "Doe"}, "number must be a whole number"),
    ],
)
async def test_orders_that_are_refused(core, worklist, series, changes, sentence):
    answer = await worklist.client.post(f"/dicomweb/workitems?{new_uid()}", json=ordered(*series, **changes))
    text = await answer.text()
    assert answer.status == 400, text
    assert sentence in text
    assert "Doe" not in text
    assert await runs_of(core) == []


async def test_other_forms_that_are_refused(worklist, series):
    study_uid, series_uid = series
    unknown = ordered(study_uid, "1.2.3")
    without = ordered(*series) | {"00404021": element("SQ")}
    two = ordered(*series)
    two["00404018"]["Value"] = two["00404018"]["Value"] * 2
    foreign = ordered(*series) | {"00741210": element("SQ", parameter("level", 1), parameter("level", 2))}
    for item in (unknown, without, two, foreign):
        answer = await worklist.client.post(f"/dicomweb/workitems?{new_uid()}", json=item)
        assert answer.status == 400, await answer.text()
    assert series_uid


async def test_codes_of_others_are_left_to_others(core, worklist, performer):
    uid = await worklist.create(workitem())
    await performer.work()
    assert state_of(await worklist.get(uid)) == "SCHEDULED"
    assert await runs_of(core) == []


async def test_it_waits_until_it_is_due_and_ready(core, worklist, performer, series):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y%m%d%H%M%S+0000")
    late = await worklist.create(ordered(*series) | {"00404005": element("DT", tomorrow)})
    incomplete = await worklist.create(ordered(*series, number=1) | {"00404041": element("CS", "INCOMPLETE")})
    await performer.work()
    assert await runs_of(core) == []
    await worklist.update(incomplete, {"00404041": element("CS", "READY")})
    await worklist.update(late, {"00404005": element("DT", "20240101")})
    await performer.work()
    await performer.work()
    assert len(await runs_of(core)) == 2
    assert state_of(await worklist.get(late)) == state_of(await worklist.get(incomplete)) == "IN PROGRESS"
    code = {"00404018": element("SQ", ordered(*series, plugin="hurry")["00404018"]["Value"][0])}
    assert (await worklist.update(late, code, "1.2.3")).status == 400


async def test_a_crash_between_claim_and_queue_runs_it_once(core, worklist, performer, series, monkeypatch):
    uid = await worklist.create(ordered(*series))

    async def crash(*_):
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(RunQueue, "enqueue", crash)
        with pytest.raises(asyncio.CancelledError):
            await performer.work()
    assert state_of(await worklist.get(uid)) == "IN PROGRESS"
    assert await runs_of(core) == []
    await asyncio.gather(performer.work(), performer.work())
    await performer.work()
    (run,) = await runs_of(core)
    stored = await core.catalogue.db["workitems"].find_one({"_id": uid})
    assert stored["run_id"] == run["_id"]


async def test_a_crash_between_the_end_of_a_run_and_its_workitem(core, worklist, performer, series):
    uid = await worklist.create(ordered(*series))
    await performer.work()
    queue = RunQueue(core.catalogue.db)
    run = await queue.claim("owner")
    assert run is not None
    mesh = Output("mesh", "Bone", *series, mesh_id="0123")
    await queue.finish(run, State.SUCCEEDED, outputs=[mesh])  # nobody was there to tell
    await performer.work()
    done = await worklist.get(uid)
    assert state_of(done) == "COMPLETED"
    said = done["00741216"]["Value"][0]["00400280"]["Value"]
    assert said == ["Mesh Bone: /isthmus/api/v1/meshes/0123"]  # as callers reach it behind their proxy
    await performer.work()
    assert len(await runs_of(core)) == 1


async def test_what_cannot_be_performed_is_canceled_and_stops_nothing_else(core, worklist, performer, series):
    broken, sound = await worklist.create(ordered(*series)), await worklist.create(ordered(*series, number=1))
    await core.catalogue.db["workitems"].update_one({"_id": broken}, {"$unset": {"order.parameters": 1}})
    await performer.work()
    await performer.work()
    (progress,) = (await worklist.get(broken))["00741002"]["Value"]
    assert progress["00741238"]["Value"] == ["The server failed to perform it; its log has the details."]
    assert state_of(await worklist.get(broken)) == "CANCELED"
    assert state_of(await worklist.get(sound)) == "IN PROGRESS"
    assert [run["parameters"]["number"] for run in await runs_of(core)] == [1]


async def test_no_more_are_claimed_than_soon_can_run(core, worklist, performer, series, monkeypatch):
    monkeypatch.setattr("gateway.jobs.performer.MAX_CLAIMED", 2)
    uids = [await worklist.create(ordered(*series, number=number)) for number in range(4)]
    await performer.work()
    await performer.work()
    assert [state_of(await worklist.get(uid)) for uid in uids].count("IN PROGRESS") == 2
    (first, *_) = await runs_of(core)
    await RunQueue(core.catalogue.db).cancel(first["_id"])
    await performer.work()
    await performer.work()
    assert [state_of(await worklist.get(uid)) for uid in uids].count("SCHEDULED") == 1


async def test_the_same_run_is_shared_and_canceled_by_the_last(core, worklist, performer, series):
    queue = RunQueue(core.catalogue.db)
    first, second = await worklist.create(ordered(*series)), await worklist.create(ordered(*series))
    await performer.work()
    await performer.work()
    (run,) = await runs_of(core)
    assert (await worklist.client.post(f"/dicomweb/workitems/{second}/cancelrequest")).status == 202
    await performer.work()
    assert state_of(await worklist.get(second)) == "CANCELED"
    assert state_of(await worklist.get(first)) == "IN PROGRESS"
    assert (await queue.get(run["_id"])).state is State.QUEUED
    await worklist.client.post(f"/dicomweb/workitems/{first}/cancelrequest")
    await performer.work()
    assert state_of(await worklist.get(first)) == "CANCELED"
    assert (await queue.get(run["_id"])).state is State.CANCELLED


async def test_a_run_that_was_asked_for_otherwise_is_joined(core, worklist, performer, series):
    queue = RunQueue(core.catalogue.db)
    study_uid, series_uid = series
    parameters = {"how": "well", "level": 100, "number": 0, "grave": ""}
    asked = await queue.enqueue(order(study_uid=study_uid, series_uids=(series_uid,), parameters=parameters))
    uid = await worklist.create(ordered(*series))
    await performer.work()
    await performer.work()
    assert [run["_id"] for run in await runs_of(core)] == [asked.id]
    await worklist.client.post(f"/dicomweb/workitems/{uid}/cancelrequest")
    await performer.work()
    assert state_of(await worklist.get(uid)) == "CANCELED"
    assert (await queue.get(asked.id)).state is State.QUEUED


async def test_a_running_one_is_canceled(core, worklist, series):
    async with dispatching(core):
        uid = await worklist.create(ordered(*series, how="slowly"))

        async def progress():
            found = (await worklist.get(uid)).get("00741002", {}).get("Value")
            return found and found[0].get("00741006")

        await until(progress)
        reason = {"00741238": element("LT", "Changed my mind")}
        await worklist.client.post(f"/dicomweb/workitems/{uid}/cancelrequest", json=reason)
        done = await finished(worklist, uid)
    assert state_of(done) == "CANCELED"
    (progress,) = done["00741002"]["Value"]
    assert progress["00741238"]["Value"] == ["Changed my mind"]
    assert progress["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
    (run,) = await runs_of(core)
    assert run["state"] == "cancelled"


async def test_a_failed_run_cancels_its_workitem_with_the_reason(core, worklist, series):
    async with dispatching(core):
        uid = await worklist.create(ordered(*series, how="sentence"))
        done = await finished(worklist, uid)
    assert state_of(done) == "CANCELED"
    assert done["00741002"]["Value"][0]["00741238"]["Value"] == ["There is no bone in this series."]


async def test_nobody_else_can_change_what_is_performed(core, worklist, performer, series):
    uid = await worklist.create(ordered(*series))
    await performer.work()
    assert (await worklist.put(uid, "CANCELED", "1.2.3")).status == 400
    assert (await worklist.update(uid, {"00741204": element("LO", "x")}, "1.2.3")).status == 400


async def test_without_a_dispatcher_none_is_taken(open_archive, serve, data_folder):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_RAY__ENABLED="false")
    worklist = Worklist(await serve(core))
    item = ordered("1.2.3", "1.2.4", plugin="ct-bone")
    assert (await worklist.client.post(f"/dicomweb/workitems?{new_uid()}", json=item)).status == 503
    assert data_folder
