"""QIDO-RS searches on the catalogue: a Query becomes indexed conditions, the rows found become DICOM JSON items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pymongo.errors import ExecutionTimeout

from dicomweb.errors import TooLarge
from dicomweb.ports import SearchPage
from dicomweb.query import UNIQUE_KEYS, AnyOf, Match, Query
from dicomweb.resource import Level
from gateway.store import derived, driver, items
from gateway.store.conditions import Condition, all_of, conditions
from gateway.store.scheme import PARTS, Scheme

_TOO_BROAD = "The search is too broad: narrow it by further keys."
_SORT = {
    Level.STUDY: [("sort", -1), ("_id", 1)],
    Level.SERIES: [("study_uid", 1), ("series_uid", 1)],
    Level.INSTANCE: [("study_uid", 1), ("series_uid", 1), ("number", 1), ("_id", 1)],
}
_COLLECTION = {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}
#: What the rows of a level call the UIDs of their own and of upper levels.
_IDENTITY = {
    Level.STUDY: {Level.STUDY: "_id"},
    Level.SERIES: {Level.STUDY: "study_uid", Level.SERIES: "series_uid"},
    Level.INSTANCE: {Level.STUDY: "study_uid", Level.SERIES: "series_uid", Level.INSTANCE: "_id"},
}
_IN_ONE_TEXT = frozenset(path[0] + "s" for path in PARTS)
_DERIVED: Condition = {"derived": {"$exists": True}}
Run = Callable[..., Awaitable[Any]]
Index = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Breadth:
    """What a search may take before it is too broad (PS3.18 Table 10.6.3-1, 413).

    `max_parents` studies or series may match the keys of upper levels; `max_matches` items may match in all, 0 for any
    number; `timeout_s` is the time of one question to the catalogue.
    """

    max_parents: int = 10_000
    max_matches: int = 0
    timeout_s: float = 10.0


async def _at_once(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


async def search(
    db: Any, query: Query, scheme: Scheme | None = None, breadth: Breadth | None = None, run: Run = _at_once
) -> SearchPage:
    """Answer a query; every write acknowledged before is seen.

    Raises
    ------
    TooLarge : it matches too much, or takes too long.
    """
    scheme = scheme or Scheme()
    await derived.refresh(db, scheme, query.study_uid)
    async with driver.wrapped():
        try:
            return await _Search(db, query, scheme, breadth or Breadth(), run).answer()
        except ExecutionTimeout:
            raise TooLarge("The search takes too long: narrow it by further keys.") from None


class _Search:
    """One search while it is answered."""

    def __init__(self, db: Any, query: Query, scheme: Scheme, breadth: Breadth, run: Run) -> None:
        self._db = db
        self._query = query
        self._scheme = scheme
        self._breadth = breadth
        self._run = run
        self._timeout_ms = int(breadth.timeout_s * 1000)

    async def answer(self) -> SearchPage:
        """Find the page, count the rest, and make items of the page."""
        query = self._query
        condition = await self._condition()
        index = self._covering(condition)
        found = await self._page(condition, index)
        total = query.offset + len(found)
        if len(found) == query.limit or (query.offset and not found):
            total = await self._count(condition, index)
        if 0 < self._breadth.max_matches < total:
            raise TooLarge(_TOO_BROAD)
        parents = await self._parents(found)
        if items.wants_all(query):
            page = await self._run(items.items, query, found, parents)
        else:
            page = items.items(query, found, parents)
        return SearchPage(page, max(0, total - query.offset - len(found)))

    async def _page(self, condition: Condition, index: Index | None) -> list[dict[str, Any]]:
        """The rows of the page. With an index that covers the question only those rows are read that are answered."""
        query = self._query
        collection = self._db[_COLLECTION[query.level]]
        options = {"sort": _SORT[query.level], "skip": query.offset, "limit": query.limit}
        options["max_time_ms"] = self._timeout_ms
        if index is None:
            rows: list[dict[str, Any]] = await collection.find(condition, items.fields(query), **options).to_list(None)
            return rows
        found = await collection.find(condition, {"_id": 1, "sort": 1}, hint=index, **options).to_list(None)
        identities = [row["_id"] for row in found]
        cursor = collection.find({"_id": {"$in": identities}}, items.fields(query))
        by_identity = {row["_id"]: row async for row in cursor}
        return [by_identity[identity] for identity in identities if identity in by_identity]

    def _covering(self, condition: Condition) -> Index | None:
        """The index that answers which studies hold a part of a text, and in which order, if nothing else is asked."""
        clauses = condition.get("$and", [])
        if self._query.level is Level.STUDY and len(clauses) == 1:
            ((field, _),) = clauses[0].items()
            if field.removeprefix("keys.") in _IN_ONE_TEXT:
                return [(field, 1), *_SORT[Level.STUDY]]
        return None

    async def _count(self, condition: Condition, index: Index | None) -> int:
        options: dict[str, Any] = {"maxTimeMS": self._timeout_ms}
        if self._breadth.max_matches:
            options["limit"] = self._breadth.max_matches + 1
        if index is not None:
            options["hint"] = index
        return int(await self._db[_COLLECTION[self._query.level]].count_documents(condition, **options))

    async def _condition(self) -> Condition:
        """The condition on the rows of the query's level; upper keys narrow it to their studies and series."""
        level = self._query.level
        clauses = self._named(level) + self._of(level)
        if level is not Level.STUDY and (studies := self._of(Level.STUDY)):
            found = await self._identities(Level.STUDY, self._named(Level.STUDY) + studies)
            clauses.append({"study_uid": {"$in": [row["_id"] for row in found]}})
        if level is Level.INSTANCE and (series := self._of(Level.SERIES)):
            upper = [clause for clause in clauses if "study_uid" in clause]
            found = await self._identities(Level.SERIES, upper + self._named(Level.SERIES) + series)
            clauses.append({"study_uid": {"$in": sorted({row["study_uid"] for row in found})}})
            clauses.append({"series_uid": {"$in": [row["series_uid"] for row in found]}})
        if level is not Level.INSTANCE and not self._of(level):  # a row that is not derived yet has no keys
            clauses.append(_DERIVED)
        return all_of(clauses)

    async def _identities(self, level: Level, clauses: list[Condition]) -> list[dict[str, Any]]:
        limit = self._breadth.max_parents
        cursor = self._db[_COLLECTION[level]].find(
            all_of([*clauses, _DERIVED]),
            {"study_uid": 1, "series_uid": 1},
            limit=limit + 1,
            max_time_ms=self._timeout_ms,
        )
        found: list[dict[str, Any]] = await cursor.to_list(None)
        if len(found) > limit:
            raise TooLarge(_TOO_BROAD)
        return found

    def _named(self, rows: Level) -> list[Condition]:
        """Conditions on the UIDs in the rows of a level, from the path and from match parameters."""
        found: list[Condition] = []
        for level, field in _IDENTITY[rows].items():
            fixed = {Level.STUDY: self._query.study_uid, Level.SERIES: self._query.series_uid}.get(level)
            if fixed is not None:
                found.append({field: fixed})
            for path, match in self._query.matches:
                if path == UNIQUE_KEYS[level]:
                    found.append({field: {"$in": list(match.values) if isinstance(match, AnyOf) else []}})
        return found

    def _of(self, level: Level) -> list[Condition]:
        """Conditions on the other keys of a level."""
        keys = self._scheme.keys
        matches: list[tuple[tuple[str, ...], Match]] = [
            (path, match)
            for path, match in self._query.matches
            if keys[path].level is level and path not in UNIQUE_KEYS.values()
        ]
        return [one for one in conditions(matches, keys, fuzzy=self._query.fuzzy) if one]

    async def _parents(self, found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Attributes of the studies and series that the found rows belong to, by their row identity."""
        if self._query.level is Level.STUDY:
            return {}
        parents = await self._attributes("studies", {row["study_uid"] for row in found})
        if self._query.level is Level.INSTANCE:
            series = {f"{row['study_uid']}/{row['series_uid']}" for row in found}
            parents |= await self._attributes("series", series)
        return parents

    async def _attributes(self, collection: str, identities: set[str]) -> dict[str, dict[str, Any]]:
        cursor = self._db[collection].find({"_id": {"$in": sorted(identities)}}, {"attributes": 1})
        return {row["_id"]: row["attributes"] async for row in cursor if "attributes" in row}
