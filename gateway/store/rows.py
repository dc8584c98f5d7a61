"""What the catalogue keeps of an instance: which attributes belong to which level, and how they are made searchable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dicomweb.query import SEARCHABLE, TagPath
from dicomweb.resource import Level

Attributes = Mapping[str, Any]  # DICOM JSON of a data set

# The Patient, Study and Clinical Trial attributes that a study is described by (PS3.18 Table 10.6.3-3 and beyond).
_STUDY = """
00080020 00080030 00080050 00080051 00080061 00080090 00080201 00081030 00081032 00081048 00081060 00081080
00100010 00100020 00100021 00100030 00100032 00100040 00101001 00101010 00101020 00101030 00102160 001021B0 00104000
0020000D 00200010 00120010 00120020 00120040 00120062 00120063 00120064 00280303 00321060 00324000
""".split()
# The series, equipment and frame of reference attributes (PS3.18 Table 10.6.3-4 and beyond).
_SERIES = """
00080021 00080031 00080060 00080064 00080068 00080070 00080080 00081010 0008103E 0008103F 00081050 00081070 00081090
00081111 00180015 00180010 00181030 00185100 00181020 0020000E 00200011 00200052 00200060 00201040 00400244 00400245
00400253 00400254 00400275 00540220
""".split()
# The attributes of single instances that are kept ready (PS3.18 Table 10.6.3-5 and beyond).
_INSTANCE = """
00080008 00080016 00080018 00080012 00080013 00080022 00080023 00080032 00080033 00200012 00200013 00200032 00200037
00201041 00280002 00280004 00280008 00280010 00280011 00280030 00280100 00280301 0040A032 0040A043 0040A491 0040A493
00420010 00420012 00700080 00700081 00700082
""".split()

LEVEL_ATTRIBUTES: dict[Level, frozenset[str]] = {
    Level.STUDY: frozenset(_STUDY),
    Level.SERIES: frozenset(_SERIES),
    Level.INSTANCE: frozenset(_INSTANCE),
}
#: What an answer holds without includefield (PS3.18 Tables 10.6.3-3 to 10.6.3-5), besides derived attributes.
DEFAULT_ATTRIBUTES: dict[Level, frozenset[str]] = {
    Level.STUDY: frozenset(
        "00080020 00080030 00080050 00080056 00080061 00080090 00080201 00081030 00081190 00100010 00100020 00100030 "
        "00100040 0020000D 00200010 00201206 00201208".split()
    ),
    Level.SERIES: frozenset(
        "00080056 00080060 00080201 0008103E 00081190 0020000E 00200011 00201209 00400244 00400245 00400275".split()
    ),
    Level.INSTANCE: frozenset(
        "00080016 00080018 00080056 00080201 00081190 00083002 00200013 00280008 00280010 00280011 00280100".split()
    ),
}
_OWN_KEYS: dict[Level, frozenset[TagPath]] = {
    Level.STUDY: SEARCHABLE[Level.STUDY],
    Level.SERIES: SEARCHABLE[Level.SERIES] - SEARCHABLE[Level.STUDY],
    Level.INSTANCE: SEARCHABLE[Level.INSTANCE] - SEARCHABLE[Level.SERIES],
}
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def level_of(path: TagPath) -> Level:
    """The level whose row holds the search key of an attribute."""
    return next(level for level, keys in _OWN_KEYS.items() if path in keys)


def pick(attributes: Attributes, level: Level) -> dict[str, Any]:
    """The attributes that describe an entity of a level."""
    wanted = LEVEL_ATTRIBUTES[level]
    return {tag: element for tag, element in attributes.items() if tag in wanted}


def search_keys(attributes: Attributes, level: Level) -> dict[str, list[str]]:
    """Searchable values of a level: `{"00100010": ["doe^jane"]}`; a nested attribute is joined by `_`."""
    keys = {}
    for path in _OWN_KEYS[level]:
        values = [key_value(path, text) for text in _values([attributes], path)]
        keys["_".join(path)] = values or [""]
    return keys


def key_value(path: TagPath, text: str) -> str:
    """A value as it is compared: person names without regard to case (PS3.4 section C.2.2.2.1), others as they are."""
    return text.casefold() if path[-1] in ("00100010", "00080090") else text


def _values(items: Iterable[Attributes], path: TagPath) -> list[str]:
    found: list[str] = []
    for item in items:
        values = item.get(path[0], {}).get("Value") or []
        if len(path) > 1:
            found += _values([value for value in values if isinstance(value, Mapping)], path[1:])
        else:
            found += [text for value in values for text in _texts(value)]
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):  # a person name
        return [str(value[group]) for group in _NAME_GROUPS if value.get(group)]
    return [] if value is None else [str(value)]
