"""More than the gateway takes at a time: slow, vanishing and idle clients, floods of STOW-RS and C-STORE at once."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp.test_utils import TestClient
from pydicom.dataset import Dataset

from tests.conftest import running
from tests.dicomweb_support import MULTIPART_DICOM, bodies, multipart, path_of, store
from tests.integration.dimse_support import dcmtk, listen, send_one  # noqa: F401
from tests.samples import ct, part10

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENCE_S = 60.0
IDLE = 300


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; fail after a while."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in a server
            await asyncio.sleep(0.05)


@asynccontextmanager
async def upload(client: TestClient, body: bytes, size: int) -> AsyncIterator[Connection]:
    """A store request whose body has come up to `size`; the connection is lost at the end of the block."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST /dicomweb/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {MULTIPART_DICOM}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:size])
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
async def two_at_a_time(open_archive, serve):
    """A server that takes two uploads at a time."""
    return await serve(await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_INGEST__MAX_UPLOADS="2"))


async def test_who_comes_when_it_is_full_is_told_when_to_come_again(two_at_a_time):
    client, first, second, third = two_at_a_time, ct(), ct(), ct()
    bodies_ = [multipart(part10(ds)) for ds in (first, second)]
    async with upload(client, bodies_[0], 700) as one, upload(client, bodies_[1], 700) as two:
        await until(lambda: _is_full(client))
        response = await store(client, third)
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "Too many uploads" in (await response.json())["error"]
        assert await bodies(client, "/dicomweb/instances") == []  # who reads is served
        for (reader, writer), body in zip((one, two), bodies_, strict=True):
            writer.write(body[700:])
            assert b" 200 " in await reader.readline()
    assert (await store(client, third)).status == 200
    assert len(await bodies(client, "/dicomweb/instances")) == 3


async def _is_full(client):
    return (await store(client, b"")).status == 503


async def test_c_store_is_refused_as_out_of_resources_when_it_is_full(open_archive, listen):  # noqa: F811
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_INGEST__MAX_UPLOADS="1")
    listener = await listen(core)
    content = part10(ct())
    with core.archive.uploads.admitted():
        assert await asyncio.to_thread(send_one, listener.port, content) == 0xA700
    assert await asyncio.to_thread(send_one, listener.port, content) == 0x0000


