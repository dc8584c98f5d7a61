"""QIDO-RS held against an independent implementation over the same files: dicomweb-client's file client.

500 generated searches for each set of files. What that client cannot ask for at once (ranges, lists, empty values) is
put together from searches that it can answer. Every difference must be one of `DIFFERENCES`, each with its reason.
"""

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pydicom
import pytest
from dicomweb_client import DICOMfileClient

from dicomweb.resource import Resource
from gateway.archive import Source
from tests.dicomweb_support import bodies
from tests.samples import BUNDLED, stream

QUERIES = 500
LEVELS = ("studies", "series", "instances")
NAMES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
UIDS = ("0020000D", "0020000E", "00080018")
MAX_FILE_BYTES = 3 << 20
#: Keys that both sides match at a level: VR, and where DICOMfileClient keeps them.
KEYS = {
    "studies": {
        "StudyDate": "DA", "StudyTime": "TM", "StudyID": "SH", "PatientName": "PN", "PatientID": "LO",
        "PatientBirthDate": "DA", "PatientSex": "CS", "ReferringPhysicianName": "PN", "StudyInstanceUID": "UI",
    },
    "series": {"Modality": "CS", "SeriesNumber": "IS", "SeriesInstanceUID": "UI"},
    "instances": {"SOPClassUID": "UI", "SOPInstanceUID": "UI", "InstanceNumber": "IS"},
}  # fmt: skip
TAGS = {
    "StudyDate": "00080020", "StudyTime": "00080030", "StudyID": "00200010", "PatientName": "00100010",
    "PatientID": "00100020", "PatientBirthDate": "00100030", "PatientSex": "00100040",
    "ReferringPhysicianName": "00080090", "StudyInstanceUID": "0020000D", "Modality": "00080060",
    "SeriesNumber": "00200011", "SeriesInstanceUID": "0020000E", "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018", "InstanceNumber": "00200013",
}  # fmt: skip


@dataclass(frozen=True)
class Search:
    """One generated search: what is asked of our server, and how the other one is asked for the same."""

    level: str
    kind: str
    parameters: dict[str, str]
    theirs: Callable[["Oracle"], set[str]] = field(compare=False)
    scope: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        above = "".join(f"/{name}/{uid}" for name, uid in zip(LEVELS, self.scope, strict=False))
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in self.parameters.items())
        return f"/dicomweb{above}/{self.level}?limit=5000&{query}"


@dataclass(frozen=True)
class Difference:
    """Why the two may differ: `explains(search, name, values)` of what only one found, by its values of the key."""

    reason: str
    explains: Callable[[Search, str, set[str]], bool]


DIFFERENCES = (
    Difference(
        "PS3.4 C.2.2.2.4: wild cards tell cases apart but in person names; SQLite's LIKE, which DICOMfileClient uses, "
        "never does.",
        lambda search, name, values: search.kind in ("prefix", "infix", "one") and not name.endswith("Name"),
    ),
    Difference(
        "PS3.4 C.2.2.2.1 leaves open whether names tell cases apart: ours do not, those of DICOMfileClient do.",
        lambda search, name, values: (
            name.endswith("Name") and any(value.casefold() == search.parameters[name].casefold() for value in values)
        ),
    ),
    Difference(
        "A single time is matched as it is (PS3.4 C.2.2.2.1); DICOMfileClient takes all that end in it.",
        lambda search, name, values: (
            name == "StudyTime" and any(one.endswith(search.parameters[name]) for one in values)
        ),
    ),
    Difference(
        "Fractions of a second that are zero say nothing: 101112.000 is 101112; for DICOMfileClient it is not.",
        lambda search, name, values: search.kind in ("exact", "range", "span") and any("." in one for one in values),
    ),
    Difference(
        "Colons and dots in times and dates, as old files have them, are read over; DICOMfileClient keeps them.",
        lambda search, name, values: (
            search.kind in ("range", "open", "span") and any(re.search(r"[:.]", one) for one in values)
        ),
    ),
    Difference(
        "Each component group of a name is a name (PS3.5 6.2.1); DICOMfileClient compares one text with equals signs.",
        lambda search, name, values: name.endswith("Name") and any("=" in value for value in values),
    ),
    Difference(
        "Several names are several values; DICOMfileClient compares the text that Python makes of the list.",
        lambda search, name, values: name.endswith("Name") and any(value.startswith("[") for value in values),
    ),
    Difference(
        "Components at the end of a name that are empty are not there (PS3.5 6.2.1), a name of nothing else is empty; "
        "DICOMfileClient compares the delimiters.",
        lambda search, name, values: (
            name.endswith("Name")
            and (any(value.endswith("^") for value in values) or not search.parameters[name].strip("^"))
        ),
    ),
    Difference(
        "What fuzzy matching does is each server's own (PS3.18 8.3.4.2): ours finds words that begin with or sound "
        "like what is asked for, DICOMfileClient any part of the text.",
        lambda search, name, values: search.kind == "fuzzy",
    ),
    Difference(
        "A value that is no date, such as 00000000, compares as text; DICOMfileClient is not asked for it.",
        lambda search, name, values: search.kind == "open" and not any(map(is_date, values)),
    ),
    Difference(
        "Where files of a study disagree ours says what the first said, DICOMfileClient what it read last.",
        lambda search, name, values: len(values) > 1,
    ),
    Difference(
        "A UID in the path and another as a key find nothing; in DICOMfileClient the path replaces the key.",
        lambda search, name, values: name in NAMES[: len(search.scope)],
    ),
)


