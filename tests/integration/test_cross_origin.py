"""What browsers ask of a server that a page from elsewhere uses: preflights, readable headers, resource policy."""

import pytest

from tests.dicomweb_support import store
from tests.samples import ct

VIEWER = "https://viewer.example.org"


@pytest.fixture
async def across(open_archive, serve):
    """A server that pages of one other origin may use."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_HTTP__CORS_ORIGINS=VIEWER)
    return await serve(core)


async def test_a_preflight_of_an_allowed_origin_is_granted(across):
    asked = {
        "Origin": VIEWER,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,content-type,range",
    }
    answer = await across.options("/dicomweb/studies", headers=asked)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
    granted = answer.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in granted for name in ("authorization", "content-type", "range", "if-none-match"))
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]


async def test_an_allowed_page_reads_warnings_and_validators(across):
    answer = await across.get("/dicomweb/studies?Nonsense=1", headers={"Origin": VIEWER})
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert all(name in exposed for name in ("Warning", "ETag", "Content-Location", "Content-Range"))
    assert "Origin" in answer.headers.getall("Vary")
    assert "Nonsense" in answer.headers["Warning"]


async def test_errors_can_be_read_too(across):
    answer = await across.get("/dicomweb/studies/1.2.3/metadata", headers={"Origin": VIEWER})
    assert answer.status == 404
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER


async def test_other_origins_are_not_granted(across, client):
    for server in (across, client):
        answer = await server.get("/dicomweb/studies", headers={"Origin": "https://elsewhere.example.org"})
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_pictures_may_be_embedded_only_where_pages_from_elsewhere_are_allowed(across, client):
    for server, policy in ((across, "cross-origin"), (client, "same-origin")):
        ds = ct()
        await store(server, ds)
        thumbnail = await server.get(f"/dicomweb/studies/{ds.StudyInstanceUID}/thumbnail?accept=image/jpeg")
        assert thumbnail.status == 200
        assert thumbnail.headers["Cross-Origin-Resource-Policy"] == policy


async def test_urls_are_those_of_the_proxy(client):
    ds = ct()
    await store(client, ds)
    said = {"Forwarded": "for=192.0.2.60;proto=https;host=pacs.example.org"}
    (item,) = await (await client.get("/dicomweb/studies", headers=said)).json(content_type=None)
    assert item["00081190"]["Value"] == [f"https://pacs.example.org/dicomweb/studies/{ds.StudyInstanceUID}"]


async def test_another_site_opens_no_websocket(client):
    asked = {"Origin": "https://elsewhere.example.org", "Upgrade": "websocket", "Connection": "Upgrade"}
    answer = await client.get("/dicomweb/studies", headers=asked)
    assert answer.status == 403
