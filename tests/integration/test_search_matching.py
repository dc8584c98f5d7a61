"""Each kind of matching, what an answer holds, and what is refused, over HTTP on a real archive."""

from urllib.parse import quote

import pytest
from pydicom.dataset import Dataset
from yarl import URL

from tests.dicomweb_support import bodies, store
from tests.samples import ct

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


def request_item(step: str, procedure: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    item.ScheduledProcedureStepDescription = "HEAD"
    return item


@pytest.fixture
async def three(client):
    """Three studies that differ in what is searched for: A, B and C by their StudyID."""
    first = ct(StudyID="A", PatientName="Schmidt^Jörg", StudyDate="20060705", StudyTime="093000")
    first.RequestAttributesSequence = [request_item("S1", "P1"), request_item("S2", "P2")]
    block = first.private_block(0x0019, "ACME", create=True)
    block.add_new(0x01, "LO", "of acme")
    first.private_block(0x0019, "OTHER", create=True).add_new(0x01, "LO", "of other")
    second = ct(
        StudyID="B", PatientName="Meyer^Ann Marie", StudyDate="20060706", StudyTime="040000", AccessionNumber=""
    )
    second.RequestAttributesSequence = [request_item("S1", "P2")]
    third = ct(StudyID="C", PatientName="Kowalski^Jan^^Dr", StudyDate="20060707", StudyTime="190000.250", Modality="MR")
    other = ct(StudyID="C", PatientName="Kowalski^Jan^^Dr", StudyDate="20060707", StudyTime="190000.250", Modality="PT")
    other.StudyInstanceUID = third.StudyInstanceUID
    assert (await store(client, first, second, third, other)).status == 200
    return first, second, third


async def found(client, query: str) -> str:
    items = await bodies(client, f"/dicomweb/studies?includefield=StudyID&{query}")
    return "".join(sorted(item["00200010"]["Value"][0] for item in items))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # PS3.4 C.2.2.2.5: one span where both are ranges of the same form, two conditions where they are not
        ("StudyDate=20060705-20060707&StudyTime=1000-1800", "B"),
        ("StudyDate=20060705-20060707&StudyTime=0900-1900", "ABC"),
        ("StudyDate=20060706-&StudyTime=0400-", "BC"),
        ("StudyDate=-20060706&StudyTime=-0359", "A"),
        ("StudyDate=20060705-20060707&StudyTime=-1000", "AB"),
        ("StudyDate=20060707&StudyTime=1800-2000", "C"),
        ("StudyTime=190000.25", "C"),
        ("StudyTime=-09", "AB"),
        # C.2.2.2.7
        ('AccessionNumber=""&emptyvaluematching=true', "B"),
        ('AccessionNumber=""', ""),
        ("AccessionNumber=", "ABC"),
        # C.2.2.2.8, and lists of codes as viewers send them
        ("ModalitiesInStudy=MR%5CPT&multiplevaluematching=true", "C"),
        ("ModalitiesInStudy=CT%5CPT&multiplevaluematching=true", ""),
        ("ModalitiesInStudy=CT%5CPT", "ABC"),
        ("ModalitiesInStudy=CT,PT&multiplevaluematching=true", "ABC"),
        # C.2.2.2.1.1
        ("PatientName=Smith&fuzzymatching=true", "A"),
        ("PatientName=Smith", ""),
        ("PatientName=Maier&fuzzymatching=true", "B"),
        ("PatientName=Jorg&fuzzymatching=true", "A"),
        ("PatientName=marie%20meier&fuzzymatching=true", "B"),
        ("PatientName=meier^peter&fuzzymatching=true", ""),
        ("PatientName=Kow&fuzzymatching=true", "C"),
        ("PatientName=owal&fuzzymatching=true", ""),
        ("PatientName=*owal*&fuzzymatching=true", "C"),
        ("PatientName=Schm?dt&fuzzymatching=true", "A"),
        ("PatientName=!!&fuzzymatching=true", ""),
        # names without fuzzy matching: any case, and as it stands
        ("PatientName=SCHMIDT^JÖRG^^^", "A"),
        ("PatientName=Schmidt^Jorg", ""),
        ("PatientName=*^Jan*", "C"),
        ("PatientName=*^*", "ABC"),
    ],
)
async def test_matching(client, three, query, expected):
    assert await found(client, quote(query, safe="&=%,*?^-")) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("00400275.00400009=S1", 2),
        ("00400275.00400009=S1&00400275.00401001=P1", 1),
        ("00400275.00400009=S2&00400275.00401001=P2", 1),
        ("RequestAttributesSequence.ScheduledProcedureStepID=S2&00400275.00401001=P1", 0),  # of two items
        ("00400275.00400009=S*&00400275.00401001=?2", 2),
        ('00400275.00400009=""&emptyvaluematching=true', 2),
        ("RequestAttributesSequence=&Modality=CT", 2),
    ],
)
async def test_keys_below_a_sequence_hold_in_one_item_of_it(client, three, query, expected):
    assert len(await bodies(client, f"/dicomweb/series?{query}")) == expected