class Oracle:
    """DICOMfileClient, asked for sets of UIDs."""

    def __init__(self, folder: Path) -> None:
        self._client = DICOMfileClient(folder.as_uri(), in_memory=True, update_db=True, readonly=True)
        self._known: dict[object, list[dict]] = {}

    def items(self, level: str, filters: dict[str, str], scope: tuple[str, ...] = (), *, fuzzy: bool = False):
        """All items that it finds."""
        key = (level, tuple(filters.items()), scope, fuzzy)
        if key not in self._known:
            ask = getattr(self._client, f"search_for_{level}")
            names = ("study_instance_uid", "series_instance_uid")
            self._known[key] = ask(
                **dict(zip(names, scope, strict=False)), search_filters=filters or None, fuzzymatching=fuzzy
            )
        return self._known[key]

    def uids(self, level: str, filters: dict[str, str], scope: tuple[str, ...] = (), *, fuzzy: bool = False):
        """The UIDs of all items that it finds."""
        tag = UIDS[LEVELS.index(level)]
        return {item[tag]["Value"][0] for item in self.items(level, filters, scope, fuzzy=fuzzy)}

    def any_of(self, level: str, name: str, values: Iterable[str], others: dict[str, str], scope: tuple[str, ...]):
        """The union over several values of one key."""
        return {uid for value in values for uid in self.uids(level, {name: value, **others}, scope)}


