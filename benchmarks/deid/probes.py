"""What somebody would try who has the output, the list of patients and much time, but not the key."""

from __future__ import annotations

import base64
import hashlib
import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from benchmarks.deid import tools
from benchmarks.deid.corpus import Corpus
from benchmarks.deid.images import BURNED
from benchmarks.deid.people import people
from benchmarks.deid.planting import is_registered, walk

#: Objects that are taken in again; of every kind a few, but pictures that take long.
SAMPLE = 60
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256")
_SALTS = ("", "isthmus", "dicom", "salt", "1.2.826.0.1.3680043", "0", "1")


@dataclass
class Probes:
    """How far they came.

    Attributes
    ----------
    guesses, hits : guesses of pseudonyms and UIDs from originals by unkeyed hashes, and those that are in the output.
    shared : pseudonyms and UIDs that the outputs under two keys have in common.
    compared, different : objects that a second process made again with the same key, and those with other bytes.
    """

    guesses: int = 0
    hits: int = 0
    shared: int = 0
    compared: int = 0
    different: int = 0


def probe(corpus: Corpus, scratch: Path) -> Probes:
    """Try all, on a part of the corpus."""
    found = Probes()
    sample = _sample(corpus, scratch / "sample")
    for name, key in (("first", tools.KEY), ("again", tools.KEY), ("other key", tools.OTHER_KEY)):
        tools.run(tools.OURS, sample, scratch / name, key=key)
    issued = _issued(scratch / "first")
    mrns = [mrn for person in people() for mrn in person.mrns]
    uids = {uid for entry in corpus.entries for uid in entry.uids}
    for guess in itertools.chain.from_iterable(map(_guesses, [*mrns, *uids])):
        found.guesses += 1
        found.hits += guess.upper() in issued
    found.shared = len(issued & _issued(scratch / "other key"))
    for file in sorted((scratch / "again").glob("*.dcm")):
        found.compared += 1
        found.different += file.read_bytes() != (scratch / "first" / file.name).read_bytes()
    return found


def _sample(corpus: Corpus, folder: Path) -> Path:
    folder.mkdir(parents=True)
    quick = [entry for entry in corpus.entries if entry.kind not in BURNED]
    for entry in quick[:: max(1, len(quick) // SAMPLE)]:
        shutil.copy(corpus.path(entry), folder)
    return folder


def _issued(folder: Path) -> set[str]:
    """Pseudonyms and UIDs of all objects of a folder, in upper case."""
    found = set()
    for file in folder.glob("*.dcm"):
        ds = dcmread(file, stop_before_pixels=True)
        values = {str(element.value) for _, element in walk(ds) if element.VR == "UI" and element.value}
        found |= {value for value in values if not is_registered(value)}
        found.add(str(ds.get("PatientID")).upper())
    return found


def _guesses(original: str) -> Iterator[str]:
    """What tools are known to make of an identifier, and what they might: unkeyed hashes in many notations."""
    for spelling in {original, original.lower(), original.strip("MRN")}:
        yield f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, spelling).int}"
        for name, salt in itertools.product(_HASHES, _SALTS):
            digest = hashlib.new(name, (salt + spelling).encode()).digest()
            for notation in _NOTATIONS.values():
                yield notation(digest)


def _in_groups(digest: bytes) -> str:
    text = base64.b32encode(digest).decode()
    return "-".join(text[start : start + 5] for start in range(0, 20, 5))


_NOTATIONS: Mapping[str, Callable[[bytes], str]] = {
    "UID": lambda digest: f"2.25.{int.from_bytes(digest[:16], 'big')}",
    "UUID of version 4": lambda digest: f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}",
    "hexadecimal": lambda digest: digest.hex(),
    "16 hexadecimal digits": lambda digest: digest.hex()[:16],
    "decimal": lambda digest: str(int.from_bytes(digest[:8], "big")),
    "base32": lambda digest: base64.b32encode(digest).decode().rstrip("="),
    "groups of base32": _in_groups,
}
