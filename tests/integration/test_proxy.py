"""Behind a real nginx that serves the gateway below /isthmus/ and takes that prefix away."""

import asyncio
import json
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest

from gateway.auth.tokens import Tokens
from tests.derived import document
from tests.dicomweb_support import MULTIPART_DICOM, multipart
from tests.nginx import PREFIX, free_port, nginx
from tests.samples import ct, part10


@pytest.fixture
async def site(open_archive, serve, tmp_path):
    """The public URL of a gateway behind nginx, and a client signed in with a token."""
    port = free_port()
    public = f"http://127.0.0.1:{port}{PREFIX}/"
    core = await open_archive(
        ISTHMUS_INGEST__PROFILE="none", ISTHMUS_AUTH__MODE="token", ISTHMUS_HTTP__PUBLIC_URL=public
    )
    gateway = await serve(core)
    upstream = str(gateway.make_url("")).rstrip("/")
    token = await Tokens(core.catalogue.db).create("bearer", "reader")
    proxy = nginx(tmp_path / "nginx", port, upstream)
    url = await asyncio.to_thread(proxy.__enter__)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        yield url, session, token
    await asyncio.to_thread(proxy.__exit__, None, None, None)


async def test_every_address_that_answers_name_can_be_followed(site):
    """Retrieve URL, BulkDataURI and Content-Location, as the caller reaches them."""
    url, session, _ = site
    letter = document(ct(), "Dear reader")
    body = multipart(part10(letter))
    async with session.post(f"{url}/dicomweb/studies", data=body, headers={"Content-Type": MULTIPART_DICOM}) as answer:
        assert answer.status == 200, await answer.text()
        stored = await answer.json(content_type=None)
    study = f"{url}/dicomweb/studies/{letter.StudyInstanceUID}"
    assert stored["00081190"]["Value"] == [study]
    instance = stored["00081199"]["Value"][0]["00081190"]["Value"][0]
    assert instance.startswith(study)

    async with session.get(f"{url}/dicomweb/studies") as answer:
        (found,) = await answer.json(content_type=None)
    assert found["00081190"]["Value"] == [study]
    async with session.get(f"{instance}/metadata") as answer:
        (metadata,) = await answer.json(content_type=None)
    bulk = urljoin(url, metadata["00420011"]["BulkDataURI"])
    async with session.get(bulk, headers={"Accept": "application/octet-stream"}) as answer:
        assert await answer.read() == letter.EncapsulatedDocument
    async with session.get(study, headers={"Accept": 'multipart/related; type="application/dicom"'}) as answer:
        assert answer.status == 200
        assert f"Content-Location: {instance}\r\n".encode() in await answer.read()


async def test_pages_know_where_they_are(site):
    url, session, _ = site
    for page in ("/", "/studies/1.2.3"):
        async with session.get(url + page) as answer:
            text = await answer.text()
            if answer.status == 503:
                pytest.skip("the web application is not built: `make viewer` builds it")
        assert f'data-base="{PREFIX}/"' in text
        script = text.partition('src="')[2].partition('"')[0]
        assert script.startswith(f"{PREFIX}/assets/")
        async with session.get(urljoin(url, script)) as answer:
            assert answer.status == 200
    async with session.get(f"{url}/ohif", allow_redirects=False) as answer:
        assert answer.headers["Location"] == f"{PREFIX}/ohif/"
    async with session.get(f"{url}/ohif/viewer") as answer:
        assert f'PUBLIC_URL="{PREFIX}/ohif/"' in await answer.text()


async def test_signing_in_stays_below_the_prefix(site):
    """The session's cookie is not sent to other services of the host, and every redirect leads back."""
    url, _, token = site
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.post(f"{url}/login", data={"token": token}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, f"{PREFIX}/")
            assert f"Path={PREFIX}/" in answer.headers["Set-Cookie"]
        async with browser.get(f"{url}/dicomweb/studies") as answer:
            assert (answer.status, await answer.json(content_type=None)) == (200, [])
        async with browser.post(f"{url}/logout", allow_redirects=False) as answer:
            assert answer.headers["Location"] == f"{PREFIX}/"
        async with browser.get(f"{url}/dicomweb/studies") as answer:
            assert answer.status == 401


async def test_description_names_the_prefix(site):
    url, session, _ = site
    async with session.get(f"{url}/api/openapi.json") as answer:
        described = json.loads(await answer.read())
    base = urljoin(f"{url}/api/openapi.json", described["servers"][0]["url"])
    path = next(path for path in described["paths"] if path.endswith("/studies"))
    assert urlsplit(base).path.rstrip("/") + path == f"{PREFIX}{path}"
