"""A QIDO-RS search as data (PS3.18 section 8.3.4): what is matched, what is returned, which page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dicomweb.matching import vr_of
from dicomweb.resource import Level

#: A tag, or a path into sequences, as upper-case hex: ("00100010",) or ("00400275", "00400009").
TagPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Single value or list matching (PS3.4 C.2.2.2.1, C.2.2.2.2): the attribute has one of these values."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Multiple value matching (PS3.4 C.2.2.2.8): the attribute has each of these values, in any order."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Wild card matching (PS3.4 C.2.2.2.4): `*` any run, `?` any one character."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Between:
    """Range matching of DA, TM or DT (PS3.4 C.2.2.2.5), both ends included; None is open."""

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class Span:
    """Ranges of a date and of its time as one span (PS3.4 C.2.2.2.5, combined date-time matching).

    It stands under the path of the date; the ends are dates followed by times.
    """

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class Empty:
    """Empty value matching (PS3.4 C.2.2.2.7): the attribute is absent or has no value."""


Match = AnyOf | AllOf | Wildcard | Between | Span | Empty


@dataclass(frozen=True, slots=True)
class Query:
    """One search.

    Attributes
    ----------
    level : of the items that are returned.
    study_uid, series_uid : from the request path; None for a relational search.
    matches : attribute -> matching, all of which must hold. Only attributes that the search may match occur.
    include : attributes asked for beyond the default set of the level; None means `includefield=all`.
    limit, offset : the page, in items; `limit` is at least 1.
    fuzzy : person names match by the words that they begin with or sound like (PS3.4 C.2.2.2.1.1).
    creators : Private Creator elements given beside private tags of `include` (PS3.18 section 8.3.4.3).
    """

    level: Level
    study_uid: str | None = None
    series_uid: str | None = None
    matches: tuple[tuple[TagPath, Match], ...] = ()
    include: frozenset[TagPath] | None = frozenset()
    limit: int = 1000
    offset: int = 0
    fuzzy: bool = False
    creators: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Key:
    """A search key: the level whose entities it describes, and the VR that its values are compared by."""

    level: Level
    vr: str


# PS3.18 Table 10.6.1-5, the required matching keys, and StudyDescription, SeriesDescription, PatientBirthDate,
# PatientSex, BodyPartExamined and others that viewers filter on.
_STANDARD = {
    Level.STUDY: """
        00080020 00080030 00080050 00080061 00080090 00081030 00100010 00100020 00100030 00100040 0020000D 00200010
    """,
    Level.SERIES: """
        00080060 0008103E 00180015 0020000E 00200011 00400244 00400245 00400275.00400009 00400275.00401001
    """,
    Level.INSTANCE: "00080016 00080018 00200013",
}
#: The keys that every archive can be searched by.
STANDARD_KEYS: Mapping[TagPath, Key] = MappingProxyType(
    {
        path: Key(level, vr_of(path))
        for level, names in _STANDARD.items()
        for path in (tuple(name.split(".")) for name in names.split())
    }
)
#: The unique keys: they are matched by what rows are called, and so never wait to be built.
UNIQUE_KEYS: Mapping[Level, TagPath] = MappingProxyType(
    {Level.STUDY: ("0020000D",), Level.SERIES: ("0020000E",), Level.INSTANCE: ("00080018",)}
)


@dataclass(frozen=True, slots=True)
class SearchKeys:
    """What an archive can be searched by now: all of its keys, and those that are still being built."""

    keys: Mapping[TagPath, Key] = field(default_factory=lambda: STANDARD_KEYS)
    building: frozenset[TagPath] = frozenset()

    def at(self, level: Level) -> frozenset[TagPath]:
        """The keys of a level and of all above it: searches are relational (PS3.18 Table 10.6.1-1)."""
        return frozenset(path for path, key in self.keys.items() if key.level <= level)


#: Attributes that can be matched at each level of any archive.
SEARCHABLE: Mapping[Level, frozenset[TagPath]] = MappingProxyType({level: SearchKeys().at(level) for level in Level})
