"""QIDO-RS over HTTP, on a real archive."""

import pytest

from tests.dicomweb_support import bodies, store
from tests.samples import ct

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


@pytest.fixture
async def studies(client):
    """Two studies: Quixote's with two series (CT of two images, MR of one), Panza's with one image."""
    first = ct(TimezoneOffsetFromUTC="+0100")
    same = {"StudyInstanceUID": first.StudyInstanceUID, "TimezoneOffsetFromUTC": "+0100"}
    second = ct(**same, SeriesInstanceUID=first.SeriesInstanceUID, InstanceNumber=2)
    magnetic = ct(**same, Modality="MR", SeriesNumber=3)
    other = ct(PatientName="Panza^Sancho", PatientID="MRN-1", StudyDate="20220101", AccessionNumber="B")
    response = await store(client, first, second, magnetic, other)
    assert response.status == 200
    return first, second, magnetic, other


def values(items, tag):
    return [item[tag]["Value"][0] for item in items]


async def test_all_studies_with_their_default_attributes(client, studies):
    response = await client.get("/dicomweb/studies")
    assert response.status == 200
    assert response.content_type == "application/dicom+json"
    items = await response.json(content_type=None)
    assert len(items) == 2
    item = next(one for one in items if one[STUDY]["Value"] == [studies[0].StudyInstanceUID])
    assert list(item) == sorted(item)
    assert item["00080061"]["Value"] == ["CT", "MR"]
    assert item["00201206"]["Value"] == [2]
    assert item["00201208"]["Value"] == [3]
    assert item["00100010"]["Value"] == [{"Alphabetic": "Quixote^Alonso"}]
    assert item["00081190"]["Value"] == [str(client.make_url(f"/dicomweb/studies/{studies[0].StudyInstanceUID}"))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientName=*quixote*", 1),
        ("PatientName=Panza^Sancho", 1),
        ("00100020=MRN-*", 2),
        ("PatientID=MRN-?", 1),
        ("StudyDate=20210101-20211231", 1),
        ("StudyDate=20220101", 1),
        ("StudyDate=-20201231", 0),
        ("ModalitiesInStudy=MR", 1),
        ("ModalitiesInStudy=US,MR", 1),
        ("ModalitiesInStudy=US", 0),
        ("AccessionNumber=B&fuzzymatching=false", 1),
        ("StudyDescription=*ABDOMEN*", 2),
    ],
)
async def test_matching(client, studies, query, found):
    response = await client.get(f"/dicomweb/studies?{query}")
    assert response.status == 200
    assert len(await response.json(content_type=None)) == found


@pytest.mark.parametrize(
    "path",
    [
        "studies?PatientID=MRN-*",
        "studies?StudyDate=20200101-20241231&AccessionNumber=B",
        "studies?ModalitiesInStudy=CT&PatientName=*",
        "studies?includefield=StudyDescription&includefield=00080201",
        "studies?StudyDescription=*&PatientID=MRN-?",
        "studies/{study}/series?Modality=MR,CT",
        "studies/{study}/series?SeriesNumber=3&includefield=SeriesDescription&includefield=00400244",
        "studies/{study}/series/{series}/instances?InstanceNumber=1&SOPClassUID=1.2.840.10008.5.1.4.1.1.2",
        "studies/{study}/series/{series}/instances?includefield=NumberOfFrames&includefield=Rows",
    ],
)
async def test_items_are_the_same_whether_they_are_kept_ready_or_made(client, studies, path):
    path = "/dicomweb/" + path.format(study=studies[0].StudyInstanceUID, series=studies[0].SeriesInstanceUID)
    made = await bodies(client, f"{path}&includefield=ProcedureCodeSequence")  # which none has
    assert made
    assert await bodies(client, path) == made


async def test_the_time_zone_of_a_series_is_told(client, studies):
    found = await bodies(client, f"/dicomweb/studies/{studies[0].StudyInstanceUID}/series")
    assert values(found, "00080201") == ["+0100", "+0100"]


