"""Under a profile no identity that a workitem, an update, a cancel request or a filter names is kept or told."""

import logging
from datetime import UTC, datetime

import pytest
from bson import BSON

from dicomweb.worklist.subscriptions import FILTERED, GLOBAL
from gateway.api import worklist as api_worklist
from tests.integration.jobs_support import plugins, store_series
from tests.ups_support import (
    PERFORMER,
    Worklist,
    coded,
    element,
    event,
    new_uid,
    ordered,
    performed,
    state_of,
    workitem,
)

#: What was planted; none of it may be found anywhere.
_STUDY, _SERIES, _INSTANCE, _UID = "1.2.777.1", "1.2.777.1.1", "1.2.777.1.1.1", "1.2.777.9"
_PLANTED = (
    "Plantagenet", "Eleanore", "PID-4711", "ACC-0815", "RP-2342", "VISIT-99", "Hollyoak", "Zebediah", "19331224",
    _STUDY, _UID, PERFORMER, "mailto:",
)  # fmt: skip


def planted() -> dict:
    person = {"Alphabetic": "Zebediah^Hollyoak"}
    performer = {
        "00404009": element("SQ", coded("ZEBEDIAH", "99HOLLYOAK", "Dr Hollyoak")),
        "00404036": element("LO", "Hollyoak Hospital"),
        "00404037": element("PN", person),
    }
    request = {
        "00080050": element("SH", "ACC-0815"),
        "00080051": element("SQ"),
        "0020000D": element("UI", _STUDY),
        "00321060": element("LO", "CT of Eleanore Plantagenet"),
        "00321064": element("SQ"),
        "00400026": element("SQ"),
        "00400027": element("SQ"),
        "00401001": element("SH", "RP-2342"),
        "00080090": element("PN", person),
    }
    return workitem(
        t00100010=element("PN", {"Alphabetic": "Plantagenet^Eleanore"}),
        t00100020=element("LO", "PID-4711"),
        t00100030=element("DA", "19331224"),
        t00380010=element("LO", "VISIT-99"),
        t0020000D=element("UI", _STUDY),
        t00404021=element("SQ", reference()),
        t00404034=element("SQ", performer),
        t0040A370=element("SQ", request),
        t00400400=element("LT", "Ask Zebediah about PID-4711"),
        t00741204=element("LO", "Bone of Plantagenet"),
        t00404025=element("SQ", coded("CT1", "99HOLLYOAK", "Scanner of Hollyoak")),
        t00404011=element("DT", "20240102050000"),
    )


def reference() -> dict:
    instance = {"00081150": element("UI", "1.2.840.10008.5.1.4.1.1.2"), "00081155": element("UI", _INSTANCE)}
    return {
        "0020000D": element("UI", _STUDY),
        "0020000E": element("UI", _SERIES),
        "00081199": element("SQ", instance),
        "0040E020": element("CS", "DICOM"),
        "0040E025": element("SQ", {"00081190": element("UR", f"http://hollyoak/studies/{_STUDY}")}),
    }


def clean(text: str) -> bool:
    return not [word for word in _PLANTED if word.lower() in text.lower()]


async def everything(core) -> str:
    """All that MongoDB holds, as text; binary values, which are compressed, too."""
    db = core.catalogue.db
    texts = []
    for name in await db.list_collection_names():
        texts += [bytes(BSON.encode(document)).decode("latin-1") async for document in db[name].find({})]
    return "\n".join(texts)


@pytest.fixture
async def strict(open_archive):
    return await open_archive(ISTHMUS_INGEST__PROFILE="research")


async def test_nothing_planted_is_found_anywhere(strict, serve, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.ERROR, "pymongo")  # as gateway.logs has it
    caplog.set_level(logging.ERROR, "aiohttp.access")  # gateway.process turns it off
    worklist = Worklist(await serve(strict))
    answers = []
    async with worklist.channel("ALL") as socket:
        await worklist.subscribe(GLOBAL, "ALL", "?deletionlock=true")
        created = await worklist.client.post(f"/dicomweb/workitems?workitem={_UID}", json=planted())
        assert created.status == 201
        assert "modifications" in created.headers["Warning"]
        answers.append(str(created.headers))
        uid = created.headers["Location"].rpartition("/")[2]
        assert state_of(await worklist.get(_UID)) == "SCHEDULED"  # whoever created it finds it under either
        assert (await worklist.put(_UID, "IN PROGRESS")).status == 200
        text = "Eleanore Plantagenet died"
        changes = {
            "00741002": element("SQ", {"00741004": element("DS", "10"), "00741006": element("ST", text)}),
            "00741216": element("SQ", performed() | {"00404033": element("SQ", reference())}),
            "00400400": element("LT", text),
        }
        updated = await worklist.update(_UID, changes, PERFORMER)
        assert updated.status == 200
        assert "modifications" in updated.headers["Warning"]
        reason = {
            "00741238": element("LT", text),
            "0074100C": element("LO", "Dr Hollyoak"),
            "0074100A": element("UR", "mailto:zebediah@hollyoak.example"),
        }
        await worklist.client.post(f"/dicomweb/workitems/{_UID}/cancelrequest", json=reason)
        assert (await worklist.put(_UID, "COMPLETED")).status == 200
        answers += [str((await event(socket))[2]) for _ in range(6)]
    for path in (f"workitems/{uid}", "workitems?includefield=all", "workitems"):
        answer = await worklist.client.get(f"/dicomweb/{path}")
        answers.append(await answer.text() + str(answer.headers))
    for answer in answers:
        assert clean(answer), answer
    assert clean(await everything(strict))
    assert clean(caplog.text)


