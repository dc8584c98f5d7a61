"""The private mongod: the real binary, started, killed and started again."""

import asyncio
import contextlib
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure

from gateway.config import MongoSettings
from gateway.errors import CatalogueUnavailable, ConfigurationError
from gateway.store import embedded, mongod
from gateway.store.embedded import EmbeddedMongo, running_uri

CANARY = "ZQXCANARY^WILHELMINA"


@pytest.fixture
async def mongo(tmp_path):
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo:
        yield mongo


@pytest.fixture
async def client(mongo):
    async with AsyncMongoClient(mongo.uri) as client:
        yield client


async def test_transactions(client):
    rows = client.test.rows
    async with client.start_session() as session:
        async with await session.start_transaction():
            await rows.insert_one({"_id": 1}, session=session)
        with contextlib.suppress(ZeroDivisionError):
            async with await session.start_transaction():
                await rows.insert_one({"_id": 2}, session=session)
                raise ZeroDivisionError
    assert [row["_id"] async for row in rows.find()] == [1]


async def test_change_streams(client):
    async with await client.test.watch() as stream:
        await client.test.rows.insert_one({"_id": "new"})
        async with asyncio.timeout(10):
            change = await stream.next()
    assert change["documentKey"] == {"_id": "new"}


async def test_a_wrong_password_is_refused(mongo):
    good = embedded._password(mongo._key)
    for uri in (mongo.uri.replace(good, "wrong"), mongo.uri.replace(f"isthmus:{good}@", "")):
        async with AsyncMongoClient(uri) as client:
            with pytest.raises(OperationFailure, match=r"[Aa]uthentication"):
                await client.test.rows.find_one()


async def test_nobody_can_make_an_account(client, mongo):
    """Neither over the localhost exception nor with the gateway's own rights."""
    with pytest.raises(OperationFailure, match="not authorized"):
        await client.admin.command("createUser", "mallory", pwd="x", roles=["root"])
    async with AsyncMongoClient("127.0.0.1", mongo._port, directConnection=True) as anonymous:
        with pytest.raises(OperationFailure, match="requires authentication"):
            await anonymous.admin.command("createUser", "mallory", pwd="x", roles=["root"])


def test_the_key_is_private(mongo, tmp_path):
    assert stat.S_IMODE((tmp_path / "secrets" / "mongod.key").stat().st_mode) == 0o600
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("secrets", "mongo")} == {0o700}
    arguments = Path(f"/proc/{mongo._process.pid}/cmdline").read_text()
    assert embedded._password(mongo._key) not in arguments
    assert mongo._key not in arguments


async def test_a_restart_keeps_data_and_address(tmp_path):
    uris = []
    for expected in range(2):
        async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo, AsyncMongoClient(mongo.uri) as client:
            assert await client.test.rows.count_documents({}) == expected
            await client.test.rows.insert_one({})
            uris.append(mongo.uri)
    assert uris[0] == uris[1]


async def test_a_taken_port_and_a_lost_key_are_replaced(tmp_path):
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo, AsyncMongoClient(mongo.uri) as client:
        await client.test.rows.insert_one({"_id": "kept"})
        port = mongo._port
    (tmp_path / "secrets" / "mongod.key").unlink()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with server, EmbeddedMongo(MongoSettings(), tmp_path) as mongo, AsyncMongoClient(mongo.uri) as client:
        assert mongo._port != port
        assert await client.test.rows.find_one() == {"_id": "kept"}


async def test_a_killed_mongod_is_started_again(mongo, client):
    await client.test.rows.insert_one({"_id": "acknowledged"})
    first = mongo._process.pid
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await client.test.rows.find_one() == {"_id": "acknowledged"}
        await client.test.rows.insert_one({"_id": "after"})
    assert mongo._process.pid != first


async def test_running_uri(tmp_path):
    assert running_uri(tmp_path) is None
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo:
        assert await asyncio.to_thread(running_uri, tmp_path) == mongo.uri
    assert running_uri(tmp_path) is None


async def test_a_second_gateway_is_refused(mongo, tmp_path):
    with pytest.raises(ConfigurationError, match="in use by another running gateway"):
        async with EmbeddedMongo(MongoSettings(), tmp_path):
            pass


async def test_a_killed_gateway_leaves_no_mongod(tmp_path):
    """And what it had acknowledged is there at the next start, which does not wait for the old mongod to be gone."""
    gateway, pid = await start_gateway(tmp_path)
    gateway.kill()
    await gateway.wait()
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo, AsyncMongoClient(mongo.uri) as client:
        assert await client.test.rows.find_one() == {"_id": "acknowledged"}
        assert not is_mongod(pid)