async def test_only_what_was_asked_for_in_a_sequence_is_returned_of_one_that_is_not_in_the_tables(client, three):
    (item,) = await bodies(
        client, "/dicomweb/instances?StudyID=A&includefield=00400275.00400009&includefield=00081030,Manufacturer"
    )
    assert {"00400007", "00400009", "00401001"} <= set(item["00400275"]["Value"][0])  # in Table 10.6.3-4, as a whole
    assert (item["00081030"]["Value"], item["00080070"]["Value"]) == (["CT ABDOMEN"], ["Isthmus"])


async def test_attributes_of_lower_levels_are_not_returned(client, three):
    for field in ("SeriesDescription,InstanceNumber,SliceThickness", "all"):
        for item in await bodies(client, f"/dicomweb/studies?includefield={field}"):
            assert not {"0008103E", "00200013", "00180050", "00080018"} & set(item)
        for item in await bodies(client, f"/dicomweb/series?includefield={field}"):
            assert "0008103E" in item
            assert not {"00200013", "00180050", "00080018"} & set(item)


async def test_private_elements_come_with_their_creator_wherever_its_block_is(client, three):
    base = "/dicomweb/instances?StudyID=A&includefield="
    (item,) = await bodies(client, base + "00191001&00190010=ACME")
    assert (item["00190010"]["Value"], item["00191001"]["Value"]) == (["ACME"], ["of acme"])
    (item,) = await bodies(client, base + "00191001&00190010=OTHER")
    assert (item["00190011"]["Value"], item["00191101"]["Value"]) == (["OTHER"], ["of other"])
    assert "00191001" not in item
    (item,) = await bodies(client, base + "00191001")
    assert item["00191001"]["Value"] == ["of acme"]


async def test_required_attributes_are_there_even_without_a_value(client, three):
    item = next(one for one in await bodies(client, "/dicomweb/instances?StudyID=B"))
    assert item["00080050"] == {"vr": "SH"}
    required = "00080020 00080030 00080050 00080061 00080090 00100010 00100020 00100030 00100040 0020000D 00200010"
    required += " 00201206 00201208 00080060 0020000E 00200011 00201209 00081190 00080016 00080018 00200013"
    assert set(required.split()) <= set(item)


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
async def test_pages_add_up_at_every_level(client, three, level):
    tag = {"studies": STUDY, "series": SERIES, "instances": INSTANCE}[level]
    whole = [item[tag]["Value"][0] for item in await bodies(client, f"/dicomweb/{level}?PatientName=*a*")]
    pages = []
    for offset in range(len(whole) + 1):
        response = await client.get(f"/dicomweb/{level}?PatientName=*a*&limit=1&offset={offset}")
        pages += [item[tag]["Value"][0] for item in await response.json(content_type=None)]
        left = max(0, len(whole) - offset - 1)
        assert (f"There are {left} additional results" in response.headers.get("Warning", "")) is (left > 0)
    assert pages == whole
    assert len(whole) > 1


@pytest.mark.parametrize("setting", ["MAX_MATCHES", "MAX_PARENTS"])
async def test_what_is_too_broad_is_413(open_archive, serve, setting):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", **{f"ISTHMUS_SEARCH__{setting}": "2"})
    client = await serve(core)
    await store(client, *(ct() for _ in range(3)))
    path = "/dicomweb/studies" if setting == "MAX_MATCHES" else "/dicomweb/series"
    assert (await client.get(f"{path}?PatientName=Quixote*&limit=1")).status == 413
    narrow = await bodies(client, "/dicomweb/studies") if setting == "MAX_PARENTS" else []
    assert len(narrow) == (3 if setting == "MAX_PARENTS" else 0)


async def test_what_costs_much_is_bounded_or_refused(client):
    aaa = ct(PatientName="a" * 64, StudyDescription="a" * 64)
    await store(client, aaa)
    for text, status in [
        ("PatientName=" + "*a" * 200 + "b", 200),
        ("StudyDescription=" + "?*" * 250 + "b", 200),
        ("PatientName=" + "%28a%2B%29%2B" * 30 + "*$", 200),
        ("PatientName=" + "*" * 1000, 200),
        ("PatientName=" + "x" * 600, 400),
        ("StudyInstanceUID=" + ",".join(["1.2.3"] * 1200), 400),
        ("&".join(f"a{number}=b" for number in range(300)), 400),
        ("PatientName=a%00b", 400),
        ("PatientName=%FF%FE", 400),
        ("PatientName=%E7%8E", 400),
        ("PatientName=%ED%A0%80", 400),
        ("PatientName=%zz", 400),
        ("PatientName=%", 400),
        ("limit=-1", 400),
        ("limit=99999999999999999999", 400),
        ("offset=-0", 400),
        ("offset=999999999", 200),
        ("limit=1.5", 400),
        ("fuzzymatching=1", 400),
        ("StudyDate=%7B%22$gt%22:%22%22%7D", 400),
        ("PatientID[$ne]=x", 200),
        ("includefield=" + ",".join(f"{number:08X}" for number in range(500)), 200),
        (".".join(["00400275"] * 100) + "=x", 200),
    ]:
        as_it_is = URL(f"{client.make_url('/dicomweb/studies')}?{text}", encoded=True)
        response = await client.session.get(as_it_is)
        assert response.status == status, text[:60]
        if status == 400:
            assert (await response.json())["error"].endswith(".")
    for count in (10_000, 100_000):  # longer than a request line may be
        assert 400 <= (await client.get("/dicomweb/studies?" + "a=b&" * count)).status < 500
