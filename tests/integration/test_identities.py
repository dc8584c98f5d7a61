"""The vault: what is sealed into rows, who may look it up, and that nothing else tells it."""

import asyncio
import base64
import json
import secrets
from contextlib import closing
from io import BytesIO

import bson
import pymongo
import pytest

from dicomweb.errors import Conflict, NotFound, TooLarge
from dicomweb.query import Query
from dicomweb.resource import Level
from gateway.archive import Source
from gateway.assignment import Keys
from gateway.audit import Caller
from gateway.auth.tokens import Tokens
from gateway.deid.original import Original, context_of
from gateway.errors import CatalogueUnavailable, ConfigurationError, VaultError
from gateway.opening import check_keys, forget_former_keys
from gateway.wiring import open_core
from tests.conftest import KEYS
from tests.dicomweb_support import MULTIPART_DICOM, multipart
from tests.integration.api_support import validated
from tests.samples import ct, part10, stream

SEARCH = "/api/v1/identities/search"
ME = Caller("tester", "here")
#: What an object of `ct` says that nobody may read in the database, in any encoding.
SECRETS = ("Quixote", "Alonso", "4711", "ACC77", "19500102", "Cervantes", "20210304")


async def ingest(core, ds, source="CT1"):
    outcome = await core.archive.ingest(stream(part10(ds)), Source("dimse", source))
    assert outcome.stored is not None, outcome.reason
    return outcome.stored


async def row_of(core, resource):
    return await core.catalogue.db.instances.find_one({"_id": resource.instance_uid})


async def dumped(core, mongod_uri) -> bytes:
    """Every document of every collection, as the database holds it, compressed texts unpacked."""

    def read() -> bytes:
        with closing(pymongo.MongoClient(mongod_uri)) as mongo:
            db = mongo[core.settings.mongodb.database]
            return b"".join(bson.encode(one) for name in db.list_collection_names() for one in db[name].find())

    return await asyncio.to_thread(read)


@pytest.fixture
async def research(open_archive):
    return await open_archive(ISTHMUS_INGEST__PROFILE="research", ISTHMUS_AUTH__MODE="token")


async def caller(core, *rights):
    token = await Tokens(core.catalogue.db).create("bearer", "doctor", rights=rights)
    return {"Authorization": f"Bearer {token}"}


async def audited(core):
    return [(entry.user, entry.action, entry.outcome, entry.what) async for entry in core.audit.entries()]


async def test_a_row_holds_its_original_for_the_vault_alone(research, mongod_uri):
    ds = ct(OtherPatientIDs="OTHER-1")
    stored = await ingest(research, ds)
    row = await row_of(research, stored)
    context = context_of(stored.instance_uid)
    original = Original.unpack(research.archive.vault.open(row["sealed"], context))
    assert original.texts == {
        0x00100010: "Quixote^Alonso",
        0x00100020: "MRN-4711",
        0x00100030: "19500102",
        0x00101000: "OTHER-1",
        0x00080020: "20210304",
        0x00080050: "ACC77",
        0x00080090: "Cervantes^Miguel",
        0x00200010: "S1",
        0x0020000D: ds.StudyInstanceUID,
        0x0020000E: ds.SeriesInstanceUID,
        0x00080018: ds.SOPInstanceUID,
    }
    assert original.uids == (ds.FrameOfReferenceUID,)
    with pytest.raises(VaultError):
        research.archive.vault.open(row["sealed"], context_of(stored.study_uid))
    await research.catalogue.complete()
    document = await dumped(research, mongod_uri)
    assert stored.instance_uid.encode() in document
    for text in (*SECRETS, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID):
        assert text.encode() not in document
        assert base64.b64encode(text.encode())[:-4] not in document


async def test_no_answer_holds_a_seal(research, serve):
    stored = await ingest(research, ct())
    sealed = (await row_of(research, stored))["sealed"]
    client, headers = await serve(research), await caller(research, "reidentify")
    texts = (b"sealed", base64.b64encode(sealed), sealed[:20], sealed.hex().encode())
    for path in (
        "/dicomweb/studies?includefield=all",
        f"/dicomweb/{stored.path}",
        f"/dicomweb/{stored.path}/metadata",
        f"/dicomweb/studies/{stored.study_uid}/metadata",
        f"/dicomweb/studies/{stored.study_uid}/instances?includefield=all",
        "/api/v1/changes",
    ):
        answer = await client.get(path, headers=headers)
        body = await answer.read()
        assert answer.status == 200, path
        assert len(body) > 20
        assert not [text for text in texts if text in body], path