@pytest.mark.parametrize("separator", ["%2C", "%5C", ",", "\\"])
async def test_lists_of_uids(client, studies, separator):
    uids = separator.join([studies[0].StudyInstanceUID, studies[3].StudyInstanceUID, "1.2.3"])
    assert len(await bodies(client, f"/dicomweb/studies?StudyInstanceUID={uids}")) == 2


async def test_no_result_is_an_empty_list(client, studies):
    response = await client.get("/dicomweb/studies?PatientID=nobody")
    assert (response.status, await response.read()) == (200, b"[]")


async def test_paging_says_what_is_left_and_keeps_its_order(client, studies):
    seen = []
    for offset in range(4):
        response = await client.get(f"/dicomweb/instances?limit=1&offset={offset}")
        items = await response.json(content_type=None)
        seen += values(items, INSTANCE)
        left = 3 - offset
        expected = [f"299 {client.make_url('/dicomweb')}: There are {left} additional results that can be requested"]
        assert response.headers.getall("Warning", []) == (expected if left else [])
    assert sorted(seen) == sorted(str(one.SOPInstanceUID) for one in studies)
    assert values(await bodies(client, "/dicomweb/instances"), INSTANCE) == seen


async def test_a_limit_of_zero_counts(client, studies):
    response = await client.get("/dicomweb/instances?limit=0")
    assert await response.read() == b"[]"
    assert "There are 4 additional results" in response.headers["Warning"]


async def test_hierarchical_and_relational_searches(client, studies):
    first, _, magnetic, other = studies
    below = f"/dicomweb/studies/{first.StudyInstanceUID}"
    assert len(await bodies(client, f"{below}/series")) == 2
    assert values(await bodies(client, f"{below}/series?Modality=MR"), SERIES) == [magnetic.SeriesInstanceUID]
    assert len(await bodies(client, f"{below}/instances")) == 3
    assert len(await bodies(client, f"{below}/series/{first.SeriesInstanceUID}/instances")) == 2
    (item,) = await bodies(client, "/dicomweb/series?PatientID=MRN-1")
    assert item[STUDY]["Value"] == [other.StudyInstanceUID]
    assert item["00100020"]["Value"] == ["MRN-1"]
    assert item["00081190"]["Value"][0].endswith(f"/studies/{other.StudyInstanceUID}/series/{other.SeriesInstanceUID}")
    (item,) = await bodies(client, "/dicomweb/instances?Modality=MR&PatientName=Q*")
    assert item[INSTANCE]["Value"] == [magnetic.SOPInstanceUID]


async def test_included_fields(client, studies):
    (item,) = await bodies(client, "/dicomweb/instances?Modality=MR&includefield=SliceThickness,00080070")
    assert item["00180050"]["Value"] == [5]
    assert item["00080070"]["Value"] == ["Isthmus"]
    (item,) = await bodies(client, "/dicomweb/instances?Modality=MR&includefield=all")
    assert item["00281053"]["Value"] == [1]


async def test_warnings(client, studies):
    response = await client.get("/dicomweb/studies?fuzzymatching=true&SliceThickness=5&nonsense=1")
    (ignored,) = response.headers.getall("Warning")
    assert ignored.startswith(f"299 {client.make_url('/dicomweb')}: ")
    assert ignored.endswith("SliceThickness, nonsense")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies?PatientID=a&00100020=b", 400),
        ("/studies?limit=x", 400),
        ("/studies?StudyDate=today", 400),
        ("/studies/1.2.x/series", 400),
        ("/studies/1.2.3/series", 200),
    ],
)
async def test_status(client, path, status):
    response = await client.get(f"/dicomweb{path}")
    assert response.status == status
    if status == 400:
        assert (await response.json())["error"].endswith(".")


async def test_media_types(client, studies):
    xml = 'multipart/related; type="application/dicom+xml"'
    for accept, status in [("application/json", 200), ("text/html, */*;q=0.8", 200), (xml, 200), ("text/html", 406)]:
        response = await client.get("/dicomweb/studies", headers={"Accept": accept})
        assert response.status == status


async def test_wrong_method_names_the_right_ones(client):
    response = await client.put("/dicomweb/studies", data=b"")
    assert response.status == 405
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
