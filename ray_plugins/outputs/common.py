"""What all DICOM outputs share: identity and dates taken from the source, deterministic UIDs, the platform's name.

Dates. An output of a de-identified source bears the source's own (shifted) date and time everywhere. The real time of
the run would give the shift away: who processes a study on the day of its acquisition would publish both dates side by
side. The run's real time is in the ledger, behind its access control. An output of a source that is not de-identified
bears the time at which the run was asked for, which PS3.3 means by Content Date; neither looks at a clock, so that a
run that is tried again makes the same bytes.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.sr.coding import Code as PydicomCode
from pydicom.uid import UID

from ray_plugins.sdk import Code, Plugin, Volume
from ray_plugins.task import DicomObject, Task

MANUFACTURER = "Isthmus"
#: Enhanced General Equipment wants a serial number; software has none.
DEVICE_SERIAL_NUMBER = "0"
#: The Implementation Class UID of the project (PS3.7 D.3.3.2), which is the gateway's, too.
IMPLEMENTATION_CLASS_UID = UID("2.25.264518739036543312958817532071646083329")
#: When nothing in the source has a date: plainly no real one, and no clue to one.
NO_DATE = ("19000101", "000000")

DATES = ("SeriesDate", "SeriesTime"), ("AcquisitionDate", "AcquisitionTime"), ("StudyDate", "StudyTime")
#: What says that the source was de-identified, and how; an output is no less so.
STAMPS = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
#: Type 2 attributes that derived objects take from their source: present there or empty.
TYPE_2 = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)


@dataclass(frozen=True)
class Origin:
    """Where outputs come from: the task, its plugin with the parameters it ran with, and its input."""

    task: Task
    plugin: Plugin
    parameters: Mapping[str, Any]
    volume: Volume

    @cached_property
    def sources(self) -> list[Dataset]:
        """Headers of the source; the first, from which patient and study are copied, has all that is wanted of it.

        Its PatientName is left to `finish`: highdicom warns of names that have one component, as pseudonyms have.
        """
        first = Dataset()
        first.update(self.volume.headers[0])
        first.PatientName = ""
        for keyword in TYPE_2:
            if keyword not in first:
                setattr(first, keyword, "")
        return [first, *self.volume.headers[1:]]

    @property
    def software(self) -> list[str]:
        """Versions of the plugin and of the platform."""
        return [f"{self.plugin.name} {self.plugin.version}", f"Isthmus {version('isthmus')}"]

    def uid(self, *names: str) -> UID:
        """Make a UID that is a function of the task's seed and the names."""
        return _uid(self.task.seed, *names)

    @property
    def uid_of_plugin(self) -> UID:
        """The plugin as an observer: the same UID for the same name and version, wherever it runs."""
        return _uid("plugin", self.plugin.name, self.plugin.version)

    def description(self, title: str) -> str:
        """Say what was made from which series, in the 64 characters of a Series Description."""
        return f"{title or self.plugin.title} of series {self.sources[0].get('SeriesNumber') or '?'}"[:64]

    def series_number(self, thousands: int) -> int:
        """Number a derived series beside its source: series 2 gives 1002, 2002…"""
        return thousands * 1000 + int(self.sources[0].get("SeriesNumber") or 0) % 1000

    @property
    def moment(self) -> tuple[str, str]:
        """Date and time of the outputs, see the module."""
        source = self.sources[0]
        created = self.task.created
        if created is not None and not is_deidentified(source):
            return created.strftime("%Y%m%d"), created.strftime("%H%M%S")
        for date, time in DATES:
            if source.get(date):
                return str(source[date].value), str(source.get(time) or "000000")
        return NO_DATE

    def finish(self, dataset: Dataset, kind: Any, title: str) -> DicomObject:
        """Give an object its dates, stamps and platform, and encode it."""
        for equipment in dataset.get("ContributingEquipmentSequence", []):
            equipment.ContributionDateTime = "".join(self.moment)
        source = self.volume.headers[0]
        for keyword in ("PatientName", "TimezoneOffsetFromUTC", *STAMPS):
            if keyword in source:
                dataset[keyword] = source[keyword]
        self.stamp(dataset)
        return DicomObject(
            kind,
            title,
            str(dataset.StudyInstanceUID),
            str(dataset.SeriesInstanceUID),
            str(dataset.SOPInstanceUID),
            self.part10(dataset),
        )

    def stamp(self, dataset: Dataset) -> None:
        """Date an object as of the moment in which it was made."""
        date, time = self.moment
        for name in ("Content", "InstanceCreation", "Series"):
            setattr(dataset, f"{name}Date", date)
            setattr(dataset, f"{name}Time", time)

    def part10(self, dataset: Dataset) -> bytes:
        """Encode an object, as the platform's."""
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        dataset.file_meta.ImplementationVersionName = f"ISTHMUS_{version('isthmus')}"[:16]
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)  # save_as refuses a source in big endian
        return buffer.getvalue()


def _uid(*names: str) -> UID:
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    # UUID(version=4) sets the bits that a UID under 2.25 must have (PS3.5 B.2); 3.11 knows no version 8.
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}")


def is_deidentified(source: Dataset) -> bool:
    """Whether an object says that its identity was removed or its dates changed."""
    removed = source.get("PatientIdentityRemoved") == "YES"
    return removed or source.get("LongitudinalTemporalInformationModified") in {"MODIFIED", "REMOVED"}


def coded(code: Code) -> PydicomCode:
    """Make pydicom's code of the SDK's."""
    return PydicomCode(code.value, code.scheme, code.meaning)


def parameter_texts(parameters: Mapping[str, Any]) -> Sequence[str]:
    """Write parameters as `name=value`, by name."""
    return [f"{name}={parameters[name]}" for name in sorted(parameters)]
