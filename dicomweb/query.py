"""A QIDO-RS search as data (PS3.18 section 8.3.4): what is matched, what is returned, which page."""

from __future__ import annotations

from dataclasses import dataclass

from dicomweb.resource import Level

#: A tag, or a path into sequences, as upper-case hex: ("00100010",) or ("00400275", "00400009").
TagPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Single value or list matching (PS3.4 C.2.2.2.1, C.2.2.2.2): the attribute has one of these values."""

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


Match = AnyOf | Wildcard | Between


@dataclass(frozen=True, slots=True)
class Query:
    """One search.

    Attributes
    ----------
    level : of the items that are returned.
    study_uid, series_uid : from the request path; None for a relational search.
    matches : attribute -> matching, all of which must hold. Only attributes of `SEARCHABLE[level]` occur.
    include : attributes asked for beyond the default set of the level; None means `includefield=all`.
    limit, offset : the page, in items; `limit` is at least 1.
    fuzzy : fuzzy matching of person names was asked for.
    """

    level: Level
    study_uid: str | None = None
    series_uid: str | None = None
    matches: tuple[tuple[TagPath, Match], ...] = ()
    include: frozenset[TagPath] | None = frozenset()
    limit: int = 1000
    offset: int = 0
    fuzzy: bool = False


# PS3.18 Table 10.6.1-5, the required matching keys, and StudyDescription, SeriesDescription, PatientBirthDate,
# PatientSex, BodyPartExamined and others that viewers filter on.
_STUDY = (
    "00080020 00080030 00080050 00080061 00080090 00081030 00100010 00100020 00100030 00100040 0020000D 00200010"
).split()
_SERIES = "00080060 0008103E 00180015 0020000E 00200011 00400244 00400245".split()
_INSTANCE = "00080016 00080018 00200013".split()

#: Attributes that can be matched at each level: those of the level and of all above it (relational, Table 10.6.1-1).
SEARCHABLE: dict[Level, frozenset[TagPath]] = {
    Level.STUDY: frozenset((tag,) for tag in _STUDY),
    Level.SERIES: frozenset(
        [*((tag,) for tag in _STUDY + _SERIES), ("00400275", "00400009"), ("00400275", "00401001")]
    ),
    Level.INSTANCE: frozenset(
        [*((tag,) for tag in _STUDY + _SERIES + _INSTANCE), ("00400275", "00400009"), ("00400275", "00401001")]
    ),
}