async def test_what_nothing_was_taken_from_has_no_seal(open_archive, research):
    plain = await open_archive(ISTHMUS_INGEST__PROFILE="none")
    assert "sealed" not in await row_of(plain, await ingest(plain, ct()))
    ds = ct()
    stored = await ingest(research, ds)
    (instance,) = await research.archive.instances(stored)
    whole = await research.archive.open(instance).read()
    await research.archive.delete(stored)
    again = await research.archive.ingest(stream(whole), Source("stow", "reader"))  # what was retrieved comes back
    assert again.stored == stored
    assert "sealed" not in await row_of(research, stored)


async def test_a_deleted_or_replaced_row_loses_its_original(open_archive, mongod_uri):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research", ISTHMUS_STORAGE__REPLACE="true")
    ds = ct()
    stored = await ingest(core, ds)
    first = (await row_of(core, stored))["sealed"]
    ds.PatientBirthDate, ds.SliceThickness = "19510102", 4
    assert await ingest(core, ds) == stored
    second = (await row_of(core, stored))["sealed"]
    opened = Original.unpack(core.archive.vault.open(second, context_of(stored.instance_uid)))
    assert opened.texts[0x00100030] == "19510102"
    assert first not in await dumped(core, mongod_uri)
    await core.archive.delete(stored)
    assert second not in await dumped(core, mongod_uri)
    with pytest.raises(NotFound):
        await core.identities.of_study(stored.study_uid, ME)


async def test_who_has_the_right_is_told_and_recorded(research, serve):
    ds = ct()
    stored = await ingest(research, ds)
    (study,) = (await research.archive.search(Query(Level.STUDY))).items
    pseudonym = study["00100020"]["Value"][0]
    client, headers = await serve(research), await caller(research, "reidentify")
    expected = {
        "pseudonym": pseudonym,
        "studies": [
            {
                "study_uid": stored.study_uid,
                "patient": {"PatientName": "Quixote^Alonso", "PatientID": "MRN-4711", "PatientBirthDate": "19500102"},
                "original": {
                    "StudyInstanceUID": ds.StudyInstanceUID,
                    "StudyDate": "20210304",
                    "AccessionNumber": "ACC77",
                    "ReferringPhysicianName": "Cervantes^Miguel",
                    "StudyID": "S1",
                },
            }
        ],
    }
    asked = [
        {"pseudonym": pseudonym},
        {"pseudonym": f" {pseudonym.lower()} "},
        {"study_uid": stored.study_uid},
        {"study_uid": ds.StudyInstanceUID},
        {"patient_id": "mrn-4711"},
        {"patient_id": "MRN-4711", "issuer": ""},
    ]
    for body in asked:
        answer = await client.post(SEARCH, json=body, headers=headers)
        assert answer.status == 200, await answer.text()
        assert await answer.json() == expected
        assert answer.headers["Cache-Control"] == "no-store"
    what = {"pseudonym": pseudonym, "studies": [stored.study_uid]}
    records = await audited(research)
    assert [(user, action, outcome) for user, action, outcome, _ in records] == [("doctor", "identify", "found")] * 6
    assert all(what.items() <= record[3].items() for record in records)
    assert not [text for text in (*SECRETS, ds.StudyInstanceUID) if text in json.dumps(records)]
    assert [flaw async for flaw in research.audit.verify()] == []


async def test_nobody_else_is_told(research, serve):
    stored = await ingest(research, ct())
    client = await serve(research)
    for headers, status in ((await caller(research), 403), ({}, 401), ({"Authorization": "Bearer x"}, 401)):
        answer = await client.post(SEARCH, json={"study_uid": stored.study_uid}, headers=headers)
        assert answer.status == status
        assert "Quixote" not in await answer.text()
    assert [record[:3] for record in await audited(research)] == [("doctor", "reidentify", "denied")]


async def test_without_authentication_nobody_is(open_archive, serve):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    stored = await ingest(core, ct())
    answer = await (await serve(core)).post(SEARCH, json={"study_uid": stored.study_uid})
    assert answer.status == 403
    assert [record[:3] for record in await audited(core)] == [("local", "reidentify", "denied")]


