"""Meshes by the REST API: three encodings, negotiated, cached, gone with their study."""

import gzip
import io
import xml.etree.ElementTree as ET

import pytest
import trimesh

from dicomweb.resource import Resource
from gateway.jobs.model import Output, new_id
from ray_plugins.task import MeshFiles
from tests.integration.api_support import api  # noqa: F401
from tests.integration.jobs_support import dispatching, ended, order

X3D, GLB, STL = "model/x3d+xml", "model/gltf-binary", "model/stl"


@pytest.fixture
async def mesh(api):  # noqa: F811
    """A stored mesh, as an output of a run shows it."""
    output = Output("mesh", "Block", api.study, api.series, mesh_id=new_id(), triangles=12)
    files = MeshFiles(
        "Block", b"<X3D>" + b" 1.5" * 1000 + b"</X3D>", b"glTF" * 300, b"solid" * 200, 12, (0, 0, 0, 1, 1, 1)
    )
    await api.services.meshes.add(output, order(), files)
    return output.to_json()


async def test_each_encoding_of_what_a_plugin_made_is_what_it_says(api):  # noqa: F811
    async with dispatching(api.core):
        run = await api.start(how="well")
        mesh = (await ended(api.services.queue, order(id=run["id"]))).outputs[2].to_json()
    x3d, glb, stl = [await api.client.get(mesh["url"], headers={"Accept": accept}) for accept in (X3D, GLB, STL)]
    assert [answer.content_type for answer in (x3d, glb, stl)] == [X3D, GLB, STL]
    assert ET.fromstring(await x3d.text()).tag == "X3D"
    from_glb = trimesh.load(io.BytesIO(await glb.read()), file_type="glb", force="mesh")
    from_stl = trimesh.load(io.BytesIO(await stl.read()), file_type="stl")
    assert len(from_glb.faces) == len(from_stl.faces) == mesh["triangles"]
    assert from_stl.is_watertight


@pytest.mark.parametrize(
    ("accept", "question", "expected"),
    [
        (None, "", X3D),
        ("*/*", "", X3D),
        ("model/*", "", X3D),
        (f"{GLB};q=0.5, {STL}", "", STL),
        ("*/*", f"?accept={STL}", STL),
        ("*/*", "?accept=model/gltf-binary", GLB),
    ],
)
async def test_the_encoding_is_negotiated(api, mesh, accept, question, expected):  # noqa: F811
    headers = {"Accept": accept} if accept else {}
    answer = await api.client.get(mesh["url"] + question, headers=headers, skip_auto_headers=["Accept"])
    assert (answer.status, answer.content_type) == (200, expected)


async def test_what_cannot_be_had_is_said(api, mesh):  # noqa: F811
    answer = await api.client.get(mesh["url"], headers={"Accept": "model/obj"})
    assert answer.status == 406
    assert X3D in (await answer.json())["error"]


async def test_x3d_travels_compressed_unless_the_client_cannot_read_it(api, mesh):  # noqa: F811
    zipped = await api.client.get(mesh["url"], headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
    plain = await api.client.get(mesh["url"], headers={"Accept-Encoding": "identity"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    body = await zipped.read()
    assert int(zipped.headers["Content-Length"]) == len(body)
    assert gzip.decompress(body) == await plain.read()
    assert zipped.headers["ETag"] != plain.headers["ETag"]


async def test_a_known_mesh_is_not_sent_again(api, mesh):  # noqa: F811
    first = await api.client.get(mesh["url"], headers={"Accept": STL})
    again = await api.client.get(mesh["url"], headers={"Accept": STL, "If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    other = await api.client.get(mesh["url"], headers={"Accept": GLB, "If-None-Match": first.headers["ETag"]})
    assert other.status == 200


async def test_head_tells_without_sending(api, mesh):  # noqa: F811
    head = await api.client.head(mesh["url"], headers={"Accept": STL})
    body = await (await api.client.get(mesh["url"], headers={"Accept": STL})).read()
    assert (head.status, head.content_length, await head.read()) == (200, len(body), b"")


async def test_a_mesh_is_gone_as_soon_as_its_study_is(api, mesh):  # noqa: F811
    await api.core.archive.delete(Resource(api.study))
    assert (await api.client.get(mesh["url"])).status == 410


async def test_a_large_mesh_is_streamed_whole(api):  # noqa: F811
    x3d = b"<X3D>" + b" 0.123456" * 400_000 + b"</X3D>"
    output = Output("mesh", "big", api.study, api.series, mesh_id="big", triangles=1)
    files = MeshFiles("big", x3d, b"g" * 3_000_001, b"s", 1, (0, 0, 0, 1, 1, 1))
    await api.services.meshes.add(output, order(), files)
    for accept, expected in ((X3D, x3d), (GLB, files.glb), (STL, b"s")):
        for encoding in ("gzip", "identity"):
            headers = {"Accept": accept, "Accept-Encoding": encoding}
            assert await (await api.client.get("/api/v1/meshes/big", headers=headers)).read() == expected
