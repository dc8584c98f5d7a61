"""The audit: nothing of it is lost among many writers, and whatever is done to it is found."""

import asyncio
import secrets

import pytest
from bson import ObjectId

from gateway.assignment import Keys
from gateway.audit import Audit, Caller
from gateway.store.ledger import Flaw, _link
from tests.conftest import KEYS

ME = Caller("tester", "192.0.2.1")


async def filled(core, count: int = 5) -> Audit:
    for number in range(count):
        await core.audit.record("identify", "found", ME, {"pseudonym": f"P{number}", "studies": ["1.2", "1.3"]})
    return core.audit


async def flaws(audit: Audit) -> list[Flaw]:
    return [flaw async for flaw in audit.verify()]


async def test_records_are_numbered_and_say_who_did_what(core):
    audit = await filled(core, 3)
    entries = [entry async for entry in audit.entries()]
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.what["pseudonym"] for entry in entries] == ["P0", "P1", "P2"]
    assert {(entry.user, entry.address, entry.action, entry.outcome) for entry in entries} == {
        ("tester", "192.0.2.1", "identify", "found")
    }
    assert [entry.number async for entry in audit.entries(2)] == [3]
    assert await flaws(audit) == []


async def test_of_many_writers_none_is_lost(core):
    writers = [Audit(core.catalogue.db, KEYS) for _ in range(8)]  # as eight processes
    numbers = await asyncio.gather(
        *(
            writer.record("identify", "found", Caller(f"u{n}"), {"study_uid": str(n)})
            for n in range(10)
            for writer in writers
        )
    )
    assert sorted(numbers) == list(range(1, 81))
    assert await flaws(core.audit) == []


async def test_an_empty_audit_is_whole(core):
    assert await flaws(core.audit) == []


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"user": "somebody else"}},
        {"$set": {"outcome": "denied"}},
        {"$set": {"what.pseudonym": "P9"}},
        {"$set": {"what.studies.1": "1.4"}},
        {"$unset": {"address": ""}},
        {"$set": {"more": 1}},
        {"$currentDate": {"at": True}},
        {"$set": {"mac": bytes(32)}},
        {"$set": {"link": bytes(32)}},
        {"$set": {"link": 1}},
        {"$unset": {"mac": "", "link": ""}},
        {"$set": {"more": ObjectId()}},
        {"$set": {"key": "0" * 16}},
    ],
)
@pytest.mark.parametrize("number", [1, 3, 5])
async def test_a_changed_record_is_found(core, change, number):
    audit = await filled(core)
    await core.catalogue.db.audit.update_one({"_id": number}, change)
    found = await flaws(audit)
    if "key" in str(change) and number < 5:
        assert found == []  # the next one vouches for it all the same, as for records of a key that is gone
    else:
        assert number in {flaw.number for flaw in found}
        assert {flaw.kind for flaw in found} <= {"changed", "unproven"}


@pytest.mark.parametrize("number", [1, 3, 5])
async def test_a_removed_record_is_found(core, number):
    audit = await filled(core)
    await core.catalogue.db.audit.delete_one({"_id": number})
    assert Flaw("missing", number) in await flaws(audit)


async def test_an_audit_that_was_emptied_is_found(core):
    audit = await filled(core)
    await core.catalogue.db.audit.delete_many({})
    assert await flaws(audit) == [Flaw("missing", number) for number in range(1, 6)]
    await audit.record("identify", "found", ME)
    assert [entry.number async for entry in audit.entries()] == [6]  # what is cut is not filled up
    assert await flaws(audit) == [Flaw("missing", number) for number in range(1, 6)]


async def test_a_record_that_was_taken_out_cannot_be_closed_over(core):
    audit, db = await filled(core), core.catalogue.db
    await db.audit.delete_one({"_id": 3})
    for number in (4, 5):
        record = await db.audit.find_one_and_delete({"_id": number})
        await db.audit.insert_one(record | {"_id": number - 1})
    kinds = {flaw.kind for flaw in await flaws(audit)}
    assert "changed" in kinds
    assert "missing" in kinds


async def test_who_has_another_key_cannot_write_a_record(core):
    audit = await filled(core, 2)
    other = Audit(core.catalogue.db, Keys(KEYS.deid, secrets.token_bytes(32)))
    await other.record("identify", "found", ME)
    assert await flaws(audit) == [Flaw("unproven", 3)]
    await audit.record("identify", "found", ME)
    assert await flaws(audit) == [Flaw("unproven", 3)], "what comes after vouches for nothing that is not proven"


@pytest.mark.parametrize("number", [5, 6])
async def test_the_next_record_does_not_vouch_for_a_forged_one(core, number):
    """Links take no key: who can write to the database can change the last record, or add one, so that it fits."""
    audit, records = await filled(core), core.catalogue.db.audit
    before = await records.find_one({"_id": number - 1})
    forged = {**before, "_id": number, "user": "somebody else", "key": "0" * 16, "mac": bytes(32)}
    forged["link"] = _link(bytes(before["link"]), forged)
    await records.replace_one({"_id": number}, forged, upsert=True)
    await filled(core, 2)
    assert await flaws(audit) == [Flaw("unproven", number)]


async def test_a_former_key_is_needed_no_longer(core):
    await filled(core, 2)
    new = secrets.token_bytes(32)
    await filled_by(Audit(core.catalogue.db, Keys(KEYS.deid, new, (KEYS.vault,))))
    alone = Audit(core.catalogue.db, Keys(KEYS.deid, new))
    await filled_by(alone)
    assert await flaws(alone) == []
    await core.catalogue.db.audit.update_one({"_id": 1}, {"$set": {"user": "somebody else"}})
    assert await flaws(alone) == [Flaw("changed", 1)]


async def filled_by(audit):
    await audit.record("identify", "found", ME)


async def test_what_is_recorded_is_bounded(core):
    await core.audit.record("identify", "found", Caller("u" * 5000), {"studies": ["1" * 5000] * 5000})
    (entry,) = [entry async for entry in core.audit.entries()]
    assert len(entry.user) == 200
    assert len(entry.what["studies"]) == 100
    assert {len(one) for one in entry.what["studies"]} == {200}
    assert await flaws(core.audit) == []
