"""The corpus: some 400 objects of 30 made-up patients, with identity in every place it hides in; and the answer key."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from benchmarks.deid import contents, hidden, places
from benchmarks.deid.answers import Answer, Entry, midi_rows, save
from benchmarks.deid.documents import DERIVED
from benchmarks.deid.images import BURNED, PLAIN, Study, base
from benchmarks.deid.people import Person, people
from benchmarks.deid.planting import Planter, is_registered, walk

SEED: Final = 1
_OTHERS: Final = tuple(kind for kind in PLAIN if kind not in {"CT", "MR"})
_REPORTS: Final = ("SR measurements", "SR dose", "SR text", "KO", "GSPS", "RTPLAN", "ECG", "PDF", "CDA", "STL")
#: Files that come with pydicom, of many encodings, with the patients of the corpus in them.
_BUNDLED: Final = tuple(
    """
    CT_small MR_small MR_small_RLE MR_small_bigendian MR_small_implicit MR_small_jp2klossless MR_small_jpeg_ls_lossless
    ExplVR_BigEnd JPEG2000 JPEG-lossy SC_rgb_jls_lossy_line SC_rgb_jpeg_dcmtk SC_rgb_rle SC_rgb_rle_16bit_2frame
    SC_rgb_small_odd SC_ybr_full_422_uncompressed UN_sequence image_dfl liver_1frame liver_expb_1frame reportsi
    rtdose_1frame rtdose_rle_1frame rtplan rtstruct test-SR 693_J2KI nested_priv_SQ priv_SQ badVR
    """.split()
)
#: Words that many values have in common, or that are too short to stand for anybody.
_MIN_NEEDLE: Final = 4


@dataclass
class Corpus:
    """Where the objects are, and what must be true of them afterwards."""

    folder: Path
    entries: list[Entry] = field(default_factory=list)

    def path(self, entry: Entry) -> Path:
        """The file of an object."""
        return self.folder / entry.file


def generate(
    folder: Path, *, patients: Sequence[int] | None = None, burned: bool = True, bundled: bool = True
) -> Corpus:
    """Write the corpus, or the part of it that is about some patients, into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about values that are wrong on purpose
        for person in people(SEED):
            if patients is None or person.number in patients:
                _Patient(corpus, person, burned=burned).write()
        if bundled:
            _write_bundled(corpus, people(SEED), patients)
    return corpus


