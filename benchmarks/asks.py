"""What is asked of the servers in the read tables: the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum

from benchmarks import phantom
from benchmarks.phantom import Instance
from benchmarks.plan import Plan

_JSON = "application/dicom+json"
_FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_FILE = 'multipart/related; type="application/dicom"'
_FRAME = 'multipart/related; type="application/octet-stream"'
_JPEG_LS_FRAME = 'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80'

#: Rows that targets name.
STUDIES = "QIDO-RS: all studies"
INSTANCES = "QIDO-RS: instances of a series"
METADATA = "Metadata of a series"
METADATA_GZIP = "Metadata of a series, gzip"
FRAME = "Frame, 512 x 512 x 16 bit"
INSTANCE = "Instance, 0.5 MB"
RENDERED = "Rendered JPEG, again"
COLD = "Rendered JPEG, for the first time"
STUDY = "Study, 0.5 MB each"
#: Different searches of one kind: more than any server answers in a second.
_MANY = 20_000


class How(Enum):
    """How a row is measured."""

    LOAD = "asked by wrk, again and again"
    ONCE = "each path once, by the prepared sender"
    DOWNLOAD = "downloaded by curl"


@dataclass(frozen=True)
class Ask:
    """A row: paths that are asked for in turn. `latency` if it is also measured at 1, 25 and 100 connections."""

    name: str
    paths: Sequence[str]
    accept: str
    how: How = How.LOAD
    gzip: bool = False
    connections: int | None = None
    latency: bool = False
    with_token: bool = False  # measured with a bearer token too

    @property
    def headers(self) -> dict[str, str]:
        """What the request says besides its path."""
        return {"Accept": self.accept} | ({"Accept-Encoding": "gzip"} if self.gzip else {})

    @property
    def has_limit(self) -> bool:
        """Whether other programs can serve the same bytes, as each path has the same answer or there is one."""
        return len(self.paths) == 1

    @property
    def is_json(self) -> bool:
        return self.accept == _JSON

    @property
    def file_name(self) -> str:
        """Under which the answer is kept, for the machine's limits to be measured with the same bytes."""
        return re.sub(r"\W+", "-", self.name)


def asks(plan: Plan, series: Sequence[Instance], pictures: Sequence[Instance], real: Sequence[Instance]) -> list[Ask]:
    """All rows: on `series`, on `pictures` that are rendered once, on `real`, and on the small studies besides."""
    one = series[len(series) // 2]
    of_series = f"studies/{one.study_uid}/series/{one.series_uid}"
    patient = patient_of(plan.studies // 2)
    few = plan.pictures // 4
    rows = [
        Ask(STUDIES, [f"studies?limit={plan.studies}"], _JSON),
        Ask(STUDIES + ", each search another", list(_all_studies(plan)), _JSON),
        Ask("QIDO-RS: one study by PatientID", [f"studies?PatientID={patient}"], _JSON, with_token=True),
        Ask("QIDO-RS: one study by PatientID, each search another", list(_one_study(plan)), _JSON, latency=True),
        Ask(INSTANCES, [f"{of_series}/instances"], _JSON),
        Ask(METADATA, [f"{of_series}/metadata"], _JSON),
        Ask(METADATA_GZIP, [f"{of_series}/metadata"], _JSON, gzip=True, latency=True),
        Ask(FRAME, [f"{one.path}/frames/1"], _FRAME, with_token=True, latency=True),
        Ask(FRAME + ", each another", [f"{any_one.path}/frames/1" for any_one in series], _FRAME),
        Ask(INSTANCE, [one.path], _FILE, latency=True),
        Ask(INSTANCE + ", WADO-URI", [_wado_uri(one)], "application/dicom"),
        Ask(RENDERED, [f"{one.path}/rendered"], "image/jpeg", latency=True),
        Ask(f"{COLD}, 1 connection", _rendered(pictures[:few]), "image/jpeg", How.ONCE, connections=1),
        Ask(f"{COLD}, {plan.connections} connections", _rendered(pictures[few:]), "image/jpeg", How.ONCE),
        Ask(STUDY, [f"studies/{one.study_uid}"], _FILE, How.DOWNLOAD),
    ]
    if real:
        study = f"studies/{real[0].study_uid}"
        rows += [
            Ask("Frame of real CT, JPEG-LS as stored", [f"{real[0].path}/frames/1"], _JPEG_LS_FRAME),
            Ask("Rendered JPEG of real CT, for the first time", _rendered(real), "image/jpeg", How.ONCE),
            Ask("Study of real CT, 0.2 MB each, as stored", [study], _FILES, How.DOWNLOAD),
        ]
    return rows


def patient_of(number: int) -> str:
    """The PatientID of a small study."""
    return phantom.patient_id(f"small {number}")


def _rendered(instances: Sequence[Instance]) -> list[str]:
    return [f"{one.path}/rendered" for one in instances]


def _wado_uri(one: Instance) -> str:
    uids = f"studyUID={one.study_uid}&seriesUID={one.series_uid}&objectUID={one.instance_uid}"
    return f"/wado?requestType=WADO&{uids}&contentType=application/dicom"


def _all_studies(plan: Plan) -> Iterator[str]:
    """Searches that find every study: what tells them apart are dates around all of theirs."""
    return (f"studies?limit={plan.studies}&StudyDate={dates}" for dates in _ranges())


def _one_study(plan: Plan) -> Iterator[str]:
    for number, dates in enumerate(_ranges()):
        yield f"studies?PatientID={patient_of(number % plan.studies)}&StudyDate={dates}"


def _ranges() -> Iterator[str]:
    first, last = date(1900, 1, 1), date(2030, 1, 1)
    for number in range(_MANY):
        yield f"{first + timedelta(number % 200):%Y%m%d}-{last + timedelta(number // 200):%Y%m%d}"
