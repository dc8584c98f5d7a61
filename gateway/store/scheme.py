"""How rows are made searchable: which keys an archive has, and how their values are derived from DICOM JSON.

A row says which scheme its keys were derived under. Another set of declared keys, or another `DERIVATION`, is another
scheme, and rows of others are re-derived in the background (`rederive.py`).

A key is a field below `keys`, named by its tag, with its values as texts in the form in which they are compared; `[""]`
where there is none. A sequence is a list of items with keys of their own. Beside a person name, with a `w` after the
tag, stand its words and sounds; beside a date, with a `t`, the date followed by the time that belongs to it; beside
the texts of studies that people search parts of, with an `s`, all values in one text, so that an index alone can tell
whether a part is in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson

from dicomweb.matching import MAX_CHARACTERS, canonical, time_of, vr_of, words
from dicomweb.query import STANDARD_KEYS, Key, TagPath
from dicomweb.query_parse import attribute, is_creator
from dicomweb.resource import Level
from gateway.errors import ConfigurationError
from gateway.store.rows import LEVEL_ATTRIBUTES, Attributes

#: Counts up whenever keys, or texts of search results, are derived in another way.
DERIVATION = 5
#: With the standard keys and two indexes for a name or a date this stays below MongoDB's 64 indexes a collection.
MAX_EXTRA = 16
#: Stands between the values of a text that holds several; it is no character of DICOM text (PS3.5 section 6.1.3).
BETWEEN = "\x1f"
_MAX_VALUES = 64
_MAX_EXTRA_BYTES = 16 << 10
#: Attributes beyond this are in the rows of instances only: a row of all others stays far below the 16 MiB and the
#: 100 levels of a MongoDB document, of which a nested sequence takes three.
_MAX_ATTRIBUTE_BYTES, _MAX_ATTRIBUTE_DEPTH = 64 << 10, 16
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_VRS = frozenset("AE AS CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UC UI UL UR US UT".split())

#: The keys whose values have an index to find parts of them by.
PARTS = frozenset(
    path for path, key in STANDARD_KEYS.items() if key.level is Level.STUDY and key.vr in ("LO", "PN", "SH")
)

#: Tag -> the keys below it, None for an attribute itself.
Tree = dict[str, "Tree | None"]


class Scheme:
    """The keys of an archive: those of the standard and those that its operator declared."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        """Read declarations such as `BodyPartExamined`, `00191001`, `study:InstitutionName`, `00191002=DS`.

        Raises
        ------
        ConfigurationError : for one that names no attribute, is repeated, or is one too many.
        """
        self.extra: dict[TagPath, Key] = {}
        for text in extra:
            self._declare(text.strip())
        if len(self.extra) > MAX_EXTRA:
            raise ConfigurationError(f"search.extra_keys holds more than {MAX_EXTRA} keys.")
        self.keys: Mapping[TagPath, Key] = dict(STANDARD_KEYS) | self.extra
        self._trees = {level: _tree(path for path, key in self.keys.items() if key.level is level) for level in Level}

    @cached_property
    def names(self) -> list[str]:
        """All keys, each in one text that says what matters for its derivation."""
        return sorted(map(self.name_of, self.keys))

    def name_of(self, path: TagPath) -> str:
        """A key in one text, such as `series:00180015=CS`."""
        return f"{self.keys[path].level.name.lower()}:{'.'.join(path)}={self.keys[path].vr}"

    @cached_property
    def id(self) -> str:
        """The same for equal schemes, on every machine."""
        return hashlib.sha256(json.dumps([DERIVATION, self.names]).encode()).hexdigest()[:16]

    def attributes(self, data_set: Attributes) -> dict[str, dict[str, Any]]:
        """What rows keep ready of each level, by its name in lower case."""
        picked: dict[str, dict[str, Any]] = {}
        for level in Level:
            wanted = LEVEL_ATTRIBUTES[level]
            picked[level.name.lower()] = {
                tag: element for tag, element in data_set.items() if tag in wanted and _fits(element)
            }
        for path, key in self.extra.items():
            element = data_set.get(path[0])
            if element is not None and _fits(element, _MAX_EXTRA_BYTES):
                picked[key.level.name.lower()][path[0]] = element
        return picked

    def search_keys(self, attributes: Attributes, level: Level) -> dict[str, Any]:
        """The keys of a row of a level."""
        return self._derive(attributes, self._trees[level], ())

    def indexed(self, level: Level, *, extra: bool) -> Iterator[str]:
        """The fields of a level's rows that deserve an index, of the standard or of the declared keys."""
        for path, key in self.keys.items():
            if key.level is level and (path in self.extra) is extra and path not in _BY_IDENTITY:
                field = "keys." + ".".join(path)
                yield field
                if key.vr == "PN":
                    yield field + "w"
                if path in PARTS:
                    yield field + "s"
                if self._time_beside(path) is not None:
                    yield field + "t"

    def _declare(self, text: str) -> None:
        name, _, vr = text.partition("=")
        named_level, _, name = name.rpartition(":")
        path = attribute(name)
        levels = {level.name.lower(): level for level in Level}
        if path is None or (named_level and named_level not in levels) or (vr and vr not in _VRS):
            raise ConfigurationError(
                f"search.extra_keys: {text!r} is not an attribute; write [study:|series:|instance:]KEYWORD, or a tag "
                "of 8 hexadecimal digits, steps into sequences after a dot, and for private ones optionally =VR."
            )
        if vr_of(path) == "SQ" and not vr:
            raise ConfigurationError(f"search.extra_keys: {text!r} is a sequence; name an attribute in it.")
        if path in self.extra:
            raise ConfigurationError(f"search.extra_keys names {name!r} more than once.")
        if path in STANDARD_KEYS:
            return
        level = levels.get(named_level) or _level_of(path[0])
        self.extra[path] = Key(level, vr or vr_of(path))
        if int(path[0], 16) >> 16 & 1 and not is_creator(path):  # PS3.18 8.3.4.1: matched together with its creator
            self.extra.setdefault((f"{path[0][:4]}00{path[0][4:6]}",), Key(level, "LO"))

    def _derive(self, item: Attributes, tree: Tree, above: TagPath) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for tag, below in tree.items():
            element = item.get(tag) or {}
            if below is not None:
                items = [value for value in element.get("Value") or [] if isinstance(value, Mapping)]
                keys[tag] = [self._derive(one, below, (*above, tag)) for one in items[:_MAX_VALUES] or [{}]]
                continue
            vr = self.keys[(*above, tag)].vr
            texts = list(_texts(element, vr))
            keys[tag] = list(dict.fromkeys(canonical(vr, text) for text in texts)) or [""]
            if vr == "PN":
                keys[tag + "w"] = words(texts)
            if (*above, tag) in PARTS:
                keys[tag + "s"] = BETWEEN.join(keys[tag])
        for tag in tree:
            time = self._time_beside((*above, tag))
            if time is not None:
                keys[tag + "t"] = [keys[tag][0] + keys[time][0]]
        return keys

    def _time_beside(self, path: TagPath) -> str | None:
        """The time of a date, if both are keys of one level."""
        if path not in self.keys or self.keys[path].vr != "DA":
            return None
        time = time_of(path[-1])
        beside = self.keys.get((*path[:-1], time)) if time else None
        return time if beside is not None and beside.level is self.keys[path].level else None