async def test_the_zone_of_scheduling_times_is_kept(open_archive, serve):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="basic")
    worklist = Worklist(await serve(core))
    uid = await worklist.create(workitem(t00080201=element("SH", "+0500")))
    assert (await worklist.get(uid))["00080201"]["Value"] == ["+0500"]
    await worklist.update(uid, {"00404005": element("DT", "20300102030405")})
    document = await core.catalogue.db["workitems"].find_one({"_id": uid})
    assert document["due"] == datetime(2030, 1, 1, 22, 4, 5, tzinfo=UTC)


async def test_what_the_work_runs_by_is_kept(strict, serve):
    worklist = Worklist(await serve(strict))
    item = await worklist.get(await worklist.create(planted()))
    assert item["00404005"]["Value"] == ["20240102030405"]
    assert item["00404011"]["Value"] == ["20240102050000"]
    assert item["00741200"]["Value"] == ["MEDIUM"]
    assert item["00404025"]["Value"][0]["00080100"]["Value"] == ["CT1"]
    assert item["00741204"]["Value"] == ["Bone of ***"]
    pseudonym = item["00100020"]["Value"][0]
    assert len(pseudonym) == 23
    assert item["00100010"]["Value"] == [{"Alphabetic": pseudonym}]


async def test_of_nobody_nobody_is_made(strict, serve):
    worklist = Worklist(await serve(strict))
    item = await worklist.get(await worklist.create(workitem()))
    assert "Value" not in item["00100010"]
    assert "Value" not in item["00100020"]


async def test_a_workitem_names_the_patient_and_the_study_as_the_archive_does(strict, serve, data_folder):
    study_uid, _ = await store_series(strict, data_folder / "ct-abdomen-labelled")
    worklist = Worklist(await serve(strict))
    (study,) = await (await worklist.client.get("/dicomweb/studies")).json(content_type=None)
    again = workitem(t0020000D=element("UI", study_uid), t00100020=study["00100020"], t00100010=study["00100010"])
    item = await worklist.get(await worklist.create(again))
    assert item["0020000D"]["Value"] == [study_uid]
    assert item["00100020"] == study["00100020"]


async def test_what_was_issued_stays(strict, serve):
    worklist = Worklist(await serve(strict))
    uid = await worklist.create(planted())
    item = await worklist.get(uid)
    del item["00404010"]
    copy = {tag: value for tag, value in item.items() if tag not in ("00080018", "00080016", "00080005")}
    copied = await worklist.get(await worklist.create(workitem() | copy))
    same = {tag for tag in copied if copied[tag] == item.get(tag)}
    assert copied.keys() - same == {"00080018", "00404010"}


async def test_filters_hold_no_identity(strict, serve):
    worklist = Worklist(await serve(strict))
    for key in ("PatientName=Plantagenet*", "PatientID=PID-4711", "ProcedureStepLabel=Plantagenet"):
        assert (await worklist.subscribe(FILTERED, "A", f"?filter={key}")).status == 403
    assert (await worklist.subscribe(FILTERED, "A", f"?filter=StudyInstanceUID={_STUDY}")).status == 201
    assert (await worklist.subscribe(FILTERED, "A", "?filter=ProcedureStepState=SCHEDULED")).status == 201
    async with worklist.channel("A") as socket:
        uid = await worklist.create(planted())
        assert (await event(socket))[1] == uid
    assert clean(await everything(strict))


async def test_free_text_parameters_of_plugins_are_cleaned(strict, serve, data_folder, monkeypatch):
    real = api_worklist.worklist_services
    monkeypatch.setattr("gateway.app.worklist_services", lambda core, _: real(core, plugins()))
    series = await store_series(strict, data_folder / "ct-abdomen-labelled")
    worklist = Worklist(await serve(strict))
    uid = await worklist.create(ordered(*series, how="well", grave="bone of Plantagenet", level=120))
    document = await strict.catalogue.db["workitems"].find_one({"_id": uid})
    assert document["order"]["parameters"] == {"how": "well", "grave": "bone of ***", "level": 120, "number": 0}
    assert clean(await everything(strict))


async def test_without_a_profile_all_is_kept(core, serve):
    worklist = Worklist(await serve(core))
    uid = new_uid()
    item = planted()
    answer = await worklist.client.post(f"/dicomweb/workitems?{uid}", json=item)
    assert "Warning" not in answer.headers
    kept = await worklist.get(uid)
    for tag, value in item.items():
        if tag != "00081195":
            assert kept[tag] == value