async def test_who_is_not_stored_is_not_found(research, serve):
    await ingest(research, ct())
    client, headers = await serve(research), await caller(research, "reidentify")
    for body in (
        {"patient_id": "MRN-4712"},
        {"patient_id": "MRN-4711", "issuer": "elsewhere"},
        {"pseudonym": "Quixote^Alonso"},
        {"pseudonym": "AAAAA-AAAAA-AAAAA-AAAAA"},
        {"study_uid": "1.2.3"},
    ):
        answer = await client.post(SEARCH, json=body, headers=headers)
        assert answer.status == 404, body
    records = await audited(research)
    assert {record[2] for record in records} == {"unknown"}
    assert len(records) == 5
    assert not [text for text in ("MRN", "Quixote", "1.2.3") if text in json.dumps(records)]


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        "x",
        '{"pseudonym": 1}',
        '{"pseudonym": ""}',
        '{"pseudonym": {"$ne": ""}}',
        '{"study_uid": "Quixote"}',
        '{"patient_id": "Quixote", "pseudonym": "Quixote"}',
        '{"issuer": "Quixote"}',
        '{"patient_id": "' + "Quixote" * 10 + '"}',
    ],
)
async def test_what_cannot_be_asked(research, serve, body):
    client, headers = await serve(research), await caller(research, "reidentify")
    answer = await client.post(SEARCH, data=body, headers=headers)
    assert answer.status == 400
    assert "Quixote" not in await answer.text()


async def test_a_body_without_end_is_refused(research, serve):
    client, headers = await serve(research), await caller(research, "reidentify")
    answer = await client.post(SEARCH, data=b'{"pseudonym": "' + b"x" * 100_000, headers=headers)
    assert answer.status == 413


async def test_who_cannot_be_recorded_is_not_answered(research, serve, monkeypatch):
    stored = await ingest(research, ct())
    client, headers = await serve(research), await caller(research, "reidentify")

    async def fail(*_):
        raise CatalogueUnavailable

    monkeypatch.setattr(research.audit._ledger, "append", fail)
    answer = await client.post(SEARCH, json={"study_uid": stored.study_uid}, headers=headers)
    assert answer.status == 503
    assert "Quixote" not in await answer.text()


async def test_rights_come_with_a_token_to_its_sessions_and_from_nowhere_else(research, serve):
    client, tokens = await serve(research), Tokens(research.catalogue.db)
    for rights in ((), ("reidentify",)):
        code = await tokens.create("once", "reader", rights=rights)
        bearer = await tokens.create("bearer", "reader", rights=rights)
        for how in (
            {"url": f"/login?once={code}", "method": "GET"},
            {"url": "/login", "method": "POST", "data": {"token": bearer}},
        ):
            answer = await client.request(how.pop("method"), how.pop("url"), allow_redirects=False, **how)
            session = answer.cookies["isthmus_session"].value
            assert (await tokens.check(session, "session")).rights == frozenset(rights)
            client.session.cookie_jar.clear()
    document = {"_id": "0" * 64, "kind": "bearer", "user": "x", "rights": ["everything"]}
    assert "everything" not in tokens_rights(document)


def tokens_rights(document):
    from gateway.auth.tokens import _rights

    return _rights(document)


async def test_another_process_and_another_day_tell_the_same(research, mongod_uri):
    ds = ct()
    stored = await ingest(research, ds)
    first = await research.identities.of_study(stored.study_uid, ME)
    async with open_core(research.settings, mongod_uri, KEYS) as sibling:
        assert await sibling.identities.of_pseudonym(first.pseudonym, ME) == first
        other = ct(StudyInstanceUID=ds.StudyInstanceUID, SeriesInstanceUID=ds.SeriesInstanceUID)
        again = await ingest(sibling, other)
        assert (again.study_uid, again.series_uid) == (stored.study_uid, stored.series_uid)
        assert [flaw async for flaw in sibling.audit.verify()] == []


