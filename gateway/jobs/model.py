"""A run of a plugin as data: its states, what may follow what, and when two runs are the same."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from dicomweb.resource import Resource


def new_id() -> str:
    """A name for a run or a mesh that cannot be guessed."""
    return secrets.token_hex(16)


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return not TRANSITIONS[self]


#: What may follow each state. A running run is queued again when the machine that ran it was lost.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.TIMED_OUT: frozenset(),
}


def predecessors(state: State) -> list[State]:
    """The states from which `state` can be reached: the condition of every compare-and-set."""
    return [before for before, after in TRANSITIONS.items() if state in after]


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that a run made, with its address.

    A DICOM object (`kind` seg, sr, sc, …) has the UIDs under which it is stored, a series of images (`kind` images) all
    but an instance's; a mesh (`kind` mesh) has `mesh_id` and `triangles`, and the UIDs of the series that it was made
    from.
    """

    kind: str
    title: str
    study_uid: str
    series_uid: str
    instance_uid: str | None = None
    mesh_id: str | None = None
    triangles: int | None = None

    @property
    def resource(self) -> Resource:
        """The DICOM object or series, or the series of the mesh."""
        return Resource(self.study_uid, self.series_uid, self.instance_uid)

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """The output as the REST API shows it; `prefix` is the path before ours as callers see it."""
        shown: dict[str, Any] = {"kind": self.kind, "title": self.title}
        shown |= {"study": self.study_uid, "series": self.series_uid}
        if self.mesh_id is None:
            return shown | ({"instance": self.instance_uid} if self.instance_uid else {})
        return shown | {"url": f"{prefix}/api/v1/meshes/{self.mesh_id}", "triangles": self.triangles}


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it was when it was read.

    Attributes
    ----------
    parameters : complete and validated.
    progress : 0 to 1; `message` is what the plugin last said that it does.
    measurements : {name, value, unit} of what was measured.
    error : one sentence if it failed.
    attempt : how often it was started.
    lease : proves that a writer is the one to whom the run was given last; empty unless running.
    """

    id: str
    plugin: str
    version: str
    title: str
    study_uid: str
    series_uids: tuple[str, ...]
    parameters: Mapping[str, Any]
    state: State = State.QUEUED
    progress: float = 0.0
    message: str = ""
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    outputs: tuple[Output, ...] = ()
    measurements: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    attempt: int = 0
    lease: str = ""
    cancel_requested: bool = False

    @property
    def key(self) -> str:
        """The same for two runs that would compute the same; hexadecimal SHA-256."""
        same = [self.plugin, self.version, self.study_uid, self.series_uids, self.parameters]
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a document of the collection `runs`, which has the fields of a run and the queue's own."""
        values = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        values |= {name: tuple(document[name]) for name in ("series_uids", "measurements")}
        values["outputs"] = tuple(Output(**output) for output in document["outputs"])
        return cls(**values | {"id": document["_id"], "state": State(document["state"])})

    def to_document(self) -> dict[str, Any]:
        """The inverse of `from_document`, without the queue's own fields."""
        document = asdict(self)
        return {"_id": document.pop("id"), **document, "state": str(self.state)}

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """The run as the REST API shows it, with times in ISO 8601, UTC; `prefix` as of `Output.to_json`."""
        return {
            "id": self.id,
            "plugin": self.plugin,
            "version": self.version,
            "title": self.title,
            "study": self.study_uid,
            "series": list(self.series_uids),
            "parameters": dict(self.parameters),
            "state": str(self.state),
            "progress": self.progress,
            "message": self.message,
            "created": _iso(self.created),
            "started": _iso(self.started),
            "finished": _iso(self.finished),
            "outputs": [output.to_json(prefix) for output in self.outputs],
            "measurements": [dict(measurement) for measurement in self.measurements],
            "error": self.error,
        }


def sentence(text: str, limit: int = 500) -> str:
    """The first line of a text, bounded, ended by a full stop: what an error may be."""
    line = " ".join((text.strip().splitlines() or [""])[0].split())
    line = line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
    return line if not line or line[-1] in ".!?…" else f"{line}."


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