async def test_a_killed_gateways_mongod_ends_by_itself(tmp_path):
    gateway, pid = await start_gateway(tmp_path)
    gateway.kill()
    await gateway.wait()
    deadline = time.monotonic() + 10
    while is_mongod(pid):
        assert time.monotonic() < deadline, "mongod outlived its gateway"
        await asyncio.sleep(0.05)


async def test_a_leftover_is_ended(tmp_path, monkeypatch):
    """A mongod whose parent died without the kernel telling it, as if its parent had run in another namespace."""
    monkeypatch.setattr(mongod, "_WRAPPER", mongod._WRAPPER.replace("prctl(1, 15)", "prctl(1, 0)"))
    orphan = EmbeddedMongo(MongoSettings(), tmp_path)
    await orphan.__aenter__()
    os.close(orphan._lock)
    orphan._lock = None
    orphan._supervisor.cancel()
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo:
        assert await orphan._process.wait() == 0
        assert mongo._process.returncode is None
    await orphan._stop()


async def test_another_process_with_a_stale_number_is_left_alone(tmp_path):
    async with EmbeddedMongo(MongoSettings(), tmp_path):
        pass
    (tmp_path / "mongo" / "mongod.lock").write_text(str(os.getpid()))
    async with EmbeddedMongo(MongoSettings(), tmp_path):
        pass


async def test_stop_is_quick(mongo):
    begun = time.monotonic()
    await mongo._stop()
    assert time.monotonic() - begun < 5
    await mongo._stop()


async def test_no_document_reaches_the_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "gateway.store.mongod")
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo, AsyncMongoClient(mongo.uri) as client:
        await do_what_mongod_likes_to_quote(client.test.rows)
    assert "mongod" in caplog.text
    assert CANARY not in caplog.text
    assert embedded._password(mongo._key) not in caplog.text


async def do_what_mongod_likes_to_quote(rows):
    """Slow and failing commands, and duplicate keys."""
    await rows.create_index("name", unique=True)
    await rows.insert_one({"name": CANARY})
    with pytest.raises(DuplicateKeyError):
        await rows.insert_one({"name": CANARY})
    with pytest.raises(OperationFailure):
        await rows.find_one({"$where": f"sleep(300) || '{CANARY}'"}, max_time_ms=100)
    with pytest.raises(OperationFailure):
        await rows.update_one({"name": CANARY}, {"$inc": {"name": 1}})
    with pytest.raises(OperationFailure):
        await rows.find_one({"name": {"$bad": CANARY}})
    await rows.find_one({"$where": f"sleep(300) || '{CANARY}'"})


@pytest.mark.parametrize("path", ["missing", "folder"])
async def test_a_wrong_binary_is_said(tmp_path, path):
    (tmp_path / "folder.txt").touch()
    with pytest.raises(ConfigurationError, match=r"mongodb\.binary"):
        async with EmbeddedMongo(MongoSettings(binary=tmp_path / path), tmp_path):
            pass


async def test_no_binary_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ConfigurationError, match=r"isthmus\[embedded\]"):
        async with EmbeddedMongo(MongoSettings(), tmp_path):
            pass


async def test_a_missing_library_is_named_with_its_package(tmp_path, monkeypatch):
    """A copy of the binary that asks for libraries that are not there."""
    binary = tmp_path / "mongod"
    await asyncio.to_thread(copy_with_other_library, binary)
    monkeypatch.setitem(mongod._PACKAGES, "libcurl.so.9", "libcurl9")
    with pytest.raises(ConfigurationError, match=r"libcurl\.so\.9.*apt-get install libcurl9"):
        async with EmbeddedMongo(MongoSettings(binary=binary), tmp_path):
            pass


async def test_a_failed_start_frees_the_folder(tmp_path):
    with pytest.raises(CatalogueUnavailable, match="exit code 1"):
        async with EmbeddedMongo(MongoSettings(binary=Path("/bin/false")), tmp_path):
            pass
    async with EmbeddedMongo(MongoSettings(), tmp_path) as mongo:
        assert mongo.uri


def copy_with_other_library(target):
    source = mongod.find_binary(MongoSettings()).read_bytes()
    target.write_bytes(source.replace(b"libcurl.so.4\0", b"libcurl.so.9\0"))
    target.chmod(0o700)


GATEWAY = """
import asyncio, sys
from pathlib import Path
from pymongo import AsyncMongoClient
from gateway.config import MongoSettings
from gateway.store.embedded import EmbeddedMongo

async def main():
    async with EmbeddedMongo(MongoSettings(), Path(sys.argv[1])) as mongo, AsyncMongoClient(mongo.uri) as client:
        await client.test.rows.insert_one({"_id": "acknowledged"})
        print(mongo._process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def start_gateway(data_dir):
    """A process that holds a private mongod, and the number of the latter."""
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", GATEWAY, str(data_dir), stdout=subprocess.PIPE)
    return gateway, int(await gateway.stdout.readline())


def is_mongod(pid):
    try:
        return b"mongod" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