async def test_the_patients_of_one_study_are_told_apart(research):
    ds = ct()
    one = await ingest(research, ds)
    two = await ingest(
        research, ct(StudyInstanceUID=ds.StudyInstanceUID, PatientID="MRN-9", PatientName="Panza^Sancho")
    )
    assert one.study_uid == two.study_uid
    person = await research.identities.of_patient("MRN-4711", "", ME)
    assert person.studies[0].original.texts[0x00100010] == "Quixote^Alonso"
    with pytest.raises(Conflict):  # either would be the wrong answer for the other
        await research.identities.of_study(one.study_uid, ME)
    assert [record[2] for record in await audited(research)] == ["found", "ambiguous"]


async def test_two_who_share_an_id_are_told_by_study(research, serve):
    """Hospitals that name no issuer may give one ID to two people: each study says its own."""
    await ingest(research, ct())
    await ingest(research, ct(PatientName="Panza^Sancho"))
    client, headers = await serve(research), await caller(research, "reidentify")
    answer = await client.post(SEARCH, json={"patient_id": "MRN-4711"}, headers=headers)
    said = await answer.json()
    validated(said, "Identity")
    assert sorted(study["patient"]["PatientName"] for study in said["studies"]) == ["Panza^Sancho", "Quixote^Alonso"]


@pytest.mark.parametrize("named", [{"PatientID": "{}"}, {"PatientID": ""}], ids=["lower case", "nobody"])
async def test_who_knows_pseudonyms_alone_can_give_them_no_name(research, named):
    """Whoever may store can send an object for a study and a patient that the research side knows."""
    stored = await ingest(research, ct(PatientID="" if not named["PatientID"] else "MRN-4711"))
    (study,) = (await research.archive.search(Query(Level.STUDY))).items
    pseudonym = study["00100020"]["Value"][0]
    named = {"PatientID": named["PatientID"].format(pseudonym.lower())}
    for study_uid in (stored.study_uid, None):
        forged = ct(PatientName="Panza^Sancho", **named)
        forged.StudyInstanceUID = study_uid or forged.StudyInstanceUID
        await ingest(research, forged)
    person = await research.identities.of_pseudonym(pseudonym, ME)
    assert [study.original.texts[0x00100010] for study in person.studies] == ["Quixote^Alonso"]
    await research.archive.delete(stored)
    with pytest.raises(NotFound):
        await research.identities.of_pseudonym(pseudonym, ME)
    with pytest.raises(NotFound):
        await research.identities.of_study(stored.study_uid, ME)


async def test_who_has_no_id_is_found_by_the_pseudonym_of_the_study(research):
    stored = await ingest(research, ct(PatientID=""))
    (study,) = (await research.archive.search(Query(Level.STUDY))).items
    pseudonym = study["00100020"]["Value"][0]
    person = await research.identities.of_pseudonym(pseudonym, ME)
    assert person == await research.identities.of_study(stored.study_uid, ME)
    assert person.studies[0].original.texts[0x00100020] == ""
    assert person.studies[0].original.texts[0x00100010] == "Quixote^Alonso"


async def test_names_are_kept_in_their_script(research, data_folder):
    content = (data_folder / "charsets" / "chrh31.dcm").read_bytes()
    outcome = await research.archive.ingest(stream(content), Source("dimse", "CT1"))
    person = await research.identities.of_study(outcome.stored.study_uid, ME)
    assert person.studies[0].original.texts[0x00100010] == "Yamada^Tarou=山田^太郎=やまだ^たろう"


async def test_retained_uids_are_found_too(open_archive, tmp_path):
    (tmp_path / "mirror.toml").write_text('options = ["retain-uids"]')
    core = await open_archive(ISTHMUS_INGEST__PROFILE="mirror", ISTHMUS_DEID__PROFILES_DIR=str(tmp_path))
    ds = ct()
    stored = await ingest(core, ds)
    assert stored.study_uid == ds.StudyInstanceUID
    person = await core.identities.of_study(ds.StudyInstanceUID, ME)
    assert person.studies[0].original.texts[0x00100020] == "MRN-4711"
    assert person.studies[0].original.uids == ()
    assert await core.identities.of_pseudonym(person.pseudonym, ME) == person


