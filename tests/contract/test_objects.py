"""The object store contract on every backend: the file system, and S3 on two real servers."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import boto3
import botocore.loaders
import botocore.session
import pytest

from dicomweb.errors import OutOfSpace
from gateway.config import S3Settings
from gateway.errors import ConfigurationError, ObjectNotFound, StoreUnavailable
from gateway.store.cached import CachedStore
from gateway.store.filesystem import FileSystemStore
from gateway.store.objects import new_key
from gateway.store.s3 import S3Store
from gateway.store.testing import ObjectStoreContract
from gateway.threads import Threads
from gateway.workers import Workers

ACCESS_KEY, SECRET_KEY = "isthmus-tests", "isthmus-tests-secret"


@pytest.fixture(scope="module", autouse=True)
def one_loader():
    """Let the first store read botocore's tables, and all others have them: each would take 0.2 s to do so again."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda _=None: loader)
        yield


@asynccontextmanager
async def threads(most):
    workers = Threads(most, "io")
    yield workers
    await asyncio.to_thread(workers.close)


class TestFileSystemStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        self.root = tmp_path / "objects"
        async with threads(8) as workers:
            store = FileSystemStore(self.root, workers)
            await store.start()
            yield store
            await store.close()

    async def raw_get(self, key):
        def get():
            return (self.root / key).read_bytes() if (self.root / key).exists() else None

        return await asyncio.to_thread(get)

    async def raw_set(self, key, data):
        def put():
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            (self.root / key).write_bytes(data)

        await asyncio.to_thread(put)

    async def test_only_the_owner_may_read(self, store):
        key = new_key()
        await store.put(key, b"private")
        path = self.root / key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent, self.root)} == {
            0o700
        }

    async def test_data_and_every_new_directory_are_synced_before_commit_returns(self, store, monkeypatch):
        synced = []
        for name in ("fsync", "fdatasync"):
            real = getattr(os, name)
            monkeypatch.setattr(
                os, name, lambda fd, real=real: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))
            )
        key = new_key()
        await store.put(key, b"durable")
        path = self.root / key
        assert synced[0] == str(path), "the data first"
        assert set(synced[1:]) == {str(path.parent), str(path.parent.parent), str(self.root)}

    async def test_concurrent_commits_share_directory_syncs(self, store, monkeypatch):
        synced = []
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd)))
        await asyncio.gather(*(store.put(new_key(), b"x") for _ in range(64)))
        assert 3 <= len(synced) < 64

    async def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        async with threads(2) as workers:
            store = FileSystemStore(tmp_path / "objects", workers)
            await store.start()
            monkeypatch.setattr(os, "write", full)
            key = new_key()
            with pytest.raises(OutOfSpace):
                await store.put(key, b"data")
            await store.close()
        assert not (tmp_path / "objects" / key).exists()

    async def test_a_lost_mount_is_not_written_over(self, store):
        self.root.rename(self.root.with_name("elsewhere"))
        with pytest.raises(StoreUnavailable, match="mounted"):
            await store.put(new_key(), b"data")
        assert not self.root.exists()

    async def test_a_file_removed_while_it_is_written_is_not_committed(self, store):
        key = new_key()
        writer = await store.create(key)
        await writer.write(bytes(2 << 20))
        (self.root / key).unlink()
        await writer.write(b"more")
        with pytest.raises(StoreUnavailable, match="removed"):
            await writer.commit()
        await writer.abort()
        assert await self.raw_get(key) is None

    async def test_a_folder_that_cannot_be_made_is_a_configuration_error(self, tmp_path):
        (tmp_path / "file").touch()
        async with threads(1) as workers:
            store = FileSystemStore(tmp_path / "file" / "objects", workers)
            with pytest.raises(ConfigurationError, match="Not a directory"):
                await store.start()

    async def test_strange_files_are_reported(self, store, caplog):
        key = new_key()
        await store.put(key, b"data")
        (self.root / key).with_name("README").touch()
        assert [info.key async for info in store.list(older_than=timedelta(seconds=-5))] == [key]
        assert "1 files" in caplog.text


