"""Bodies from files: over TLS too, to clients that do not read or vanish, and of files that are gone."""

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import struct
import time
import tracemalloc
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydicom.uid import generate_uid

from gateway.app import create_app
from tests.dicomweb_support import path_of, store
from tests.samples import ct

#: More than there are threads that read.
CLIENTS = 40
FILES = 6


@pytest.fixture
async def study(client):
    """The path of a study of some MB, and one of its instances."""
    study_uid = generate_uid(None)
    side = 1024
    stored = [
        ct(StudyInstanceUID=study_uid, Rows=side, Columns=side, PixelData=os.urandom(2 * side * side))
        for _ in range(FILES)
    ]
    for ds in stored:
        response = await store(client, ds)
        assert response.status == 200
    return f"/dicomweb/studies/{study_uid}", stored[0]


async def until(check, seconds=20.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.02)


def open_objects(core) -> int:
    """How many files of the object store this process has open."""
    folder = core.settings.data.dir.absolute() / "objects"
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(entry.readlink())
    return sum(folder in link.parents for link in links)


async def ask(client: TestClient, path: str, buffer_bytes: int = 4096) -> socket.socket:
    """A connection on which a request was sent, and whose answer is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    host = f"127.0.0.1:{client.server.port}"
    await loop.sock_connect(connection, ("127.0.0.1", client.server.port))
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n".encode())
    return connection


async def test_who_does_not_read_holds_neither_threads_nor_memory(core, client, study):
    path, ds = study
    with contextlib.ExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(CLIENTS):
            stack.enter_context(await ask(client, path))
        await until(lambda: open_objects(core) == CLIENTS)
        assert tracemalloc.get_traced_memory()[1] < CLIENTS * (1 << 20)
        for _ in range(3):
            response = await asyncio.wait_for(client.get(f"{path_of(ds)}/frames/1"), 20)
            assert len(await response.read()) > len(ds.PixelData)
        assert open_objects(core) == CLIENTS
    await until(lambda: open_objects(core) == 0)


async def test_who_vanishes_ends_the_work_at_once(core, client, study):
    path, _ = study
    connections = [await ask(client, path) for _ in range(5)]
    await until(lambda: open_objects(core) == len(connections))
    for connection in connections:  # reset, without a farewell
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    await until(lambda: open_objects(core) == 0)
    assert (await client.get("/health/live")).status == 200


async def test_a_file_that_was_cut_short_ends_the_connection_and_is_logged(core, client, study, caplog):
    path, _ = study
    for file in Path(core.settings.data.dir, "objects").rglob("*.dcm"):
        await asyncio.to_thread(os.truncate, file, 1 << 20)
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    response = await client.get(path, headers={"Accept": accept})
    assert response.status == 200
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()
    assert "shorter than it was" in caplog.text


async def test_who_reads_slowly_gets_all(client, study):
    path, _ = study
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    expected = await (await client.get(path, headers={"Accept": accept})).read()
    with await ask(client, path, 200_000) as connection:
        loop, found = asyncio.get_running_loop(), bytearray()
        while b"\r\n\r\n" not in found or len(found.partition(b"\r\n\r\n")[2]) < len(expected):
            data = await asyncio.wait_for(loop.sock_recv(connection, 50_000), 20)
            assert data
            found += data
    assert bytes(found.partition(b"\r\n\r\n")[2]) == expected


async def test_a_file_that_is_gone_is_an_error_of_its_own(core, client, study):
    path, ds = study
    for file in Path(core.settings.data.dir, "objects").rglob("*.dcm"):
        await asyncio.to_thread(file.unlink)
    for url in (path, path_of(ds), f"{path_of(ds)}/frames/1"):
        response = await client.get(url)
        assert response.status >= 400
        assert set(await response.json()) == {"error"}


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A file with a key and a certificate of 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, *form) + made.public_bytes(pem))
    return path


async def test_over_tls_it_is_the_same(core, client, study, certificate):
    path, ds = study
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    app = await create_app(core, dicom_address="127.0.0.1:11112")
    server = TestServer(app, host="127.0.0.1", scheme="https")
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    await server.start_server(ssl=context)
    async with TestClient(server) as secure:
        for url in (path, path_of(ds)):
            plain = await (await client.get(url, headers=accept)).read()
            host = f"http://{client.host}:{client.port}".encode()
            other = await (await secure.get(url, headers=accept, ssl=False)).read()
            assert len(plain) > len(ds.PixelData)
            assert other == plain.replace(host, f"https://{secure.host}:{secure.port}".encode())
        part = await secure.get(path_of(ds), headers=accept | {"Range": "bytes=100000-2000000"}, ssl=False)
        assert part.status == 206
        whole = await (await secure.get(path_of(ds), headers=accept, ssl=False)).read()
        assert await part.read() == whole[100000:2000001]
