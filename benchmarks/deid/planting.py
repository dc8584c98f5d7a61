"""Puts identity into attributes and writes down what must become of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID_dictionary

from benchmarks.deid.answers import Answer, Entry, Step, text_of
from benchmarks.deid.images import Study
from benchmarks.deid.people import Person

LIMITS = {"SH": 16, "LO": 64, "CS": 16, "AE": 16, "ST": 1024, "LT": 10240, "UT": 10240, "UC": 10240, "PN": 64}
#: What radiology writes, and must be left as it is. The last ones hold names that are no patient's.
TERMS = (
    "AX T2 FLAIR FS",
    "CT ABD/PEL W CONTRAST 5.0",
    "HEAD WO CONTRAST",
    "T1 MPRAGE SAG",
    "DWI b1000 ADC",
    "Chest PA",
    "Thorax 1.5",
    "COR T1 TSE",
    "Ankle left lateral",
    "liver segmentation",
    "whole body PET",
    "Hodgkin protocol",
    "Parkinson",
    "White matter",
)
_BIRTH_DATE = 0x00100030


class Planter:
    """Plants in one object. What is set again loses the answers that it had."""

    def __init__(self, ds: Dataset, study: Study, entry: Entry, seed: int) -> None:
        self.ds, self.study, self.entry = ds, study, entry
        self.person: Person = study.person
        self.rng = random.Random(seed)
        self._answers: dict[tuple[Step, ...], list[Answer]] = {}
        self._pool = [
            *self.person.spellings(),
            *self.person.birth_dates(),
            *self.person.mrns,
            *self.person.places.values(),
        ]
        self._next = self.rng.randrange(len(self._pool))

    def identity(self, limit: int, *, is_ascii: bool = False) -> str:
        """Something that identifies the patient, another one each time, of at most so many characters."""
        for _ in self._pool:
            self._next = (self._next + 1) % len(self._pool)
            found = self._pool[self._next]
            if len(found) <= limit and (found.isascii() or not is_ascii):
                return found
        raise AssertionError("nothing is that short")

    def term(self) -> str:
        """What radiology writes."""
        return self.rng.choice(TERMS)

    def put(
        self, where: int | str, vr: str, value: Any, *answers: tuple[str, str], category: str, at: Any = ()
    ) -> None:
        """Set an attribute and note (action, text) of it; `at` are the steps to the item that it is put into."""
        tag = tag_for_keyword(where) if isinstance(where, str) else where
        assert tag is not None, where
        ds = self.item(at)
        ds[tag] = DataElement(BaseTag(tag), vr, value, validation_mode=config.IGNORE)
        self.note((*at, (tag,)), text_of(value) if vr != "SQ" else "", answers, category)

    def note(self, path: tuple[Step, ...], value: str, answers: Any, category: str) -> None:
        """Note what must become of an attribute."""
        self._answers[path] = [Answer(action, text, path, value, category) for action, text in answers]

    def item(self, at: tuple[Step, ...]) -> Dataset:
        """The item at the end of a path."""
        ds = self.ds
        for tag, number in at:
            ds = ds[tag].value[number]
        return ds

    def text(self, where: int | str, vr: str, *, category: str, at: Any = (), cleaned: bool = False) -> None:
        """Put identity into a text; with `cleaned` among words of radiology, which must stay."""
        limit = LIMITS[vr]
        term = self.term() if cleaned else ""
        identity = self.identity(limit - len(term) - 1 if limit > LIMITS["SH"] else limit, is_ascii=vr in {"CS", "AE"})
        answers = [("text_removed", identity)]
        if limit <= LIMITS["SH"]:
            self.put(where, vr, identity.upper() if vr == "CS" else identity, *answers, category=category, at=at)
            return
        pair = [term, identity]
        self.rng.shuffle(pair)
        if cleaned:
            answers.append(("text_retained", term))
        self.put(where, vr, " ".join(filter(None, pair)), *answers, category=category, at=at)

    def control(self, where: str, vr: str, value: Any, at: Any = ()) -> None:
        """Put what must stay as it is."""
        self.put(where, vr, value, ("text_retained", text_of(value)), category="control", at=at)

    def private(self, creator: str, where: tuple[int, int], vr: str, value: Any, action: str, text: str) -> None:
        """Put a private element, and note what must become of it."""
        group, number = where
        block = self.ds.private_block(group, creator, create=True)
        block.add_new(number, vr, value)
        path: tuple[Step, ...] = (((group, creator, number),),)
        safe = "private, safe" if action.endswith("retained") else "private"
        self.note(path, text_of(value), [(action, text)], safe)

    def finish(self) -> list[Answer]:
        """All answers, with those that every UID and date of the object brings with it."""
        for path, element in walk(self.ds):
            if path not in self._answers:
                self._general(path, element)
        return [answer for answers in self._answers.values() for answer in answers]

    def _general(self, path: tuple[Step, ...], element: DataElement) -> None:
        value = text_of(element.value)
        if element.VR == "UI" and "." in value and not is_registered(value):
            self.note(path, value, [("uid_changed", value), ("uid_consistent", value)], "UID")
        elif element.VR in {"DA", "DT"} and len(value) >= 8 and element.tag != _BIRTH_DATE:
            self.note(path, value, [("date_shifted", value)], "date")


def walk(ds: Dataset, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], DataElement]]:
    """All elements of an object that are neither private nor sequences, with the paths to them."""
    for element in ds:
        if element.tag.is_private:
            continue
        if element.VR == "SQ":
            for number, item in enumerate(element.value or ()):
                yield from walk(item, (*path, (int(element.tag), number)))
        else:
            yield (*path, (int(element.tag),)), element


def is_registered(uid: str) -> bool:
    """Whether UIDs are those of classes, syntaxes and the like, which name no instance."""
    return all(one in UID_dictionary or one.startswith("1.2.840.10008.") for one in uid.split("\\"))


def items(*contents: Dataset) -> Sequence:
    """A sequence of items."""
    return Sequence(contents)
