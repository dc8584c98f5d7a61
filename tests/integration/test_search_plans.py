"""Searches stay on indexes: what MongoDB plans and looks at for ten thousand studies."""

import random

import pytest

from dicomweb.query_parse import parse, split
from dicomweb.resource import Level, Resource
from gateway.store import items
from gateway.store.scheme import Scheme
from gateway.store.search import _COLLECTION, _SORT, Breadth, _at_once, _Search, search

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


def series(scheme, study_uid):
    attributes = {"00080060": {"vr": "CS", "Value": ["CT"]}}
    return {
        "_id": f"{study_uid}/{study_uid}.1", "study_uid": study_uid, "series_uid": f"{study_uid}.1",
        "attributes": attributes, "keys": scheme.search_keys(attributes, Level.SERIES), "scheme": scheme.id,
    }  # fmt: skip


def instance(scheme, study_uid):
    attributes = {
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00200013": {"vr": "IS", "Value": [1]},
    }
    return {
        "_id": f"{study_uid}.1.1", "study_uid": study_uid, "series_uid": f"{study_uid}.1", "number": 1,
        "keys": scheme.search_keys(attributes, Level.INSTANCE), "scheme": scheme.id, "key": study_uid,
    }  # fmt: skip


@pytest.fixture(scope="module")
def filled(databases):
    """The name of a database with studies enough to tell an index from none; no test changes it."""
    with databases.one() as name:
        fill(databases.mongo[name], Scheme())
        yield name


def fill(db, scheme):
    choose = random.Random(1)
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
        page = rows[start : start + 1000]
        db.studies.insert_many(page)
        db.series.insert_many([series(scheme, row["_id"]) for row in page])
        db.instances.insert_many([instance(scheme, row["_id"]) for row in page])


@pytest.fixture
async def full(open_archive, filled):
    core = await open_archive(ISTHMUS_MONGODB__DATABASE=filled)
    assert core.catalogue.scheme.id == Scheme().id
    return core


async def examined(core, level, text):
    """How many keys of indexes and how many rows MongoDB looks at for the page that answers a search."""
    query = parse(level, split(text)).query
    asked = _Search(core.catalogue.db, query, core.catalogue.scheme, Breadth(), _at_once)
    collection = core.catalogue.db[_COLLECTION[level]]
    order = [("_id", 1)] if level is Level.INSTANCE and query.study_uid is None else _SORT[level]
    page = {"sort": order, "skip": query.offset, "limit": query.limit + 1}
    explained = await collection.find(await asked._condition(), items.fields(query), **page).explain()
    assert "COLLSCAN" not in str(explained["queryPlanner"]["winningPlan"]), text
    statistics = explained["executionStats"]
    return statistics["totalKeysExamined"], statistics["totalDocsExamined"]


@pytest.mark.timeout(600)
async def test_no_search_reads_more_than_it_must(full):
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
    ]:
        _, rows = await examined(full, Level.STUDY, text)
        assert rows <= most, text


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("level", "text"),
    [
        (Level.STUDY, "limit=50"),
        (Level.STUDY, "StudyDate=20000101-20191231&limit=50"),
        (Level.STUDY, "StudyDate=-20100101&limit=50"),
        (Level.STUDY, "StudyDate=20050101-20100101&StudyTime=10-12&limit=50"),
        (Level.STUDY, "ModalitiesInStudy=CT&limit=50"),
        (Level.STUDY, "StudyDescription=CT ABDOMEN&limit=50"),
        (Level.STUDY, 'StudyID=""&emptyvaluematching=true&limit=50'),
        (Level.SERIES, "limit=50"),
        (Level.SERIES, "Modality=CT&limit=50"),
        (Level.INSTANCE, "limit=50"),
        (Level.INSTANCE, "SOPClassUID=1.2.840.10008.5.1.4.1.1.2&limit=50"),
        (Level.INSTANCE, "InstanceNumber=1&limit=50"),
    ],
)
async def test_a_first_page_costs_what_it_shows_however_much_matches(full, level, text):
    keys, rows = await examined(full, level, text)
    assert 51 <= keys <= 60
    assert rows <= 60


async def test_what_is_after_a_page_is_counted_up_to_a_bound(full):
    page = await search(full.catalogue, parse(Level.STUDY, split("limit=50")).query)
    assert (len(page.items), page.remaining, page.is_exact) == (50, 1000, False)
    page = await search(full.catalogue, parse(Level.STUDY, split("PatientName=*sato*&limit=50")).query)
    assert (len(page.items), page.is_exact) == (50, True)
    page = await search(full.catalogue, parse(Level.STUDY, split("limit=50&offset=9940")).query)
    assert (len(page.items), page.remaining, page.is_exact) == (50, 10, True)


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
