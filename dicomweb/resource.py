"""Study, series, instance: the three levels of the DICOMweb hierarchy, and a validated reference to one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from dicomweb.errors import BadRequest

# PS3.5 section 9.1: at most 64 of digits and dots. Leading zeros in a component are illegal but exist in the field.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*\Z")


class Level(IntEnum):
    """A level of the Study Root hierarchy (PS3.18 section 10.1.1)."""

    STUDY = 1
    SERIES = 2
    INSTANCE = 3


def is_uid(value: str) -> bool:
    """Whether `value` has the form of a DICOM UID (PS3.5 section 9.1)."""
    return len(value) <= 64 and _UID.match(value) is not None


def checked_uid(value: str, name: str) -> str:
    """Return `value` if it is a UID, else raise BadRequest naming the parameter (never the value)."""
    if not is_uid(value):
        raise BadRequest(f"The {name} is not a valid DICOM UID.")
    return value


@dataclass(frozen=True, slots=True)
class Resource:
    """A study, a series of it, or an instance of that. Build it with `Resource.parse` from outside input."""

    study_uid: str
    series_uid: str | None = None
    instance_uid: str | None = None

    @classmethod
    def parse(cls, study_uid: str, series_uid: str | None = None, instance_uid: str | None = None) -> Resource:
        """Validate the UIDs of a request path; raise BadRequest if one is malformed."""
        checked_uid(study_uid, "Study Instance UID")
        if series_uid is not None:
            checked_uid(series_uid, "Series Instance UID")
        if instance_uid is not None:
            checked_uid(instance_uid, "SOP Instance UID")
        return cls(study_uid, series_uid, instance_uid)

    @property
    def level(self) -> Level:
        """The level this reference points at."""
        if self.series_uid is None:
            return Level.STUDY
        return Level.SERIES if self.instance_uid is None else Level.INSTANCE

    @property
    def path(self) -> str:
        """The path below the DICOMweb root, without a leading slash: `studies/…/series/…/instances/…`."""
        parts = ["studies", self.study_uid]
        if self.series_uid is not None:
            parts += ["series", self.series_uid]
        if self.instance_uid is not None:
            parts += ["instances", self.instance_uid]
        return "/".join(parts)
