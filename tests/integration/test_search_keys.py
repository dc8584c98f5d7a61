"""Keys that an operator declares: built over what is stored, in the background, and used only when they are ready."""

import asyncio
import base64
import gzip
import json
import secrets
import time

import pytest
from pydicom.dataset import Dataset

from dicomweb.resource import Level
from gateway.archive import Source
from gateway.errors import ConfigurationError
from gateway.jobs.lease import Lease
from gateway.jobs.search_keys import keep_built
from gateway.store.rederive import Rederivation
from gateway.store.scheme import MAX_EXTRA, Scheme
from gateway.wiring import open_core
from tests.conftest import KEYS, settings_for
from tests.dicomweb_support import bodies
from tests.samples import ct, part10, stream

EXTRA = (
    "StationName,00191001=DS,study:InstitutionName,RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeValue"
)
STUDY = "0020000D"


def image(station: str, number: float, institution: str, codes: list[str]) -> Dataset:
    ds = ct(StationName=station, InstitutionName=institution)
    ds.private_block(0x0019, "ACME", create=True).add_new(0x01, "DS", number)
    ds.private_block(0x0019, "OTHER", create=True).add_new(0x01, "LO", "else")
    ds.RequestAttributesSequence = []
    for code in codes:
        item, protocol = Dataset(), Dataset()
        protocol.CodeValue = code
        item.ScheduledProtocolCodeSequence = [protocol]
        ds.RequestAttributesSequence.append(item)
    return ds


@pytest.fixture
async def reopen(mongod_uri, tmp_path):
    """Open one and the same archive again and again, each time with other declared keys."""
    database = f"test_{secrets.token_hex(6)}"
    opened = []

    async def make(extra: str = ""):
        environment = {"ISTHMUS_INGEST__PROFILE": "none", "ISTHMUS_MONGODB__DATABASE": database}
        settings = settings_for(tmp_path, **environment, ISTHMUS_SEARCH__EXTRA_KEYS=extra)
        context = open_core(settings, mongod_uri, KEYS)
        opened.append(context)
        return await context.__aenter__()

    yield make
    core = await make()
    await core.catalogue.client.drop_database(database)
    for context in reversed(opened):
        await context.__aexit__(None, None, None)


async def build(core) -> None:
    rederivation = Rederivation(core.catalogue, core.workers.run)
    await rederivation.index()
    while await rederivation.step():
        pass


async def take_in(core, *objects: Dataset) -> None:
    for one in objects:
        outcome = await core.archive.ingest(stream(part10(one)), Source("import"))
        assert outcome.failure is None


async def found(client, query: str) -> list[str]:
    return sorted(item[STUDY]["Value"][0] for item in await bodies(client, f"/dicomweb/studies?{query}"))


async def states(client) -> dict[str, dict]:
    answer = await client.get("/api/v1/search-keys")
    return {key["name"] or key["key"]: key for key in (await answer.json())["keys"]}


async def test_keys_are_built_over_what_is_stored(reopen, serve):
    first, second = image("CT1", 5.5, "North", ["A", "B"]), image("CT2", 7, "South", ["B"])
    await take_in(await reopen(), first, second)
    core = await reopen(EXTRA)
    client = await serve(core)

    response = await client.get("/dicomweb/studies?InstitutionName=North")
    assert len(await response.json(content_type=None)) == 2
    assert response.headers["Warning"].endswith("are still being built and have been ignored: InstitutionName")
    before = await states(client)
    assert (before["StationName"]["state"], before["StationName"]["done"], before["StationName"]["total"]) == (
        "building", 0, 2,
    )  # fmt: skip
    assert (before["PatientID"]["state"], before["PatientID"]["done"]) == ("built", 2)

    await build(core)
    after = await states(client)
    assert {key["state"] for key in after.values()} == {"built"}
    assert (after["StationName"]["level"], after["StationName"]["done"]) == ("series", 2)
    assert await found(client, "InstitutionName=North") == [first.StudyInstanceUID]
    (series,) = await bodies(client, "/dicomweb/series?StationName=CT2")
    assert series["00081010"]["Value"] == ["CT2"]
    (instance,) = await bodies(client, "/dicomweb/instances?00190010=ACME&00191001=5.50")
    assert instance["00191001"]["Value"] == [5.5]
    assert instance["00190010"]["Value"] == ["ACME"]
    assert await bodies(client, "/dicomweb/instances?00190010=ELSE&00191001=5.5") == []
    codes = "00400275.00400008.00080100"
    assert len(await bodies(client, f"/dicomweb/series?{codes}=B")) == 2
    assert len(await bodies(client, f"/dicomweb/series?{codes}=A")) == 1
    indexes = await core.catalogue.db.series.index_information()
    assert f"keys.{codes}_1__id_1" in indexes
    for name in ("studies", "series", "instances"):
        assert len(await core.catalogue.db[name].index_information()) < 64


async def test_what_is_stored_later_has_the_keys_at_once(reopen, serve):
    core = await reopen(EXTRA)
    client = await serve(core)
    one = image("CT9", 1, "West", ["X"])
    await take_in(core, one)
    response = await client.get("/dicomweb/studies?InstitutionName=West")
    assert "Warning" not in response.headers
    assert len(await response.json(content_type=None)) == 1


async def test_a_key_that_is_declared_no_more_is_ignored_and_its_index_goes(reopen, serve):
    core = await reopen(EXTRA)
    await take_in(core, image("CT1", 5.5, "North", ["A"]))
    await build(core)
    core = await reopen("StationName")
    await build(core)
    response = await (await serve(core)).get("/dicomweb/studies?InstitutionName=nowhere")
    assert "not supported and have been ignored: InstitutionName" in response.headers["Warning"]
    assert "keys.00080080_1__id_1" not in await core.catalogue.db.studies.index_information()