class _Patient:
    """The objects of one patient."""

    def __init__(self, corpus: Corpus, person: Person, *, burned: bool) -> None:
        self._corpus, self._person, self._burned = corpus, person, burned
        number = person.number
        day = date(2015 + number % 8, 1 + number % 12, 1 + (7 * number) % 28)
        self._study = Study(person, 1, day, np.random.default_rng([SEED, number]))

    def write(self) -> None:
        """Images, then what refers to them."""
        number, study = self._person.number, self._study
        slices = [self._image("CT", index) for index in range(3)]
        self._image("MR", 3)
        self._image(_OTHERS[number % len(_OTHERS)], 4)
        if self._burned:
            kinds = list(BURNED)
            for index in range(2):
                self._picture(kinds[(number + 3 * index) % len(kinds)], text=index == 0, number=number)
        derived = ["SEG", "RTSTRUCT", *[_REPORTS[(3 * number + index) % len(_REPORTS)] for index in range(3)]]
        for index, kind in enumerate(derived):
            self._write(kind, DERIVED[kind](study, slices), 10 + index)
        if number % 15 == 0:
            self._write("DICOMDIR", self._directory(slices), 20)

    def _image(self, kind: str, index: int) -> Dataset:
        ds = PLAIN[kind](self._study)
        self._write(kind, ds, index)
        return ds

    def _picture(self, kind: str, *, text: bool, number: int) -> None:
        """A picture of a kind into which text is burned; what it says of that itself is not always true."""
        ds = BURNED[kind](self._study)
        says = ("YES", None, "NO")[(number + number // len(BURNED)) % 3] if text else ("NO", None)[number % 2]
        if says:
            ds.BurnedInAnnotation = says
        self._write(kind, ds, 8 + text, text=text)

    def _write(self, kind: str, ds: Dataset, index: int, *, text: bool = False) -> None:
        number = self._person.number
        entry = Entry(f"{number:02d}-{len(self._corpus.entries):03d}.dcm", kind, number)
        planter = Planter(ds, self._study, entry, 100 * number + index)
        if kind == "CT" and index == 2 and number % 3 == 0:
            entry.kind = "whole table"
            places.whole_table(planter)
        places.patient(planter, self._person.mrns[index % len(self._person.mrns)])
        places.descriptors(planter)
        places.numbers(planter)
        if kind in {"CT", "MR"}:
            places.private_blocks(planter, places.MAKERS[(number + index) % len(places.MAKERS)])
            hidden.PLACES[(number + index) % len(hidden.PLACES)](planter)
        contents.fill(planter)
        if text:
            hidden.burn_in(planter)
        _finish(self._corpus, planter, trailing=index == 1, is_jpeg=kind == "US JPEG")

    def _directory(self, images: Sequence[Dataset]) -> Dataset:
        """A DICOMDIR that names the patient, and a file after the patient."""
        ds = base(self._study, "1.2.840.10008.1.3.10", "OT", "directory")
        ds.FileSetID = self._person.family.upper()[:16] if self._person.family.isascii() else "DISC"
        patient, picture = Dataset(), Dataset()
        patient.DirectoryRecordType, patient.PatientName = "PATIENT", self._person.name
        patient.PatientID = self._person.mrns[0]
        picture.DirectoryRecordType, picture.ReferencedFileID = "IMAGE", ["DICOM", self._person.mrns[0][:8]]
        picture.ReferencedSOPInstanceUIDInFile = images[0].SOPInstanceUID
        ds.DirectoryRecordSequence = [patient, picture]
        return ds


def _finish(corpus: Corpus, planter: Planter, *, trailing: bool, is_jpeg: bool) -> None:
    """Write an object and note all that must be true of it."""
    entry, ds = planter.entry, planter.ds
    entry.answers = planter.finish() + entry.answers
    raw = hidden.encode(planter, trailing=trailing and "DataSetTrailingPadding" not in ds, is_jpeg=is_jpeg)
    if not any(answer.action == "pixels_hidden" for answer in entry.answers):
        entry.answers += list(_digest(raw))
    _describe(entry, ds, planter.person)
    corpus.path(entry).write_bytes(raw)
    corpus.entries.append(entry)


def _describe(entry: Entry, ds: Dataset, person: Person) -> None:
    """What no byte may spell, and what is referred to."""
    entry.study, entry.instance_uid = str(ds.StudyInstanceUID), str(ds.SOPInstanceUID)
    entry.needles = {
        kind: text for kind, text in person.needles().items() if len(text) >= _MIN_NEEDLE or not text.isascii()
    }
    found = {
        (path[-1][0], str(value)) for path, element in walk(ds) if element.VR == "UI" for value in _values(element)
    }
    entry.uids = sorted({uid for _, uid in found if "." in uid and not is_registered(uid)})
    entry.references = sorted({uid for tag, uid in found if tag == 0x00081155 and uid in entry.uids})


def _values(element: pydicom.DataElement) -> list[str]:
    value = element.value
    return [value] if isinstance(value, str) else list(value or ())


def _digest(raw: bytes) -> Iterator[Answer]:
    digest = pixel_digest(raw)
    if digest:
        yield Answer("pixels_retained", digest, ((0x7FE00010,),), "", "pixels")


def pixel_digest(raw: bytes) -> str:
    """A digest of decoded pixels; empty if there are none that can be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = pixel_array(BytesIO(raw))
    except Exception:  # noqa: BLE001 - whatever is wrong with a broken file is not our subject
        return ""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.astype("<i8").tobytes()).hexdigest()


def _write_bundled(corpus: Corpus, everybody: Sequence[Person], wanted: Sequence[int] | None) -> None:
    """Files that others made, with our patients in them."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    for number, name in enumerate(_BUNDLED):
        person = everybody[number % len(everybody)]
        if wanted is not None and person.number not in wanted:
            continue
        entry = Entry(f"{person.number:02d}-{len(corpus.entries):03d}.dcm", f"bundled {name}", person.number)
        ds = dcmread(folder / f"{name}.dcm", force=True)
        if "StudyInstanceUID" not in ds or "SOPInstanceUID" not in ds or "SeriesInstanceUID" not in ds:
            continue
        study = Study(person, 2, date(2016, 1 + number % 12, 3), np.random.default_rng(number))
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = map(study.uid, ("study", name, f"{name}/1"))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        planter = Planter(ds, study, entry, number)
        ds.SpecificCharacterSet = "ISO_IR 192"
        places.patient(planter, person.mrns[0])
        places.descriptors(planter)
        entry.answers = planter.finish()
        raw = _encoded(ds)
        if raw is None:
            continue
        entry.answers += list(_digest(raw))
        _describe(entry, ds, person)
        corpus.path(entry).write_bytes(raw)
        corpus.entries.append(entry)


def _encoded(ds: Dataset) -> bytes | None:
    """The object in the encoding that it came in; None if pydicom cannot write it."""
    buffer = BytesIO()
    try:
        ds.save_as(buffer)
    except Exception:  # noqa: BLE001 - some files are broken
        return None
    return buffer.getvalue()


def save_key(corpus: Corpus) -> None:
    """Write the answer key beside the objects: as JSON, and as the SQLite table that MIDI's validator reads."""
    save(corpus.entries, corpus.folder.with_suffix(".key.jsonl"))
    file = corpus.folder.with_suffix(".answers.db")
    file.unlink(missing_ok=True)
    with sqlite3.connect(file) as db:
        db.execute("create table answer_data (StudyInstanceUID text, SOPInstanceUID text, AnswerData text)")
        rows = [(one.study, one.instance_uid, json.dumps(midi_rows(one))) for one in corpus.entries]
        db.executemany("insert into answer_data values (?, ?, ?)", rows)


def counted(corpus: Corpus) -> dict[str, int]:
    """How many checks there are, by action."""
    found: dict[str, int] = {}
    for entry in corpus.entries:
        for answer in entry.answers:
            found[answer.action] = found.get(answer.action, 0) + 1
    return found
