"""The one place that knows which MongoDB driver is in use: PyMongo's asyncio client, or Motor where it is asked for.

The two differ in what must be awaited; the functions below hide that. Everything else is the same API.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from gateway.config import MongoSettings
from gateway.errors import CatalogueUnavailable, ConfigurationError

T = TypeVar("T")
#: An acknowledged write survives the loss of power and of a primary.
DURABLE = WriteConcern(w="majority", j=True)
_TRANSACTION_TIMEOUT_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.1
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "maxPoolSize": 32,
    "retryWrites": True,
    "appname": "isthmus",
    "tz_aware": True,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """The clients of one MongoDB: `client` for tasks of the running event loop, `blocking` for worker threads."""

    client: Any
    blocking: MongoClient[dict[str, Any]]


def connect(settings: MongoSettings, uri: str) -> Connection:
    """Make clients, which connect when first used."""
    blocking: MongoClient[dict[str, Any]] = MongoClient(uri, connect=False, **_OPTIONS)
    if settings.driver == "motor":
        try:
            from motor.motor_asyncio import AsyncIOMotorClient
        except ImportError as exc:
            raise ConfigurationError(
                "mongodb.driver = \"motor\" needs the package: pip install 'isthmus[motor]'."
            ) from exc
        return Connection(AsyncIOMotorClient(uri, **_OPTIONS), blocking)
    from pymongo import AsyncMongoClient

    return Connection(AsyncMongoClient(uri, **_OPTIONS), blocking)


def database(client: Any, name: str) -> Any:
    """The database, with durable writes and reads from the primary of what a majority holds."""
    return client.get_database(
        name, write_concern=DURABLE, read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
    )


async def close(connection: Connection) -> None:
    """Close the clients; Motor's blocks."""
    await _awaited(await asyncio.to_thread(connection.client.close))
    await asyncio.to_thread(connection.blocking.close)


async def aggregate(
    collection: Any, pipeline: Sequence[Mapping[str, Any]], session: Any = None
) -> list[dict[str, Any]]:
    """Run an aggregation and return all of its documents."""
    cursor = await _awaited(collection.aggregate(pipeline, session=session))
    return list(await cursor.to_list(None))


@asynccontextmanager
async def watch(collection: Any, pipeline: Sequence[Mapping[str, Any]], **options: Any) -> AsyncIterator[Any]:
    """Open a change stream on a collection or a database."""
    stream = await _awaited(collection.watch(pipeline, **options))
    async with stream:
        yield stream


async def transaction(client: Any, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run `work(session)` in a durable transaction, again from its start when another writer was faster.

    The driver's own `with_transaction` goes on for two minutes when no server can be found; this one gives up at once.
    """
    deadline = time.monotonic() + _TRANSACTION_TIMEOUT_S
    pause_s = _FIRST_PAUSE_S
    async with await _awaited(client.start_session()) as session:
        while True:
            try:
                return await _attempt(session, work, deadline)
            except PyMongoError as exc:
                if not _may_retry(exc, "TransientTransactionError", deadline):
                    raise
            await asyncio.sleep(pause_s * (0.5 + secrets.randbelow(1024) / 1024))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _attempt(session: Any, work: Callable[[Any], Awaitable[T]], deadline: float) -> T:
    """Do the work once and commit it; a commit whose answer was lost is asked for again, which does no harm."""
    await _awaited(
        session.start_transaction(
            read_concern=ReadConcern("snapshot"), write_concern=DURABLE, read_preference=ReadPreference.PRIMARY
        )
    )
    try:
        result = await work(session)
    except BaseException:
        with suppress(PyMongoError):
            await session.abort_transaction()
        raise
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as exc:
            if not _may_retry(exc, "UnknownTransactionCommitResult", deadline):
                raise
        else:
            return result


def _may_retry(exc: PyMongoError, label: str, deadline: float) -> bool:
    lost = isinstance(exc, ServerSelectionTimeoutError)
    return exc.has_error_label(label) and not lost and time.monotonic() < deadline


@asynccontextmanager
async def wrapped() -> AsyncIterator[None]:
    """Turn the driver's errors into CatalogueUnavailable: what they quote stays in the chain, never in an answer."""
    try:
        yield
    except PyMongoError as exc:
        raise CatalogueUnavailable from exc


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
