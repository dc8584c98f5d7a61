"""Objects in a bucket of an S3 server, by aiobotocore."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from dicomweb.errors import Conflict, IsthmusError, OutOfSpace
from gateway.config import S3Settings
from gateway.errors import ConfigurationError, ObjectNotFound, StoreUnavailable
from gateway.store.objects import (
    CHUNK_BYTES,
    ObjectInfo,
    ObjectReader,
    ObjectStore,
    ObjectWriter,
    checked_key,
    is_key,
    new_key,
)

logger = logging.getLogger(__name__)
#: Size of an uploaded part; S3 takes no less than 5 MiB and no more than 10 000 of them, so an object may have 78 GiB.
_PART_BYTES = 8 << 20
#: Parts of one object under way at a time; with the one being filled, what a writer holds in memory.
_PARTS_IN_FLIGHT = 2
#: Unfinished uploads older than this were left by a process that died.
_LEFTOVER_AGE = timedelta(days=1)

#: S3 error codes, and the bare status of answers without a body (HEAD) -> what they mean here.
_ERRORS: dict[str, type[IsthmusError]] = {
    "NoSuchKey": ObjectNotFound,
    "NoSuchUpload": ObjectNotFound,
    "404": ObjectNotFound,
    "PreconditionFailed": Conflict,
    "412": Conflict,
    "QuotaExceeded": OutOfSpace,
    "InsufficientStorage": OutOfSpace,
    "XMinioStorageFull": OutOfSpace,
    "507": OutOfSpace,
}


class S3Store(ObjectStore):
    """Objects in one bucket, below an optional prefix.

    Only botocore retries, and only what is safe: every request here has the same effect when sent twice. Where the
    server honours If-None-Match a used key is refused; elsewhere the keys' 128 random bits must do.
    """

    def __init__(self, settings: S3Settings) -> None:
        """Without `access_key_id` the credentials come from AWS's usual chain: environment, files, instance role."""
        self._settings = settings
        self._prefix = f"{prefix}/" if (prefix := settings.prefix.strip("/")) else ""
        self._stack = AsyncExitStack()
        self._bucket = _Bucket(settings.bucket)

    async def start(self) -> None:
        """Connect, see that the bucket can be written, and drop what dead processes left half uploaded."""
        where = f"the bucket {self._settings.bucket} (storage.s3)"
        try:
            session = await asyncio.to_thread(_session)
            self._bucket.client = await self._stack.enter_async_context(_client(session, self._settings))
            await self._bucket.probe(self._name(new_key("probe")))
        except ClientError as exc:
            if _code(exc) == "NoSuchBucket":
                raise ConfigurationError(f"{where.capitalize()} does not exist: create it first.") from exc
            raise ConfigurationError(f"Cannot write to {where}: {_code(exc)}.") from exc
        except (NoCredentialsError, PartialCredentialsError) as exc:
            raise ConfigurationError(
                f"No credentials for {where}: set storage.s3.access_key_id and secret_access_key, or AWS's variables."
            ) from exc
        except BotoCoreError as exc:
            raise StoreUnavailable(f"Cannot reach {where}: {type(exc).__name__}.") from exc
        except ValueError as exc:
            raise ConfigurationError("storage.s3.endpoint_url must be a URL like https://s3.example.org.") from exc
        await self._abort_leftovers()

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def create(self, key: str) -> ObjectWriter:
        """Begin to write; what fits one part is sent by a single request at commit."""
        return _S3Writer(self._bucket, self._name(key))

    def open(self, key: str, size: int) -> ObjectReader:
        """Read by ranged requests."""
        return _S3Reader(self._bucket, self._name(key), size)

    async def delete(self, key: str) -> None:
        """Delete the object."""
        await self._bucket.call("delete_object", self._name(key))

    async def info(self, key: str) -> ObjectInfo:
        """Size and time from a HEAD request."""
        head = await self._bucket.call("head_object", self._name(key))
        return ObjectInfo(key, head["ContentLength"], head["LastModified"])

    async def list(self, *, older_than: timedelta = timedelta(0)) -> AsyncIterator[ObjectInfo]:
        """Page through the bucket below the prefix."""
        cutoff = datetime.now(UTC) - older_than
        strangers = 0
        async for item in self._bucket.pages("list_objects_v2", "Contents", self._prefix):
            key = item["Key"].removeprefix(self._prefix)
            if not is_key(key):
                strangers += 1
            elif item["LastModified"] <= cutoff:
                yield ObjectInfo(key, item["Size"], item["LastModified"])
        if strangers:
            logger.warning("%d keys in the bucket are not objects of this store", strangers)

    def uri(self, key: str) -> str:
        """`s3://bucket/prefix/key`."""
        return f"s3://{self._settings.bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    async def _abort_leftovers(self) -> None:
        cutoff = datetime.now(UTC) - _LEFTOVER_AGE
        try:
            async for upload in self._bucket.pages("list_multipart_uploads", "Uploads", self._prefix):
                if upload["Initiated"] < cutoff:
                    await self._bucket.call("abort_multipart_upload", upload["Key"], UploadId=upload["UploadId"])
        except IsthmusError as exc:
            logger.warning("unfinished uploads could not be looked for: %s", exc.message)