async def test_another_vault_key_is_refused_until_it_is_named_as_the_former(research, mongod_uri):
    stored = await ingest(research, ct())
    await check_keys(research, KEYS)
    new = secrets.token_bytes(32)
    with pytest.raises(ConfigurationError, match=r"vault\.previous_key_files") as failure:
        await check_keys(research, Keys(KEYS.deid, new))
    assert new.hex() not in failure.value.message
    keys = Keys(KEYS.deid, new, (KEYS.vault,))
    async with open_core(research.settings, mongod_uri, keys) as rotated:
        await check_keys(rotated, keys)
        before = await rotated.identities.of_study(stored.study_uid, ME)
        with pytest.raises(ConfigurationError):  # some rows still need it
            await check_keys(rotated, Keys(KEYS.deid, new))
        done = await rotated.identities.reseal()
        assert (done.renewed, done.unreadable) == (1, 0)
        assert (await rotated.identities.reseal()).renewed == 0
        await forget_former_keys(rotated)
    async with open_core(research.settings, mongod_uri, Keys(KEYS.deid, new)) as core:
        await check_keys(core, Keys(KEYS.deid, new))
        assert await core.identities.of_study(stored.study_uid, ME) == before
        assert [flaw.kind async for flaw in core.audit.verify()] == []  # what the former key vouched for is chained
        with pytest.raises(ConfigurationError):
            await check_keys(core, KEYS)


async def test_many_rows_are_sealed_anew_in_batches(research, mongod_uri, monkeypatch):
    monkeypatch.setattr("gateway.store.seals._BATCH", 3)
    ds = ct()
    for _ in range(7):
        await ingest(research, ct(StudyInstanceUID=ds.StudyInstanceUID))
    await research.catalogue.db.instances.update_one({}, {"$set": {"sealed": b"broken"}})
    keys = Keys(KEYS.deid, secrets.token_bytes(32), (KEYS.vault,))
    async with open_core(research.settings, mongod_uri, keys) as rotated:
        done = await rotated.identities.reseal()
        assert (done.renewed, done.unreadable) == (6, 1)
        current = rotated.archive.vault.is_current
        rows = await rotated.catalogue.db.instances.find({}, {"sealed": 1}).to_list(None)
        assert sorted(current(row["sealed"]) for row in rows) == [False] + [True] * 6


async def test_results_that_come_back_seal_what_is_theirs(research, serve):
    """A result of a viewer names a patient by pseudonym: of that there is nothing to seal."""
    stored = await ingest(research, ct())
    (study,) = (await research.archive.search(Query(Level.STUDY))).items
    pseudonym = study["00100020"]["Value"][0]
    result = ct(StudyInstanceUID=stored.study_uid, PatientID=pseudonym, PatientName=pseudonym)
    for keyword in ("PatientBirthDate", "ReferringPhysicianName", "AccessionNumber", "StudyID"):
        setattr(result, keyword, "")
    client, headers = await serve(research), await caller(research)
    body = BytesIO(multipart(part10(result)))
    answer = await client.post("/dicomweb/studies", data=body, headers=headers | {"Content-Type": MULTIPART_DICOM})
    assert answer.status == 200, await answer.text()
    rows = await research.catalogue.db.instances.find({"_id": {"$ne": stored.instance_uid}}).to_list(None)
    (row,) = rows
    original = Original.unpack(research.archive.vault.open(row["sealed"], context_of(row["_id"])))
    assert original.texts == {0x0020000E: result.SeriesInstanceUID, 0x00080018: result.SOPInstanceUID}
    person = await research.identities.of_pseudonym(pseudonym, ME)
    assert person.studies[0].original.texts[0x00100020] == "MRN-4711"


async def test_who_has_too_much_is_not_told_a_part(research, monkeypatch):
    monkeypatch.setattr("gateway.store.seals._MAX_GROUPS", 2)
    for _ in range(3):
        stored = await ingest(research, ct())
    with pytest.raises(TooLarge):
        await research.identities.of_patient("MRN-4711", "", ME)
    assert (await research.identities.of_study(stored.study_uid, ME)).studies[0].study_uid == stored.study_uid


async def test_a_picture_that_was_looked_at_is_sealed_too(research):
    """Its header comes a second way to where it is sealed."""
    ds = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT", ConversionType="WSD", BurnedInAnnotation="YES")
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PhotometricInterpretation, ds.Rows, ds.Columns = "MONOCHROME2", 64, 64
    ds.PixelData = bytes(64 * 64)
    stored = await ingest(research, ds)
    person = await research.identities.of_study(stored.study_uid, ME)
    assert person.studies[0].original.texts[0x00100010] == "Quixote^Alonso"
