"""Searches stay on indexes: what MongoDB plans and looks at for ten thousand studies."""

import random

import pytest

from dicomweb.query_parse import parse, split
from dicomweb.resource import Level, Resource
from gateway.store import items
from gateway.store.search import _SORT, Breadth, _at_once, _Search, search

STUDIES = 10_000
NAMES = "SMITH MEYER GARCIA WANG KOWALSKI MUELLER NGUYEN IVANOV ROSSI BROWN DUPONT SATO".split()


def study(number: int, choose: random.Random) -> dict:
    name = f"{choose.choice(NAMES)}{choose.choice(['', 'SON', 'EZ'])}^{chr(65 + number % 26)}"
    values = {
        "00080020": ("DA", f"20{number % 20:02}{1 + number % 12:02}{1 + number % 28:02}"),
        "00080030": ("TM", f"{number % 24:02}{number % 60:02}00"),
        "00080050": ("SH", f"A{number:08}"),
        "00080061": ("CS", choose.choice(["CT", "MR", "CR"])),
        "00081030": ("LO", choose.choice(["CT ABDOMEN", "MR BRAIN", "XR CHEST"])),
        "00100010": ("PN", {"Alphabetic": name}),
        "00100020": ("LO", f"MRN{number:07}"),
        "0020000D": ("UI", f"1.2.{number}"),
    }
    return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()}


@pytest.fixture
async def full(core):
    """A catalogue with studies enough to tell an index from none."""
    scheme, choose = core.catalogue.scheme, random.Random(1)
    rows = []
    for number in range(STUDIES):
        attributes = study(number, choose)
        keys = scheme.search_keys(attributes, Level.STUDY)
        rows.append(
            {
                "_id": f"1.2.{number}", "attributes": attributes, "keys": keys, "scheme": scheme.id, "version": 1,
                "sort": keys["00080020"][0] + keys["00080030"][0],
                "item": items.ready(Level.STUDY, attributes, Resource(f"1.2.{number}")),
            }
        )  # fmt: skip
    for start in range(0, STUDIES, 1000):
        await core.catalogue.db.studies.insert_many(rows[start : start + 1000])
    return core


@pytest.mark.timeout(600)
async def test_no_search_reads_more_than_it_must(full):
    db = full.catalogue.db
    for text, most in [
        ("PatientID=MRN0005000", 2),
        ("AccessionNumber=A00000077", 2),
        ("StudyInstanceUID=1.2.77,1.2.78", 4),
        ("PatientID=MRN00050*", 110),
        ("StudyDate=20100305", 200),
        ("StudyDate=20100301-20100331", 200),
        ("StudyDate=20100301-20100302&StudyTime=1000-1100", 120),
        ("StudyID=none", 1),
        ("PatientBirthDate=19000101", 1),
        ('AccessionNumber=""&emptyvaluematching=true', 1),
        ("PatientName=smyth,xq&fuzzymatching=true", 2000),
        ("PatientName=KOWALSKIEZ^B", 60),
        ("PatientName=IVANOVS*&limit=3000", 600),
        ("limit=50", 60),
    ]:
        query = parse(Level.STUDY, split(text)).query
        condition = await _Search(db, query, full.catalogue.scheme, Breadth(), _at_once)._condition()
        explained = await db.studies.find(condition, sort=_SORT[Level.STUDY], limit=query.limit).explain()
        assert "COLLSCAN" not in str(explained["queryPlanner"]["winningPlan"]), text
        assert explained["executionStats"]["totalDocsExamined"] <= most, text


async def test_a_part_of_a_name_is_found_in_the_index_alone(full):
    db = full.catalogue.db
    query = parse(Level.STUDY, split("PatientName=*walskie*&limit=20")).query
    asked = _Search(db, query, full.catalogue.scheme, Breadth(), _at_once)
    condition = await asked._condition()
    index = asked._covering(condition)
    assert index is not None
    explained = await db.studies.find(condition, {"_id": 1, "sort": 1}, sort=_SORT[Level.STUDY], hint=index).explain()
    assert explained["executionStats"]["totalDocsExamined"] == 0
    page = await search(full.catalogue, query)
    everything = [row async for row in db.studies.find({}, {"keys": 1, "sort": 1})]
    expected = [row for row in everything if "walskie" in row["keys"]["00100010"][0]]
    expected.sort(key=lambda row: row["_id"])
    expected.sort(key=lambda row: row["sort"], reverse=True)
    assert [item["0020000D"]["Value"][0] for item in page.items] == [row["_id"] for row in expected[:20]]
    assert page.remaining == len(expected) - 20
