"""De-identification of objects: the plan of a profile carried out with one key, closed when in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydicom.dataset import Dataset

from gateway.deid.codes import Codes
from gateway.deid.graphics import OverlayCleaner
from gateway.deid.header import HeaderRun
from gateway.deid.keys import checked
from gateway.deid.memory import Memory
from gateway.deid.plan import Plan
from gateway.deid.policy import Refusal
from gateway.deid.profile import Profile, load_profile
from gateway.deid.structured import ContentItems
from gateway.deid.text import Cleaner
from gateway.deid.uids import Pseudonyms, UidMap
from gateway.deid.values import DEFAULT_ENCODINGS, encodings_of, read

__all__ = ["Deidentifier", "Refusal", "Subject"]

_PATIENT_ID: Final = 0x00100020
_ISSUER: Final = 0x00100021
_STUDY_UID: Final = 0x0020000D
_INSTANCE_UID: Final = 0x00080018


@dataclass(frozen=True, slots=True)
class Subject:
    """Who an object is about: the original ID, the pseudonym, and by how many years the dates go back."""

    patient_id: str
    pseudonym: str
    years: int


class Deidentifier:
    """One profile with its keys. Thread-safe and pure CPU: call it in a worker thread."""

    def __init__(self, profile: Profile, key: bytes, *, remembers: bool = True) -> None:
        """Take a 32-byte key; the same key gives the same pseudonyms everywhere.

        What is found out of one object helps with the next unless `remembers` is off; the results are the same.
        """
        checked(key, "The de-identification key")
        self.profile = profile
        #: Whether objects pass unchanged (the profile `none`).
        self.is_identity = not profile.deidentify
        #: Whether what is burned into pictures is to be found and blanked before (PS3.15 section E.3.1).
        self.cleans_pixels = profile.deidentify and "clean-pixel-data" in profile.options
        self.plan = Plan(profile)
        self.memory = Memory(remembers=remembers)
        self.uid = UidMap(key)
        self.pseudonyms = Pseudonyms(key)
        self.cleaner = Cleaner(self.uid)
        self.codes = Codes(self.cleaner)
        self.content_items = ContentItems(profile.options)
        #: What looks at overlay planes, if any are to stay.
        self.overlays = OverlayCleaner() if "clean-graphics" in profile.options else None

    @classmethod
    def load(cls, profile_name: str, key: bytes, directory: Path | None = None) -> Self:
        """Build the de-identifier of a profile of `directory`, or of those that ship."""
        return cls(load_profile(profile_name, directory), key)

    def apply(self, ds: Dataset) -> None:
        """De-identify a data set in place; what was issued with this key stays as it is.

        File meta information and preamble are not touched: the caller writes new ones.

        Raises
        ------
        Refusal : if it cannot be done safely; the data set is then half done and must not be used. The message holds
            no value of the data set.
        """
        if self.is_identity:
            return
        try:
            HeaderRun(self, ds).run()
        except Refusal:
            raise
        except Exception as exc:  # noqa: BLE001 - fail closed: whatever went wrong, the object does not pass
            # `from None`: the message and the frames of the cause may quote values.
            raise Refusal(f"The object could not be de-identified ({type(exc).__name__}).") from None

    def hides_days(self, subject: Subject) -> bool:
        """Whether the dates of an object are moved or taken out; after de-identification they may stay."""
        if "modified-dates" in self.profile.options:
            return subject.years > 0
        return "retain-full-dates" not in self.profile.options

    def subject(self, ds: Dataset) -> Subject:
        """Work out the pseudonym of a data set's patient, from the study if it names no patient."""
        encodings = encodings_of(ds, DEFAULT_ENCODINGS)
        patient_id = read(ds, _PATIENT_ID, encodings).strip()
        if patient_id:
            pseudonym = self.pseudonyms.of_patient(patient_id, read(ds, _ISSUER, encodings))
            is_issued = self.pseudonyms.is_issued(patient_id.upper())
        else:
            uid = read(ds, _STUDY_UID, encodings).strip() or read(ds, _INSTANCE_UID, encodings).strip()
            pseudonym = self.pseudonyms.of_study(self.uid(uid))
            is_issued = self.uid.is_issued(uid)
        shifts = "modified-dates" in self.profile.options and not is_issued
        return Subject(patient_id, pseudonym, self.pseudonyms.years(pseudonym) if shifts else 0)