#: These are matched by `_id`, `study_uid` and `series_uid`, which have indexes.
_BY_IDENTITY = frozenset([("0020000D",), ("0020000E",), ("00080018",)])


def _level_of(tag: str) -> Level:
    """The level that an attribute describes, by the tables of `rows`; all others are of single instances."""
    return next((level for level in Level if tag in LEVEL_ATTRIBUTES[level]), Level.INSTANCE)


def _tree(paths: Iterable[TagPath]) -> Tree:
    tree: Tree = {}
    for path in sorted(paths):
        branch = tree
        for tag in path[:-1]:
            below = branch.setdefault(tag, {})
            if below is None:
                below = branch[tag] = {}
            branch = below
        branch[path[-1]] = None
    return tree


def _texts(element: Mapping[str, Any], vr: str) -> Iterator[str]:
    """The values of an element as texts; each group of a person name is one."""
    values: Sequence[Any] = element.get("Value") or []
    for value in values[:_MAX_VALUES]:
        if isinstance(value, Mapping):
            yield from (str(value[group]) for group in _NAME_GROUPS if value.get(group))
        elif value is not None and value != "":
            yield str(value)
    if "InlineBinary" in element and element.get("vr") == "UN" and vr in _VRS:
        yield from _unknown(str(element["InlineBinary"]))


def _unknown(encoded: str) -> Iterator[str]:
    """The texts of a private element whose VR the file did not tell."""
    try:
        text = base64.b64decode(encoded[: 2 * MAX_CHARACTERS // 4 * 4]).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return
    yield from filter(None, (one.strip(" \0") for one in text.split("\\")[:_MAX_VALUES]))


def _fits(element: Mapping[str, Any], max_bytes: int = _MAX_ATTRIBUTE_BYTES) -> bool:
    """Whether an element of DICOM JSON is small and flat enough for every row that would hold it."""
    return _depth(element) <= _MAX_ATTRIBUTE_DEPTH and len(orjson.dumps(element)) <= max_bytes


def _depth(element: Mapping[str, Any]) -> int:
    """How many sequences an element is nested in, itself included."""
    if element.get("vr") != "SQ":
        return 0
    return 1 + max((_depth(one) for item in element.get("Value", ()) for one in item.values()), default=0)
