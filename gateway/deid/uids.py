"""Keyed replacements for UIDs and patients: the same everywhere, not invertible, recognised when they come back.

Nothing is remembered. What is issued carries a keyed check, so that any node tells its own values from foreign ones and
returns them unchanged: de-identifying twice is de-identifying once.
"""

from __future__ import annotations

import base64
import hmac
import re
from functools import lru_cache
from typing import Final

from pydicom._uid_dict import UID_dictionary

from gateway.deid.keys import derive

#: UIDs of this shape are vocabulary, not identity: the DICOM registry (PS3.6) and HL7's registry of code systems. An
#: instance under the DICOM root, which some software makes, has a longer number somewhere.
_VOCABULARY: Final = re.compile(
    r"1\.2\.840\.10008(?:\.\d{1,4}){1,9}|2\.16\.840\.1\.113883\.6(?:\.\d{1,4}){1,3}", re.ASCII
)
_BODY_BYTES, _CHECK_BITS = 10, 47
_UUID_ROOT = "2.25."
#: Characters of a pseudonym that identify the patient, and those that check it; 5 bits each.
_NAME_CHARACTERS, _NAME_CHECK_CHARACTERS = 12, 8
_GROUP = 5
_CACHED = 65_536
#: Objects of one patient come one after the other: three digests of them take a tenth of a header's time.
_CACHED_PATIENTS = 16


class UidMap:
    """Maps UIDs to 2.25 UIDs (PS3.5 Annex B.2): a 1, 80 bits of a keyed hash of the original, 47 bits of keyed check.

    By the birthday bound two of 10**9 UIDs collide with a probability below 10**-6; a foreign 2.25 UID is taken for one
    of ours with a probability of 2**-48.
    """

    def __init__(self, key: bytes) -> None:
        self._body_key = derive(key, "uid")
        self._check_key = derive(key, "uid-check")
        self._cached = lru_cache(_CACHED)(self._replace)

    def __call__(self, uid: str) -> str:
        """Return the replacement of `uid`; issued, registered and empty ones unchanged."""
        return self._cached(uid) if uid else uid

    def _replace(self, uid: str) -> str:
        if is_registered(uid) or self.is_issued(uid):
            return uid
        body = hmac.digest(self._body_key, uid.encode("utf-8"), "sha256")[:_BODY_BYTES]
        return f"{_UUID_ROOT}{self._number(body)}"

    def is_issued(self, uid: str) -> bool:
        """Whether this map, or one with the same key, made `uid`."""
        digits = uid.removeprefix(_UUID_ROOT)
        if digits == uid or len(digits) != 39 or not (digits.isascii() and digits.isdigit()):
            return False
        number = int(digits)
        if number.bit_length() != 128:
            return False
        body = (number >> _CHECK_BITS) & ((1 << 8 * _BODY_BYTES) - 1)
        return number == self._number(body.to_bytes(_BODY_BYTES, "big"))

    def _number(self, body: bytes) -> int:
        check = int.from_bytes(hmac.digest(self._check_key, body, "sha256")[:8], "big") >> (64 - _CHECK_BITS)
        return 1 << 127 | int.from_bytes(body, "big") << _CHECK_BITS | check


def is_registered(uid: str) -> bool:
    """Whether `uid` names a class, syntax, code system or well-known frame of reference rather than an instance."""
    return uid in UID_dictionary or _VOCABULARY.fullmatch(uid) is not None


class Pseudonyms:
    """Maps patients to pseudonyms of four groups of five characters of base32, such as K7QXA-23BCD-EFGHI-JKLMN.

    60 bits of a keyed hash name the patient, 40 bits check it: two of 10**6 patients share a name with a probability
    below 10**-6, and a foreign ID is taken for a pseudonym with one of 10**-12.
    """

    def __init__(self, key: bytes) -> None:
        self._name_key = derive(key, "patient")
        self._check_key = derive(key, "patient-check")
        self._years_key = derive(key, "years")
        self._issued = lru_cache(_CACHED_PATIENTS)(self._issue)
        self._cached_years = lru_cache(_CACHED_PATIENTS)(self._years)

    def of_patient(self, patient_id: str, issuer: str = "") -> str:
        """Return the pseudonym of a patient; a pseudonym unchanged.

        Case and surrounding space of ID and issuer do not tell patients apart, leading zeros do.
        """
        normal = patient_id.strip().upper()
        return normal if self.is_issued(normal) else self._issued(f"patient\0{issuer.strip().upper()}\0{normal}")

    def of_study(self, issued_study_uid: str) -> str:
        """Return the pseudonym of the unknown patient of a study, from the UID that replaced the study's own."""
        return self._issued(f"study\0{issued_study_uid}")

    def is_issued(self, text: str) -> bool:
        """Whether `text` is a pseudonym made with this key."""
        if len(text) != 23 or text[5::6] != "---":
            return False
        characters = text.replace("-", "")
        return len(characters) == 20 and characters[_NAME_CHARACTERS:] == self._check(characters[:_NAME_CHARACTERS])

    def years(self, pseudonym: str) -> int:
        """Return by how many years, 1 to 10, the dates of this patient go back."""
        return self._cached_years(pseudonym)

    def _years(self, pseudonym: str) -> int:
        return 1 + int.from_bytes(hmac.digest(self._years_key, pseudonym.encode("ascii"), "sha256")[:8], "big") % 10

    def _issue(self, patient: str) -> str:
        name = _base32(hmac.digest(self._name_key, patient.encode("utf-8"), "sha256"))[:_NAME_CHARACTERS]
        characters = name + self._check(name)
        return "-".join(characters[start : start + _GROUP] for start in range(0, len(characters), _GROUP))

    def _check(self, name: str) -> str:
        return _base32(hmac.digest(self._check_key, name.encode("utf-8"), "sha256"))[:_NAME_CHECK_CHARACTERS]


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode("ascii")
