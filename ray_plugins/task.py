"""What travels between the dispatcher and a run: the task, its result, and how it may fail: plain, picklable data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Task:
    """One run to be executed.

    Attributes
    ----------
    run_id : for logs only.
    plugin, parameters : a registered name, and parameters that its `validate` accepts.
    inputs : URIs of Part 10 files, `file:///…` or `s3://bucket/key`, all of one series.
    seed : UIDs of the outputs are functions of it: the same task gives the same objects.
    created : when the run was asked for. It dates outputs of a source that is not de-identified; see outputs/common.py.
    options : for the platform, not the plugin; none are defined yet.
    """

    run_id: str
    plugin: str
    parameters: Mapping[str, Any]
    inputs: tuple[str, ...]
    seed: str
    created: datetime | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DicomObject:
    """A finished Part 10 file."""

    kind: Literal["seg", "sr"]
    title: str
    study_uid: str
    series_uid: str
    instance_uid: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DicomSeries:
    """A whole series of images, as finished Part 10 files: (instance UID, file) of each, in the order of slices."""

    kind: Literal["images"]
    title: str
    study_uid: str
    series_uid: str
    instances: tuple[tuple[str, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class MeshFiles:
    """One surface in three encodings; vertices are in millimetres, patient coordinates (LPS).

    `bounds_mm` is (min x, min y, min z, max x, max y, max z).
    """

    name: str
    x3d: bytes = field(repr=False)
    glb: bytes = field(repr=False)
    stl: bytes = field(repr=False)
    triangles: int
    bounds_mm: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Everything that a run gave. `measurements` are {"name", "value", "unit"}, rounded for reading."""

    objects: tuple[DicomObject, ...] = ()
    meshes: tuple[MeshFiles, ...] = ()
    measurements: tuple[Mapping[str, Any], ...] = ()
    series: tuple[DicomSeries, ...] = ()


class RunFailed(Exception):
    """A run failed; the message is one sentence for its user. `retryable`: the machine failed, not the run itself."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),), {"retryable": self.retryable}


class RunCancelled(Exception):
    """The run was cancelled."""
