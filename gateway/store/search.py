"""QIDO-RS searches on the catalogue: a Query becomes indexed conditions, the rows found become DICOM JSON items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pymongo.errors import ExecutionTimeout

from dicomweb.errors import TooLarge
from dicomweb.ports import JsonDataSet, SearchPage
from dicomweb.query import UNIQUE_KEYS, AnyOf, Match, Query
from dicomweb.ready import ReadyItems
from dicomweb.resource import Level
from gateway.store import driver, items
from gateway.store.catalogue import Catalogue
from gateway.store.conditions import Condition, all_of, conditions, in_order
from gateway.store.scheme import PARTS, Scheme

#: Results after a page that are counted: a million take half a second.
_COUNTED = 1000
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
Run = Callable[..., Awaitable[Any]]
Index = list[tuple[str, int]]
Document = dict[str, Any]


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


async def search(catalogue: Catalogue, query: Query, breadth: Breadth | None = None, run: Run = _at_once) -> SearchPage:
    """Answer a query; every write acknowledged before is seen.

    Raises
    ------
    TooLarge : it matches too much, or takes too long.
    """
    await catalogue.complete(query.study_uid)
    async with driver.wrapped():
        try:
            return await _Search(catalogue.db, query, catalogue.scheme, breadth or Breadth(), run).answer()
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
        """Find the page and one more, count the rest if there is one, and make items of the page."""
        query = self._query
        condition = await self._condition()
        index = self._covering(condition)
        if index is None:
            rows = await self._rows(condition, items.fields(query), limit=query.limit + 1)
            found = rows[: query.limit]
            after = await self._count(condition) if len(rows) > query.limit else 0
        else:
            found, after = await self._covered(condition, index)
        if 0 < self._breadth.max_matches < query.offset + len(found) + after:
            raise TooLarge(_TOO_BROAD)
        return SearchPage(await self._items(found), min(after, self._bound), after <= self._bound)

    async def _items(self, found: list[dict[str, Any]]) -> Sequence[JsonDataSet]:
        if items.are_ready(self._query):
            return ReadyItems([row["item"] for row in found])
        parents = await self._parents(found)
        if self._query.level is Level.INSTANCE:  # each is decompressed and parsed
            return cast("list[JsonDataSet]", await self._run(items.items, self._query, found, parents))
        return items.items(self._query, found, parents)

    async def _rows(self, condition: Condition, fields: dict[str, int], *, limit: int, **more: Any) -> list[Document]:
        """The first rows of those that match, in order, in one reply."""
        query = self._query
        sort = _SORT[query.level]
        if query.level is Level.INSTANCE and query.study_uid is None:
            sort = [("_id", 1)]  # of all studies: the order in which the indexes of keys end
        cursor = self._db[_COLLECTION[query.level]].find(
            condition, fields, sort=sort, skip=query.offset, limit=limit, batch_size=limit + 1,
            max_time_ms=self._timeout_ms, **more,
        )  # fmt: skip
        found: list[Document] = await cursor.to_list(None)
        return found

    async def _covered(self, condition: Condition, index: Index) -> tuple[list[Document], int]:
        """The page, and how many are after it, by one look through an index; only rows that are answered are read."""
        query = self._query
        fields = {"_id": 1, "sort": 1}
        matching = await self._rows(condition, fields, limit=query.limit + self._bound + 1, hint=index)
        identities = [row["_id"] for row in matching[: query.limit]]
        cursor = self._db[_COLLECTION[query.level]].find(
            {"_id": {"$in": identities}}, items.fields(query) | {"_id": 1}, batch_size=query.limit + 1
        )
        by_identity = {row["_id"]: row async for row in cursor}
        found = [by_identity[identity] for identity in identities if identity in by_identity]
        return found, max(0, len(matching) - query.limit)

    def _covering(self, condition: Condition) -> Index | None:
        """The index that answers which studies hold a part of a text, and in which order, if nothing else is asked."""
        clauses = condition.get("$and", [])
        if self._query.level is Level.STUDY and len(clauses) == 1:
            ((field, _),) = clauses[0].items()
            if field.removeprefix("keys.") in _IN_ONE_TEXT:
                return [(field, 1), *_SORT[Level.STUDY]]
        return None

    @property
    def _bound(self) -> int:
        """How many matches after the page are counted."""
        return max(_COUNTED, self._breadth.max_matches - self._query.offset - self._query.limit)

    async def _count(self, condition: Condition) -> int:
        """How many match after the page; one more than the bound stands for all that are more."""
        options = {"skip": self._query.offset + self._query.limit, "limit": self._bound + 1}
        rows = self._db[_COLLECTION[self._query.level]]
        return int(await rows.count_documents(condition, maxTimeMS=self._timeout_ms, **options))

    async def _condition(self) -> Condition:
        """The condition on the rows of the query's level; upper keys narrow it to their studies and series."""
        level = self._query.level
        clauses = self._named(level) + self._of(level)
        if level is Level.STUDY:
            clauses += in_order(self._query.matches)
        if level is not Level.STUDY and (studies := self._of(Level.STUDY)):
            found = await self._identities(Level.STUDY, self._named(Level.STUDY) + studies)
            clauses.append({"study_uid": {"$in": [row["_id"] for row in found]}})
        if level is Level.INSTANCE and (series := self._of(Level.SERIES)):
            upper = [clause for clause in clauses if "study_uid" in clause]
            found = await self._identities(Level.SERIES, upper + self._named(Level.SERIES) + series)
            clauses.append({"study_uid": {"$in": sorted({row["study_uid"] for row in found})}})
            clauses.append({"series_uid": {"$in": [row["series_uid"] for row in found]}})
        return all_of(clauses)

    async def _identities(self, level: Level, clauses: list[Condition]) -> list[dict[str, Any]]:
        limit = self._breadth.max_parents
        cursor = self._db[_COLLECTION[level]].find(
            all_of(clauses),
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
