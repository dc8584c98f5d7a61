"""What is asked of the servers in the read tables: the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import phantom
from benchmarks.phantom import Instance
from benchmarks.plan import Plan

_JSON = "application/dicom+json"
_FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_FILE = 'multipart/related; type="application/dicom"'
_FRAME = 'multipart/related; type="application/octet-stream"'
_JPEG_LS_FRAME = 'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80'


@dataclass(frozen=True)
class Ask:
    """A row: one path that is asked for again and again, or several that are asked for once each."""

    name: str
    paths: Sequence[str]
    accept: str
    gzip: bool = False
    whole_study: bool = False
    with_token: bool = False  # measured with a bearer token too

    @property
    def headers(self) -> dict[str, str]:
        """What the request says besides its path."""
        return {"Accept": self.accept} | ({"Accept-Encoding": "gzip"} if self.gzip else {})

    @property
    def file_name(self) -> str:
        """Under which the answer is kept, for the machine's limits to be measured with the same bytes."""
        return re.sub(r"\W+", "-", self.name)


def asks(plan: Plan, series: Sequence[Instance], real: Sequence[Instance]) -> list[Ask]:
    """All rows: on `series`, on `real` if there is any, and on the small studies that searches find."""
    one = series[len(series) // 2]
    of_series = f"studies/{one.study_uid}/series/{one.series_uid}"
    count = plan.studies
    patient = phantom.patient_id(f"small {count // 2}")
    rows = [
        Ask(f"QIDO-RS: {count} studies", [f"studies?limit={count}"], _JSON),
        Ask(f"QIDO-RS: 1 of {count} studies by PatientID", [f"studies?PatientID={patient}"], _JSON, with_token=True),
        Ask(f"QIDO-RS: {len(series)} instances of a series", [f"{of_series}/instances"], _JSON),
        Ask(f"Metadata of {len(series)} instances", [f"{of_series}/metadata"], _JSON),
        Ask(f"Metadata of {len(series)} instances, gzip", [f"{of_series}/metadata"], _JSON, gzip=True),
        Ask("Frame, 512 x 512 x 16 bit", [f"{one.path}/frames/1"], _FRAME, with_token=True),
        Ask("Instance, 0.5 MB", [one.path], _FILE),
        Ask("Rendered JPEG, again", [f"{one.path}/rendered"], "image/jpeg"),
        Ask(f"Rendered JPEG, {len(series)} for the first time", _rendered(series), "image/jpeg"),
        Ask(f"Study of {len(series)} x 0.5 MB", [f"studies/{one.study_uid}"], _FILE, whole_study=True),
    ]
    if real:
        rows += [
            Ask("Frame of real CT, JPEG-LS as stored", [f"{real[0].path}/frames/1"], _JPEG_LS_FRAME),
            Ask(f"Rendered JPEG of real CT, {len(real)} for the first time", _rendered(real), "image/jpeg"),
            Ask(
                f"Study of real CT, {len(real)} x 0.2 MB as stored",
                [f"studies/{real[0].study_uid}"],
                _FILES,
                whole_study=True,
            ),
        ]
    return rows


def _rendered(instances: Sequence[Instance]) -> list[str]:
    return [f"{one.path}/rendered" for one in instances]