class Corpus:
    """What the files say, read by pydicom: the values to ask for, and to explain differences by."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files = []
        #: UID of an instance, series or study -> attribute -> the values that its files give.
        self.values_of: dict[str, dict[str, set[str]]] = {}
        for path in paths:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            values = {name: str(ds.get(name, "") or "").strip() for name in TAGS}
            self._files.append(values)
            for uid in (values[name] for name in NAMES):
                for name, value in values.items():
                    self.values_of.setdefault(uid, {}).setdefault(name, set()).add(value)

    def of(self, uid: str, name: str) -> set[str]:
        """The values of an attribute that files give for the study, series or instance that it describes."""
        upper = next(key for level, key in zip(LEVELS, NAMES, strict=True) if name in KEYS[level])
        return {value for one in self.values_of[uid][upper] for value in self.values_of[one][name]}

    def values(self, name: str) -> list[str]:
        """All values of an attribute that are one value, valid and not empty."""
        found = sorted({file[name] for file in self._files} - {""})
        usable = {"DA": is_date, "TM": re.compile(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?").fullmatch}
        check = usable.get(
            next(KEYS[level][name] for level in LEVELS if name in KEYS[level]), lambda value: value[0] != "["
        )
        return [value for value in found if check(value)]

    def moments(self) -> list[tuple[str, str]]:
        """All dates of studies with their times."""
        days, times = set(self.values("StudyDate")), set(self.values("StudyTime"))
        found = {(one["StudyDate"], one["StudyTime"]) for one in self._files}
        return sorted((day, time) for day, time in found if day in days and time in times)

    def scope(self, depth: int, choose: random.Random) -> tuple[str, ...]:
        """The UIDs of some study, or of a series of it."""
        file = choose.choice(self._files)
        return (file["StudyInstanceUID"], file["SeriesInstanceUID"])[:depth]


def is_date(text: str) -> bool:
    """Whether a text is a day of the calendar."""
    try:
        return len(text) == 8 and bool(date(int(text[:4]), int(text[4:6]), int(text[6:])))
    except ValueError:
        return False


class Generator:
    """Makes searches of every kind, at every level, the same ones for one seed."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._corpus = corpus
        self._choose = random.Random(seed)

    def search(self) -> Search:
        """The next one."""
        level = self._choose.choice(LEVELS)
        depth = self._choose.choice(range(LEVELS.index(level) + 1)) if self._choose.random() < 0.5 else 0
        scope = self._corpus.scope(depth, self._choose)
        available = [name for upper in LEVELS[: LEVELS.index(level) + 1] for name in KEYS[upper]]
        name = self._choose.choice([one for one in available if self._corpus.values(one)])
        vr = next(KEYS[upper][name] for upper in LEVELS if name in KEYS[upper])
        kinds = {"DA": ["exact", "range", "open", "span", "empty"], "TM": ["exact", "range"], "IS": ["exact", "none"]}
        kinds |= {"UI": ["exact", "list"], "PN": ["exact", "case", "prefix", "infix", "one", "fuzzy", "empty"]}
        kind = self._choose.choice(kinds.get(vr, ["exact", "case", "prefix", "infix", "one", "empty", "none"]))
        return getattr(self, f"_{kind}")(level, name, scope)

    def _value(self, name: str) -> str:
        return self._choose.choice(self._corpus.values(name))

    def _simple(self, level: str, name: str, scope, kind: str, value: str) -> Search:
        return Search(level, kind, {name: value}, lambda oracle: oracle.uids(level, {name: value}, scope), scope)

    def _exact(self, level: str, name: str, scope) -> Search:
        return self._simple(level, name, scope, "exact", self._value(name))

    def _none(self, level: str, name: str, scope) -> Search:
        return self._simple(level, name, scope, "none", "987654" if name.endswith("Number") else "NOT-THERE")

    def _case(self, level: str, name: str, scope) -> Search:
        return self._simple(level, name, scope, "case", self._value(name).swapcase())

    def _prefix(self, level: str, name: str, scope) -> Search:
        value = self._value(name)
        return self._simple(level, name, scope, "prefix", value[: self._choose.randint(1, len(value))] + "*")

    def _infix(self, level: str, name: str, scope) -> Search:
        value = self._value(name)
        start = self._choose.randrange(len(value))
        piece = value[start : start + self._choose.randint(1, 4)].strip("*?= ^") or value[0]
        return self._simple(level, name, scope, "infix", f"*{piece}*")

    def _one(self, level: str, name: str, scope) -> Search:
        value = self._value(name)
        at = self._choose.randrange(len(value))
        return self._simple(level, name, scope, "one", value[:at] + "?" + value[at + 1 :])

    def _list(self, level: str, name: str, scope) -> Search:
        values = [self._value(name) for _ in range(self._choose.randint(2, 4))]
        separator = self._choose.choice(",\\")
        return Search(
            level, "list", {name: separator.join(values)},
            lambda oracle: oracle.any_of(level, name, values, {}, scope), scope,
        )  # fmt: skip

    def _range(self, level: str, name: str, scope) -> Search:
        low, high = sorted([self._value(name), self._value(name)])
        within = [value for value in self._corpus.values(name) if low <= value <= high]
        return Search(
            level, "range", {name: f"{low}-{high}"},
            lambda oracle: oracle.any_of(level, name, within, {}, scope), scope,
        )  # fmt: skip

    def _open(self, level: str, name: str, scope) -> Search:
        end, below = self._value(name), self._choose.random() < 0.5
        within = [value for value in self._corpus.values(name) if (value <= end if below else value >= end)]
        return Search(
            level, "open", {name: f"-{end}" if below else f"{end}-"},
            lambda oracle: oracle.any_of(level, name, within, {}, scope), scope,
        )  # fmt: skip

    def _span(self, level: str, _: str, scope) -> Search:
        """StudyDate and StudyTime as one span."""
        moments = self._corpus.moments()
        low, high = sorted([self._choose.choice(moments), self._choose.choice(moments)])
        within = [moment for moment in moments if low <= moment <= high]

        def theirs(oracle: Oracle) -> set[str]:
            pairs = [{"StudyDate": day, "StudyTime": time} for day, time in within]
            return {uid for pair in pairs for uid in oracle.uids(level, pair, scope)}

        parameters = {"StudyDate": f"{low[0]}-{high[0]}", "StudyTime": f"{low[1]}-{high[1]}"}
        return Search(level, "span", parameters, theirs, scope)

    def _fuzzy(self, level: str, name: str, scope) -> Search:
        words = {word for value in self._corpus.values(name) for word in re.split(r"[=^ ]", value)}
        value = self._choose.choice(sorted(words - {""}))
        value = value[: self._choose.randint(min(2, len(value)), len(value))]
        return Search(
            level, "fuzzy", {name: value, "fuzzymatching": "true"},
            lambda oracle: oracle.uids(level, {name: value}, scope, fuzzy=True), scope,
        )  # fmt: skip

    def _empty(self, level: str, name: str, scope) -> Search:
        def theirs(oracle: Oracle) -> set[str]:
            tag = UIDS[LEVELS.index(level)]
            empty = [item for item in oracle.items(level, {}) if not item.get(TAGS[name], {}).get("Value")]
            return {item[tag]["Value"][0] for item in empty} & oracle.uids(level, {}, scope)

        return Search(level, "empty", {name: '""', "emptyvaluematching": "true"}, theirs, scope)


