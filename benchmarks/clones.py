"""Rows for a large catalogue: copies of the rows of two studies that were stored for real, under other names.

A copy is made of the bytes of MongoDB's documents: names of fixed length are written over where they stand, so that a
million rows are made in minutes and nothing here knows how rows are made of headers. Names and dates that are searched
differ from copy to copy; the compressed header of an instance stays that of the study it was copied from.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

import pymongo
from bson.raw_bson import RawBSONDocument
from pydicom import dcmread
from pymongo.errors import BulkWriteError

from benchmarks import phantom
from benchmarks.phantom import Instance
from gateway.store import embedded

SERIES = 100
#: Studies of the first size, which are dated alike and all CT, so that the first page of every search is full.
FIRST = 10
_FIRST_DAY, _DAYS = date(2020, 1, 1), 15 * 365
_MODALITIES = ("CT", "MR")
_SYLLABLES = [one + two for one in "bdfghklmnprstvz" for two in "aeiou"] + ["xa", "xi"]
_FAMILY, _GIVEN = "Wqwqwqwq", "Jyjyjy"
_DIGITS = 8
_BATCH = 2000
_DATABASE = "isthmus"


@dataclass(frozen=True)
class Study:
    """What one copied study can be searched by."""

    number: int

    @property
    def modality(self) -> str:
        return _MODALITIES[0 if self.number < FIRST else self.number % 3 == 0]

    @property
    def study_uid(self) -> str:
        return _uid(self.modality) + self.digits

    @property
    def series_uid(self) -> str:
        return _uid(f"{self.modality}/series") + self.digits

    @property
    def patient_id(self) -> str:
        return f"CL{self.digits}"

    @property
    def accession_number(self) -> str:
        return f"AC{self.digits}"

    @property
    def day(self) -> str:
        """Of the study, as DICOM writes it."""
        days = self.number if self.number < FIRST else random.Random(self.number).randrange(_DAYS) - _DAYS // 2
        return f"{_FIRST_DAY + timedelta(days):%Y%m%d}"

    @property
    def family_name(self) -> str:
        return "".join(random.Random(f"family {self.number}").choices(_SYLLABLES, k=4)).capitalize()

    @property
    def given_name(self) -> str:
        return "".join(random.Random(f"given {self.number}").choices(_SYLLABLES, k=3)).capitalize()

    @property
    def digits(self) -> str:
        return f"{self.number:0{_DIGITS}d}"


def originals() -> Iterator[Instance]:
    """The studies to store, whose rows are copied then."""
    for modality in _MODALITIES:
        for number, instance in enumerate(phantom.series(modality, SERIES, side=64)):
            ds = dcmread(BytesIO(instance.content))
            ds.Modality, ds.StudyDate = modality, _ORIGINAL_DAY
            ds.StudyInstanceUID, ds.SeriesInstanceUID = _original(_uid(modality)), _original(_uid(f"{modality}/series"))
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = _original(_uid(f"{modality}/{number}"))
            ds.PatientID, ds.AccessionNumber = _original("CL"), _original("AC")
            ds.PatientName = f"{_FAMILY}^{_GIVEN}"
            yield Instance(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, phantom.part10(ds))


def copy(data: Path, studies: Sequence[Study]) -> None:
    """Add copies to the catalogue of the gateway that runs on this data folder. It is to be started again then."""
    with pymongo.MongoClient(embedded.running_uri(data), document_class=RawBSONDocument) as client:
        database = client[_DATABASE].with_options(write_concern=pymongo.WriteConcern(w=1, j=False))
        found = {modality: _rows(database, _original(_uid(modality))) for modality in _MODALITIES}
        for begin in range(0, len(studies), _BATCH // SERIES):
            group = studies[begin : begin + _BATCH // SERIES]
            for name in found[_MODALITIES[0]]:
                copies = [made for one in group for made in _copies(found[one.modality][name], one)]
                _insert(database[name], copies)
            if begin // (_BATCH // SERIES) % 100 == 99:
                print(f"{(begin + len(group)) * SERIES:,} rows", file=sys.stderr, flush=True)


def _insert(collection, documents: list[RawBSONDocument]) -> None:
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as exc:  # its own text quotes all documents
        raise RuntimeError(exc.details["writeErrors"][0]["errmsg"]) from None


def _rows(database, study_uid: str) -> Mapping[str, list[bytes]]:
    """The documents of a study, by collection."""
    conditions = {
        "studies": {"_id": study_uid},
        "series": {"study_uid": study_uid},
        "instances": {"study_uid": study_uid},
    }
    found = {name: [_keyed(one) for one in database[name].find(condition)] for name, condition in conditions.items()}
    if [len(found[name]) for name in ("studies", "series", "instances")] != [1, 1, SERIES]:
        raise RuntimeError("the rows of the studies to copy are not there")
    return found


def _keyed(document: RawBSONDocument) -> bytes:
    """The bytes of a document. An object's key, which no other may have, ends as names do."""
    content, key = bytes(document.raw), document.get("key")
    if key is None:
        return content
    stem, dot, ending = key.rpartition(".")
    return content.replace(key.encode(), f"{stem[:-_DIGITS]}{_ORIGINAL}{dot}{ending}".encode())


def _copies(rows: Iterable[bytes], study: Study) -> Iterator[RawBSONDocument]:
    names = _names(study)
    for row in rows:
        for old, new in names:
            row = row.replace(old, new)
        yield RawBSONDocument(row)


def _names(study: Study) -> list[tuple[bytes, bytes]]:
    """What stands in the original's rows, and what stands there in the copy's; each as long as the other."""
    pairs = [(_ORIGINAL, study.digits), (_ORIGINAL_DAY, study.day)]
    for old, new in ((_FAMILY, study.family_name), (_GIVEN, study.given_name)):
        pairs += [(old, new), (old.lower(), new.lower()), (old.upper(), new.upper())]
    return [(old.encode(), new.encode()) for old, new in pairs]


def _uid(name: str) -> str:
    """A UID without its last digits."""
    return f"2.25.9{phantom.hash_of(f'copied {name}') % 10**20:020d}"


def _original(name: str) -> str:
    return name + _ORIGINAL


_ORIGINAL, _ORIGINAL_DAY = "97586943", "20380119"