async def test_a_killed_build_goes_on_where_it_stood(reopen, serve, monkeypatch):
    monkeypatch.setattr("gateway.store.rederive._BATCH", 2)
    await take_in(await reopen(), *(image(f"CT{number}", number, "North", ["A"]) for number in range(5)))
    core = await reopen(EXTRA)
    rederivation = Rederivation(core.catalogue, core.workers.run)
    assert await rederivation.step() == 2
    client = await serve(core)
    assert [(await states(client))["StationName"][name] for name in ("state", "done", "total")] == ["building", 2, 5]
    again = await reopen(EXTRA)
    await build(again)
    assert len(await found(client, "InstitutionName=North")) == 5


async def test_two_machines_build_one_after_the_other(reopen, serve):
    await take_in(await reopen(), *(image(f"CT{number}", number, "North", ["A"]) for number in range(3)))
    tasks = []
    for _ in range(2):
        core = await reopen(EXTRA)
        lease = Lease(core.catalogue.db, name="search-keys", lease_s=2)
        rederivation = Rederivation(core.catalogue, core.workers.run)
        tasks.append(asyncio.create_task(keep_built(rederivation, lease, every_s=0.05)))
    client = await serve(core)
    deadline = time.monotonic() + 30
    while {key["state"] for key in (await states(client)).values()} != {"built"}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 2
    assert len(await found(client, "InstitutionName=North")) == 3


async def test_rows_of_an_older_derivation_are_brought_up(reopen, serve):
    core = await reopen()
    one = ct()
    await take_in(core, one)
    db = core.catalogue.db
    await db.instances.update_many({}, {"$unset": {"scheme": ""}})
    await db.schemes.delete_many({})
    core = await reopen()
    client = await serve(core)
    response = await client.get("/dicomweb/studies?PatientID=nobody")
    assert "still being built and have been ignored: PatientID" in response.headers["Warning"]
    assert await found(client, f"StudyInstanceUID={one.StudyInstanceUID}") == [one.StudyInstanceUID]
    await build(core)
    assert await found(client, "PatientID=nobody") == []
    assert await found(client, "PatientName=kishot&fuzzymatching=true") == []
    assert await found(client, "PatientName=kwixote&fuzzymatching=true") == [one.StudyInstanceUID]


async def test_building_and_storing_at_once_lose_nothing(reopen, serve, monkeypatch):
    monkeypatch.setattr("gateway.store.rederive._BATCH", 3)
    study = ct().StudyInstanceUID
    plain = await reopen()
    await take_in(plain, *(ct(StudyInstanceUID=study, StationName="OLD") for _ in range(12)))
    core = await reopen("StationName,instance:InstitutionName")
    client = await serve(core)

    async def search() -> None:
        for _ in range(10):
            await client.get("/dicomweb/studies")

    more = [ct(StudyInstanceUID=study, InstitutionName="NEW", StationName="OLD") for _ in range(12)]
    await asyncio.gather(build(core), take_in(core, *more), search(), search())
    await build(core)
    assert len(await bodies(client, "/dicomweb/instances?StationName=OLD")) == 24
    assert len(await bodies(client, "/dicomweb/instances?InstitutionName=NEW")) == 12


async def test_a_key_that_deidentification_removes_is_empty(open_archive, serve):
    core = await open_archive(ISTHMUS_SEARCH__EXTRA_KEYS="study:OtherPatientIDs", ISTHMUS_INGEST__PROFILE="research")
    await take_in(core, ct(OtherPatientIDs="HIS-0815"))
    client = await serve(core)
    assert await found(client, "OtherPatientIDs=HIS-0815") == []
    assert len(await found(client, 'OtherPatientIDs=""&emptyvaluematching=true')) == 1
    row = await core.catalogue.db.instances.find_one({})
    assert "HIS-0815" not in json.dumps([row["keys"], row["item"].decode(), gzip.decompress(row["json_gzip"]).decode()])


def test_the_most_keys_that_can_be_declared_stay_below_64_indexes():
    dates = [f"study:{keyword}{kind}" for keyword in ("Series", "Acquisition", "Content") for kind in ("Date", "Time")]
    names = [f"study:00{group}{number:04X}=PN" for group in ("19",) for number in range(0x1001, 0x1001 + MAX_EXTRA - 7)]
    scheme = Scheme(dates + names)
    assert len(list(scheme.indexed(Level.STUDY, extra=False)) + list(scheme.indexed(Level.STUDY, extra=True))) < 60


def test_private_text_of_unknown_vr_is_searchable():
    scheme = Scheme(["00191001"])
    element = {"vr": "UN", "InlineBinary": base64.b64encode(b"5.5 ").decode()}
    (level,) = {key.level for path, key in scheme.extra.items()}
    assert scheme.search_keys({"00191001": element}, level)["00191001"] == ["5.5"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["Nonsense"], "is not an attribute"),
        (["ward:StationName"], "is not an attribute"),
        (["00191001=XX"], "is not an attribute"),
        (["RequestAttributesSequence"], "is a sequence"),
        (["StationName", "00081010"], "more than once"),
        ([f"0019{number:04X}" for number in range(0x1001, 0x1002 + MAX_EXTRA)], "more than"),
    ],
)
def test_declarations_that_cannot_be_are_refused(extra, said):
    with pytest.raises(ConfigurationError, match=said):
        Scheme(extra)