async def test_whoever_vanishes_in_the_middle_leaves_nothing(open_archive, serve):
    """Neither a file nor a row nor a place: afterwards there is room for others again."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_INGEST__MAX_UPLOADS="1")
    client = await serve(core)
    large = ct(Rows=2048, Columns=2048, PixelData=bytes(2 * 2048 * 2048))
    body = multipart(part10(large))
    for size in (0, 30, 200, 2_000, 1_000_000, len(body) - 3):  # of the last delimiter, too: else it came whole
        async with upload(client, body, size):
            await until(lambda: _is_full(client))

        async def is_taken() -> bool:
            return (await store(client, ct())).status == 200

        await until(is_taken)
    found = await bodies(client, "/dicomweb/instances")
    assert len(found) == 6
    assert large.SOPInstanceUID not in {item["00080018"]["Value"][0] for item in found}
    data = core.settings.data.dir

    async def is_clean() -> bool:
        return await asyncio.to_thread(lambda: len(files(data / "objects")) == 6 and not files(data / "spool"))

    await until(is_clean)


async def test_what_was_complete_before_its_client_vanished_is_kept(open_archive, serve):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none")
    client = await serve(core)
    whole = [ct() for _ in range(5)]
    body = multipart(*map(part10, [*whole, ct()]))
    async with upload(client, body, len(body) - 300):

        async def are_there() -> bool:
            return len(await bodies(client, "/dicomweb/instances")) == 5

        await until(are_there)
    stored = {item["00080018"]["Value"][0] for item in await bodies(client, "/dicomweb/instances")}
    assert stored == {ds.SOPInstanceUID for ds in whole}


async def test_slow_writers_hold_up_nobody(client):
    """Each of them comes to its end, too."""
    slow = [ct() for _ in range(20)]
    bodies_ = [multipart(part10(ds)) for ds in slow]

    async def trickle(body: bytes) -> bytes:
        async with upload(client, body, 10) as (reader, writer):
            for at in range(10, len(body), 40):
                writer.write(body[at : at + 40])
                await writer.drain()
                await asyncio.sleep(0)
            return await reader.readline()

    writing = [asyncio.create_task(trickle(body)) for body in bodies_]
    quick = ct()
    assert (await store(client, quick)).status == 200
    assert (await client.get(path_of(quick) + "/metadata")).status == 200
    assert {line.split()[1] for line in await asyncio.gather(*writing)} == {b"200"}
    assert len(await bodies(client, "/dicomweb/instances")) == 21


async def test_idle_connections_are_in_nobody_s_way(client):
    idle = await asyncio.gather(*(asyncio.open_connection(client.host, client.port) for _ in range(IDLE)))
    try:
        ds = ct()
        assert (await store(client, ds)).status == 200
        assert (await client.get(path_of(ds) + "/metadata")).status == 200
        reader, writer = idle[-1]
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in await reader.readline()
    finally:
        for _, writer in idle:
            writer.transport.abort()


def test_a_flood_by_both_ways_loses_nothing_that_was_acknowledged(tmp_path):
    """Each answer is a success or says to come again, and whoever does so succeeds in the end."""
    settings = {"INGEST__PROFILE": "none", "INGEST__MAX_UPLOADS": "3", "RAY__ENABLED": "false"}
    with running(tmp_path, "--auth", "none", **{f"ISTHMUS_{key}": value for key, value in settings.items()}) as gateway:
        by_stow, by_dimse = ([ct(**_pixels()) for _ in range(count)] for count in (120, 60))
        for ds in by_dimse:
            (tmp_path / ds.SOPInstanceUID).write_bytes(part10(ds))
        answers = asyncio.run(_flood(gateway, by_stow, [tmp_path / ds.SOPInstanceUID for ds in by_dimse]))
        assert set(answers) <= {200, 503, 0x0000, 0xA700}
        assert answers[200] >= len(by_stow), "each was stored in the end"
        assert answers[0x0000] >= len(by_dimse)
        assert answers[503], "there was no flood"
        with httpx.Client(base_url=gateway.base_url, timeout=PATIENCE_S) as client:
            found = client.get("/dicomweb/instances", params={"limit": 1000}).json()
            assert {item["00080018"]["Value"][0] for item in found} == {ds.SOPInstanceUID for ds in by_stow + by_dimse}
            for ds in by_stow + by_dimse:
                frame = client.get(path_of(ds) + "/frames/1", headers={"Accept": "application/octet-stream"})
                assert frame.content == ds.PixelData


def _pixels() -> dict[str, object]:
    return {"Rows": 256, "Columns": 256, "PixelData": bytes(2 * 256 * 256)}


async def _flood(gateway, by_stow: list[Dataset], by_dimse: list[Path]) -> Counter[int]:
    answers: Counter[int] = Counter()
    deadline = time.monotonic() + PATIENCE_S
    limits = httpx.Limits(max_connections=len(by_stow))
    async with httpx.AsyncClient(base_url=gateway.base_url, timeout=PATIENCE_S, limits=limits) as client:

        async def politely(ds: Dataset) -> None:
            body = multipart(part10(ds))
            while time.monotonic() < deadline:
                response = await client.post(
                    "/dicomweb/studies", content=body, headers={"Content-Type": MULTIPART_DICOM}
                )
                answers[response.status_code] += 1
                if response.status_code == 200:
                    return
                await asyncio.sleep(int(response.headers["Retry-After"]) / 10)

        senders = (_send(gateway, by_dimse[number::6], answers, deadline) for number in range(6))
        await asyncio.gather(*map(politely, by_stow), *senders)
    return answers


async def _send(gateway, files: list[Path], answers: Counter[int], deadline: float) -> None:
    """Send files one after the other, each until it is taken."""
    for file in files:
        status = 0xA700
        while status == 0xA700 and time.monotonic() < deadline:
            _, said = await dcmtk("storescu", "-v", "-aec", gateway.ae_title, "127.0.0.1", gateway.dicom_port, file)
            (response,) = re.findall(r"Received Store Response \((.*)\)", said) or [said]
            status = {"Success": 0x0000, "Refused: OutOfResources": 0xA700}.get(response, response)
            answers[status] += 1