class _Bucket:
    """The client, bound to one bucket; errors of requests become errors of the store."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client: Any = None
        self.create_only: dict[str, str] = {}

    async def call(self, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        with _store_errors():
            answer: dict[str, Any] = await getattr(self.client, operation)(Bucket=self.name, Key=key, **arguments)
            return answer

    async def pages(self, operation: str, member: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
        with _store_errors():
            async for page in self.client.get_paginator(operation).paginate(Bucket=self.name, Prefix=prefix):
                for item in page.get(member, ()):
                    yield item

    async def probe(self, key: str) -> None:
        """Write one object twice: if the second request is refused the server honours If-None-Match."""
        await self.client.put_object(Bucket=self.name, Key=key, Body=b"")
        try:
            await self.client.put_object(Bucket=self.name, Key=key, Body=b"", IfNoneMatch="*")
        except ClientError as exc:
            if _code(exc) in ("PreconditionFailed", "412"):
                self.create_only = {"IfNoneMatch": "*"}
            elif _code(exc) != "NotImplemented":
                raise
        finally:
            await self.client.delete_object(Bucket=self.name, Key=key)


class _S3Reader(ObjectReader):
    def __init__(self, bucket: _Bucket, key: str, size: int) -> None:
        self._bucket = bucket
        self._key = key
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        return b"".join([chunk async for chunk in self.stream(offset, length)])

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        end = self.end(offset, length)
        if end == offset:  # no Range header can ask for nothing
            await self._bucket.call("head_object", self._key)
            return
        answer = await self._bucket.call("get_object", self._key, Range=f"bytes={offset}-{end - 1}")
        with _store_errors():
            async with answer["Body"] as body:
                while chunk := await body.read(CHUNK_BYTES):
                    yield chunk


class _S3Writer(ObjectWriter):
    """Collects one part; a second one makes it a multipart upload, of which a few parts are under way at a time."""

    def __init__(self, bucket: _Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._buffer = io.BytesIO()
        self._size = 0
        self._upload_id = ""
        self._parts: list[asyncio.Task[dict[str, Any]]] = []
        self._slots = asyncio.Semaphore(_PARTS_IN_FLIGHT)
        self._committing: asyncio.Task[None] | None = None
        self._done = False

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self._size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._buffer.write(rest[: _PART_BYTES - self._buffer.tell()]) :]
            if self._buffer.tell() == _PART_BYTES:
                await self._send_part()

    async def commit(self) -> int:
        self._committing = asyncio.create_task(self._finish())
        try:
            await asyncio.shield(self._committing)
        except Conflict:
            self._committing = None  # the object there is not ours, and abort must leave it alone
            raise
        self._done = True
        return self._size

    async def abort(self) -> None:
        if self._done:
            return
        self._done = True
        try:
            await asyncio.shield(self._drop())
        except IsthmusError as exc:
            logger.warning("an aborted object was left for the sweeper: %s", exc.message)

    async def _send_part(self) -> None:
        if not self._upload_id:
            self._upload_id = (await self._bucket.call("create_multipart_upload", self._key))["UploadId"]
        await self._slots.acquire()
        for earlier in self._parts[-_PARTS_IN_FLIGHT:]:
            if earlier.done():
                earlier.result()  # raises what made that part fail
        self._parts.append(asyncio.create_task(self._upload(len(self._parts) + 1, self._take())))

    def _take(self) -> io.BytesIO:
        body, self._buffer = self._buffer, io.BytesIO()
        body.seek(0)
        return body

    async def _upload(self, number: int, body: io.BytesIO) -> dict[str, Any]:
        try:
            answer = await self._bucket.call(
                "upload_part", self._key, UploadId=self._upload_id, PartNumber=number, Body=body
            )
        finally:
            self._slots.release()
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _finish(self) -> None:
        if not self._upload_id:
            await self._create("put_object", Body=self._take())
            return
        if self._buffer.tell():
            await self._send_part()
        parts = await asyncio.gather(*self._parts)
        await self._create("complete_multipart_upload", UploadId=self._upload_id, MultipartUpload={"Parts": parts})

    async def _create(self, operation: str, **arguments: Any) -> None:
        """Make the object. A retry that is told that it exists, or that the upload is over, may be our own success."""
        try:
            await self._bucket.call(operation, self._key, **arguments, **self._bucket.create_only)
        except IsthmusError as exc:
            if not _retried(exc.__cause__):
                raise
            head = await self._bucket.call("head_object", self._key)
            if head["ContentLength"] != self._size:
                raise

    async def _drop(self) -> None:
        """Undo what was sent. Requests under way are waited for: if cancelled they may still take effect, and later."""
        await asyncio.gather(*self._parts, *filter(None, [self._committing]), return_exceptions=True)
        if self._upload_id:
            with suppress(ObjectNotFound):  # it was completed after all
                await self._bucket.call("abort_multipart_upload", self._key, UploadId=self._upload_id)
        if self._committing is not None:
            await self._bucket.call("delete_object", self._key)


def _session() -> AioSession:
    """A session that has read AWS's configuration and credentials files: opening a client would block to do so."""
    session = get_session()
    _ = session.full_config
    return session


def _client(session: AioSession, settings: S3Settings) -> Any:
    """The client as a context manager that opens it."""
    config = AioConfig(
        max_pool_connections=settings.max_connections,
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        # Many servers refuse the checksums in trailers that are the default since 2025; TLS or signatures do as well.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
        warm_up_loader_caches=True,  # reads its tables of services in a thread
    )
    return session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=settings.secret_access_key or None,
        config=config,
    )


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        known = _ERRORS.get(_code(exc))
        raise known() if known else StoreUnavailable(f"The object store failed: {_code(exc)}.") from exc
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as exc:
        raise StoreUnavailable from exc


def _code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


def _retried(exc: BaseException | None) -> bool:
    return isinstance(exc, ClientError) and exc.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
