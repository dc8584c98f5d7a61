"""The static files: routes, cache rules, security headers, and nothing outside the two folders."""

import pytest
from aiohttp import web

from viewer.static import IMMUTABLE, REVALIDATE, add_routes


@pytest.fixture
def folders(tmp_path):
    dist, ohif = tmp_path / "dist", tmp_path / "ohif"
    (dist / "assets").mkdir(parents=True)
    ohif.mkdir()
    (tmp_path / "secret.txt").write_text("outside")
    (dist / "index.html").write_text('<html data-base="./"><title>Isthmus</title><script src="./assets/x.js">')
    (dist / "assets" / "index-AbCd_-12.js").write_text("plain")
    (dist / "assets" / "index-AbCd_-12.js.gz").write_bytes(b"\x1f\x8b")
    (dist / "assets" / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (ohif / "index.html").write_text('<title>OHIF</title><script>window.PUBLIC_URL="./"</script>')
    (ohif / "manifest.json").write_text("{}")
    (ohif / "7.bundle.0123456789abcdef.js").write_text("chunk")
    return dist, ohif


@pytest.fixture
async def client(aiohttp_client, folders):
    app = web.Application()
    add_routes(app, *folders)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/", "Isthmus"),
        ("/studies/1.2.3", "Isthmus"),
        ("/ohif/", "OHIF"),
        ("/ohif/viewer", "OHIF"),
        ("/ohif/app-config.js", "window.config"),
        ("/ohif/7.bundle.0123456789abcdef.js", "chunk"),
    ],
)
async def test_routes_answer_with_the_page_or_file(client, path, content):
    response = await client.get(path)
    assert response.status == 200
    assert content in await response.text()


@pytest.mark.parametrize(
    ("path", "caching"),
    [
        ("/", REVALIDATE),
        ("/assets/index-AbCd_-12.js", IMMUTABLE),
        ("/ohif/manifest.json", REVALIDATE),
        ("/ohif/app-config.js", REVALIDATE),
        ("/ohif/7.bundle.0123456789abcdef.js", IMMUTABLE),
    ],
)
async def test_only_names_with_a_digest_are_cached_for_ever(client, path, caching):
    response = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert response.headers["Cache-Control"] == caching


async def test_precompressed_file_is_sent_as_it_lies(client):
    async with client.get(
        "/assets/index-AbCd_-12.js", headers={"Accept-Encoding": "gzip"}, auto_decompress=False
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("path", ["/assets/leak.txt", "/assets/..%2f..%2fsecret.txt", "/assets/none.js"])
async def test_nothing_outside_the_folder_is_served(client, path):
    response = await client.get(path)
    assert response.status == 404
    assert "outside" not in await response.text()


async def test_own_pages_run_no_foreign_or_inline_script(client):
    policy = (await client.get("/")).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy


async def test_ohif_is_isolated_and_talks_to_this_origin_only(client):
    headers = (await client.get("/ohif/7.bundle.0123456789abcdef.js")).headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "connect-src 'self' blob: data:;" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("prefix", ["", "/isthmus"])
async def test_pages_name_their_files_by_the_path_that_browsers_see(aiohttp_client, folders, prefix):
    app = web.Application()
    add_routes(app, *folders, prefix)
    client = await aiohttp_client(app)
    for path in ("/", "/studies/1.2.3"):
        page = await (await client.get(path)).text()
        assert page == f'<html data-base="{prefix}/"><title>Isthmus</title><script src="{prefix}/assets/x.js">'
    for path in ("/ohif/", "/ohif/viewer", "/ohif/index.html"):
        assert f'PUBLIC_URL="{prefix}/ohif/"' in await (await client.get(path)).text()
    redirect = await client.get("/ohif", allow_redirects=False)
    assert redirect.headers["Location"] == f"{prefix}/ohif/"


@pytest.mark.parametrize("path", ["/", "/ohif/"])
async def test_missing_build_is_explained(aiohttp_client, path):
    app = web.Application()
    add_routes(app, None, None)
    response = await (await aiohttp_client(app)).get(path)
    assert response.status == 503
    assert "make install" in await response.text()