@pytest.fixture(params=["pydicom", "data_folder"])
def sources(request) -> list[Path]:
    """Real files: those that pydicom ships, which everybody has, and those of the test data."""
    if request.param == "pydicom":
        return list(BUNDLED)
    data = request.getfixturevalue("data_folder")
    folders = ("charsets", "cr", "ct-prior-current", "derived", "enhanced-mf", "mammo", "series-traps", "us")
    return sorted(path for name in folders for path in (data / name).rglob("*.dcm"))


@pytest.fixture
async def both(core, client, sources, tmp_path):
    """Our server and the other one, each with the files that both can read, and what is in those."""
    folder = tmp_path / "files"
    folder.mkdir()
    held: dict[str, tuple[Resource, Path]] = {}
    for number, path in enumerate(path for path in sources if path.stat().st_size < MAX_FILE_BYTES):
        outcome = await core.archive.ingest(stream(path.read_bytes()), Source("import"))
        if outcome.failure is None and outcome.instance_uid not in held:
            held[outcome.instance_uid] = (outcome.stored, folder / f"{number:04}.dcm")
            shutil.copy(path, folder / f"{number:04}.dcm")
    oracle = Oracle(folder)
    theirs = oracle.uids("instances", {})
    for resource, path in [held.pop(uid) for uid in set(held) - theirs]:  # broken in ways that it gives up on
        await core.archive.delete(resource)
        path.unlink()
    assert set(held) == theirs
    assert len(held) > 30
    return client, Oracle(folder), Corpus(sorted(folder.iterdir()))


async def test_the_same_as_another_implementation(both):
    await the_same_answers(*both)
    await the_same_attributes(*both)


async def the_same_answers(client, oracle, corpus):
    generator = Generator(corpus, seed=20260101)
    same, kinds, unexplained = 0, Counter(), []
    for _ in range(QUERIES):
        search = generator.search()
        ours = {item[UIDS[LEVELS.index(search.level)]]["Value"][0] for item in await bodies(client, search.path)}
        theirs = search.theirs(oracle)
        same += ours == theirs
        kinds[search.kind] += bool(ours)
        unexplained += [
            (search.path, uid in ours, [sorted(corpus.of(uid, name)) for name in search.parameters if name in TAGS])
            for uid in ours ^ theirs
            if not explained(search, corpus, uid)
        ]
    assert unexplained == []
    assert same > 0.8 * QUERIES
    assert all(kinds[kind] for kind in ("exact", "prefix", "infix", "one", "range", "span", "list", "empty", "fuzzy"))


def explained(search: Search, corpus: Corpus, uid: str) -> bool:
    """Whether one of the differences says why only one side found something."""
    return any(
        difference.explains(search, name, corpus.of(uid, name))
        for difference in DIFFERENCES
        for name in search.parameters
        if name in TAGS
    )


async def the_same_attributes(client, oracle, corpus):
    compared = 0
    for index, level in enumerate(LEVELS):
        theirs = {item[UIDS[index]]["Value"][0]: item for item in oracle.items(level, {})}
        for ours in await bodies(client, f"/dicomweb/{level}?limit=5000"):
            uid = ours[UIDS[index]]["Value"][0]
            for name in (name for upper in LEVELS[: index + 1] for name in KEYS[upper]):
                values = corpus.of(uid, name)
                if len(values) == 1 and not any("[" in value for value in values):
                    assert plain(ours[TAGS[name]]) == plain(theirs[uid].get(TAGS[name], {})), (level, name)
                    compared += 1
            if level != "instances":
                count = "00201208" if level == "studies" else "00201209"
                assert ours[count]["Value"] == theirs[uid][count]["Value"]
    assert compared > 500


def plain(element: dict) -> object:
    """The value of an attribute, with what may be written in several ways written in one."""
    value = (element.get("Value") or [None])[0]
    if isinstance(value, dict):  # pydicom, which reads for the other, leaves the escape sequence of GB 2312 in names
        groups = {group: text.replace("\x1b$)A", "").rstrip("^") for group, text in value.items()}
        return {group: text for group, text in groups.items() if text} or None
    return value.strip() if isinstance(value, str) else value