class S3Contract(ObjectStoreContract):
    max_memory_bytes = 48 << 20

    @pytest.fixture(scope="class")
    @classmethod
    def raw(cls, server):
        with closing(
            boto3.client(
                "s3",
                endpoint_url=server,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                region_name="us-east-1",
            )
        ) as client:
            yield client

    @pytest.fixture
    async def remote(self, server, raw):
        self.settings = S3Settings(
            endpoint_url=server,
            bucket=f"b{time.time_ns()}",
            prefix="isthmus",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
        )
        self.raw = raw
        self.raw.create_bucket(Bucket=self.settings.bucket)
        store = S3Store(self.settings)
        await store.start()
        yield store
        await store.close()

    @pytest.fixture
    async def store(self, remote):
        return remote

    async def raw_get(self, key):
        def get():
            try:
                return self.raw.get_object(Bucket=self.settings.bucket, Key=f"isthmus/{key}")["Body"].read()
            except self.raw.exceptions.NoSuchKey:
                return None

        return await asyncio.to_thread(get)

    async def raw_set(self, key, data):
        await asyncio.to_thread(self.raw.put_object, Bucket=self.settings.bucket, Key=f"isthmus/{key}", Body=data)

    async def test_abort_ends_the_upload(self, store):
        writer = await store.create(new_key())
        await writer.write(bytes(20_000_000))
        await writer.abort()
        assert "Uploads" not in self.raw.list_multipart_uploads(Bucket=self.settings.bucket)

    async def test_the_probe_leaves_nothing(self, store):
        assert "Contents" not in self.raw.list_objects_v2(Bucket=self.settings.bucket)

    async def test_a_missing_bucket_is_a_configuration_error(self, store):
        other = S3Store(replace(self.settings, bucket="missing"))
        with pytest.raises(ConfigurationError, match=r"missing.* does not exist"):
            await other.start()
        await other.close()

    async def test_list_pages(self, store, remote, monkeypatch):
        keys = {new_key() for _ in range(7)}
        for key in keys:
            await self.raw_set(key, b"")
        self.raw.put_object(Bucket=self.settings.bucket, Key="another/program", Body=b"")
        real = remote._bucket.client.get_paginator

        def small_pages(operation):
            paginator = real(operation)
            paginate = paginator.paginate
            paginator.paginate = lambda **arguments: paginate(**arguments, PaginationConfig={"PageSize": 3})
            return paginator

        monkeypatch.setattr(remote._bucket.client, "get_paginator", small_pages)
        assert {info.key async for info in store.list(older_than=timedelta(minutes=-1))} == keys


class TestNanio(S3Contract):
    refuses_used_keys = False

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory):
        environ = {**os.environ, "NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
        folder = tmp_path_factory.mktemp("nanio")
        arguments = ["-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--no-access-log"]
        yield from serve(arguments, environ, folder)

    async def test_wrong_credentials_are_a_configuration_error(self, store):
        other = S3Store(replace(self.settings, secret_access_key="wrong"))
        with pytest.raises(ConfigurationError, match="SignatureDoesNotMatch"):
            await other.start()
        await other.close()


class TestMoto(S3Contract):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory):
        yield from serve(["-m", "moto.server", "-H", "127.0.0.1"], dict(os.environ), tmp_path_factory.mktemp("moto"))


class Cached:
    """The same behind a cache, which must not show but for its files."""

    #: What is written is remembered up to 8 MiB for the cache.
    max_memory_bytes = 56 << 20

    @pytest.fixture
    async def store(self, remote, tmp_path):
        workers = Workers()
        store = CachedStore(remote, tmp_path / "cache", 1 << 30, workers)
        await store.start()
        yield store
        await store.close()
        await workers.close()

    async def test_a_file_is_offered_where_supported(self, store):
        key = new_key()
        await self.raw_set(key, b"mapped")
        file = await store.open(key, 6).file()
        with closing(file):
            assert await asyncio.to_thread(os.pread, file.fileno(), 6, 0) == b"mapped"
        await store.delete(key)
        with pytest.raises(ObjectNotFound):
            await store.open(key, 6).file()


class TestCachedNanio(Cached, TestNanio):
    pass


class TestCachedMoto(Cached, TestMoto):
    pass


async def test_no_server_is_said_as_such():
    settings = S3Settings(
        endpoint_url=f"http://127.0.0.1:{free_port()}", bucket="b", access_key_id="a", secret_access_key="b"
    )
    store = S3Store(settings)
    with pytest.raises(StoreUnavailable, match="EndpointConnectionError"):
        await store.start()
    await store.close()


class TestCredentialsOfAws:
    """Without credentials in the settings."""

    @pytest.fixture(autouse=True)
    def nothing_blocks(self):
        """Not checked here: botocore's chain looks for its small files in the event loop, once, at start."""

    async def test_are_said_to_be_missing(self, monkeypatch, tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        store = S3Store(S3Settings(endpoint_url=f"http://127.0.0.1:{free_port()}", bucket="b"))
        with pytest.raises(ConfigurationError, match=r"storage\.s3\.access_key_id"):
            await store.start()
        await store.close()


def test_credentials_are_not_shown():
    settings = S3Settings(access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
    assert SECRET_KEY not in repr(settings)
    assert ACCESS_KEY not in repr(settings)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(arguments, environ, folder):
    """Run a server on a free port until the tests of the class are done; fail if it does not start."""
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments, "--port", str(port)], env=environ, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the S3 server did not start"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
