"""What a plugin's author imports: one typed function under a decorator, declared results, nothing of the platform.

The signature is the contract: its type hints become the JSON Schema of the form, of the REST API and of the
validation. The function receives the series as a :class:`Volume`, returns a :class:`Result` that says what was found,
and the platform writes the DICOM objects and the meshes. docs/plugins.md shows a whole plugin.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ray_plugins import parameters as declared
from ray_plugins.parameters import Param as Param  # authors import it from here


class PluginError(Exception):
    """A run cannot succeed; the message is one sentence for its user and holds no patient data."""


class ParameterError(PluginError):
    """Parameters do not fit the schema; `faults` has one sentence for each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(" ".join(faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,)


class Cancelled(BaseException):
    """The run was cancelled. No `Exception`, so that a plugin's `except Exception` lets it pass."""


# --- what a plugin declares ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepts:
    """Which series a plugin can work on: of one modality, or of any of several.

    `instances` is the least number; `exclude` names refused ImageType values.
    """

    modality: str | tuple[str, ...]
    instances: int = 1
    exclude: tuple[str, ...] = ("LOCALIZER",)

    def refusal(self, series: Mapping[str, Any]) -> str | None:
        """Why this series is not accepted, in one sentence; None if it is."""
        taken = (self.modality,) if isinstance(self.modality, str) else self.modality
        if series.get("Modality") not in taken:
            given = series.get("Modality") or "of unknown modality"
            return f"It needs a {' or '.join(taken)} series; this one is {given}."
        if int(series.get("instances") or 0) < self.instances:
            return f"It needs at least {self.instances} instances; this series has {series.get('instances') or 0}."
        refused = set(self.exclude) & set(series.get("ImageType") or ())
        return f"It does not take {' or '.join(sorted(refused))} images." if refused else None


@dataclass(frozen=True, slots=True)
class Resources:
    """What one run takes. `gpus` is used only where the cluster has GPUs: the same code runs on NumPy elsewhere."""

    cpus: float = 1
    memory_mb: int = 1024
    gpus: float = 0
    gpu_memory_mb: int = 0


# --- what a plugin is given ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Volume:
    """A series as one regular grid.

    Attributes
    ----------
    array : (slices, rows, columns), int16 or float32, rescaled values (HU for CT). Slices ascend along the normal
        of the image plane (cross product of row and column direction).
    affine : (4, 4) float64: index (slice, row, column, 1) of a voxel's centre -> millimetres in the patient's LPS
        coordinates (PS3.3 C.7.6.2.1.1).
    headers : the source data sets without pixels, one a slice (a multi-frame instance once), for references only.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    headers: tuple[Any, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along slices, rows and columns."""
        slices, rows, columns = (float(step) for step in np.linalg.norm(self.affine[:3, :3], axis=0))
        return slices, rows, columns

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: a fraction from 0 to 1, and what it does now."""

    fraction: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """One line of a run's log."""

    text: str


Event = Progress | Log


def _ignore(event: Event) -> None:
    """Take an event that nobody waits for."""


def _never() -> bool:
    return False


class Context:
    """The run, as its plugin sees it. Without arguments it reports to nobody, which is what a unit test wants."""

    def __init__(self, report: Callable[[Event], None] = _ignore, cancelled: Callable[[], bool] = _never) -> None:
        self.report = report
        self.is_cancelled = cancelled

    def part(self, low: float, high: float) -> Context:
        """Make a context whose progress from 0 to 1 fills this one's from `low` to `high`."""

        def report(event: Event) -> None:
            if isinstance(event, Progress):
                event = Progress(low + event.fraction * (high - low), event.text)
            self.report(event)

        return Context(report, self.is_cancelled)

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the run is (0 to 1) and end it here if it was cancelled."""
        self.check_cancelled()
        self.report(Progress(min(max(float(fraction), 0.0), 1.0), text))

    def log(self, message: str, *args: object) -> None:
        """Add a line to the run's log, %-formatted. No patient attributes."""
        self.report(Log(message % args if args else message))

    def check_cancelled(self) -> None:
        """End the run here if it was cancelled; call it between expensive steps."""
        if self.is_cancelled():
            raise Cancelled


# --- what a plugin gives back --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, coding scheme designator (SCT, DCM, UCUM, 99…) and meaning."""

    value: str
    scheme: str
    meaning: str


MORPHOLOGICAL_OPERATIONS = Code("123104", "DCM", "Morphological Operations")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
TISSUE = Code("85756007", "SCT", "Tissue")
VOLUME_EDITING = Code("113077", "DCM", "Volume editing")
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment: a mask of the volume's shape, what it is in codes (PS3.16 CID 7150, 7151), and its sRGB colour."""

    name: str
    mask: NDArray[np.bool_]
    code: Code = TISSUE
    category: Code = ANATOMICAL_STRUCTURE
    color: tuple[int, int, int] = (220, 200, 150)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its UCUM unit, of a segment or (segment "") of the whole series."""

    name: str
    value: float
    unit: str
    segment: str = ""
    code: Code | None = None
    derivation: Code | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A mesh to be made of a mask.

    Where a mask came of a threshold, `image` and `level` place the surface between voxels, where the image crosses
    the level, more finely than the mask can. `smooth` counts Taubin iterations; `triangles` is the most to keep.
    """

    title: str
    mask: NDArray[np.bool_]
    image: NDArray[Any] | None = None
    level: float = 0
    triangles: int = 200_000
    smooth: int = 10
    color: tuple[int, int, int] = (220, 200, 150)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A series derived from the source: its images with other values in some places, the same to the bit elsewhere.

    Attributes
    ----------
    values : rescaled values (HU for CT) of the volume's shape, or one for all; read where `changed` is true.
    changed : of the volume's shape.
    derivation, description : what was done, in a code (PS3.16 CID 7203) and in words.
    defaced : nobody can be recognized by these images any more (PS3.15 E.3.2).
    """

    title: str
    values: NDArray[Any] | float
    changed: NDArray[np.bool_]
    derivation: Code
    description: str
    defaced: bool = False


@dataclass(slots=True)
class Result:
    """What a plugin found. Methods chain: `Result().segmentation([…]).measure(…).mesh(…)`."""

    title: str = ""
    segments: list[Segment] = field(default_factory=list)
    encoding: Literal["LABELMAP", "BINARY"] = "LABELMAP"
    measurements: list[Measurement] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)
    series: list[Images] = field(default_factory=list)

    def segmentation(self, segments: Sequence[Segment], encoding: Literal["LABELMAP", "BINARY"] = "LABELMAP") -> Self:
        """Give segments, filed as one DICOM SEG. LABELMAP is smaller and faster but cannot hold overlaps."""
        self.segments.extend(segments)
        self.encoding = encoding
        return self

    def measure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        segment: str = "",
        code: Code | None = None,
        derivation: Code | None = None,
    ) -> Self:
        """Give a measurement with its UCUM unit ("mL", "[hnsf'U]", "1"), filed in a DICOM SR (TID 1500)."""
        self.measurements.append(Measurement(name, float(value), unit, segment, code, derivation))
        return self

    def mesh(
        self,
        title: str,
        mask: NDArray[np.bool_],
        *,
        image: NDArray[Any] | None = None,
        level: float = 0,
        triangles: int = 200_000,
        smooth: int = 10,
        color: tuple[int, int, int] = (220, 200, 150),
    ) -> Self:
        """Give a mask whose surface is wanted in 3D; see :class:`Surface`."""
        self.surfaces.append(Surface(title, mask, image, level, triangles, smooth, color))
        return self

    def images(
        self,
        title: str,
        values: NDArray[Any] | float,
        changed: NDArray[np.bool_],
        *,
        derivation: Code = VOLUME_EDITING,
        description: str = "",
        defaced: bool = False,
    ) -> Self:
        """Give the source's images with other values where `changed` is true, filed as a new series; see Images."""
        self.series.append(Images(title, values, changed, derivation, description or title, defaced))
        return self


# --- the decorator -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin: its function and everything that others may know without running it."""

    function: Callable[..., Result]
    name: str
    title: str
    version: str
    description: str
    category: str
    requires: Accepts
    resources: Resources
    timeout_s: float
    schema: Mapping[str, Any]
    family: Code
    check: Callable[[Mapping[str, Any]], str | None] | None = None

    @property
    def accepts(self) -> dict[str, Any]:
        """The series that it takes, as JSON."""
        taken = self.requires
        modality = taken.modality if isinstance(taken.modality, str) else list(taken.modality)
        return {"Modality": modality, "instances": taken.instances, "exclude": list(taken.exclude)}

    def accepts_series(self, series: Mapping[str, Any]) -> str | None:
        """None if it takes this series (Modality, instances, ImageType), else the reason in one sentence."""
        return self.requires.refusal(series)

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything about it, as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "version": self.version,
            "description": self.description,
            "category": self.category,
            "accepts": self.accepts,
            "parameters": dict(self.schema),
        }

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Complete parameters with their defaults.

        Raises
        ------
        ParameterError : with one sentence for each fault; unknown parameters are faults.
        """
        properties = self.schema["properties"]
        faults = declared.faults(self.schema, parameters)
        if faults:
            raise ParameterError(faults)
        defaults = {name: item["default"] for name, item in properties.items() if "default" in item}
        given = {name: declared.plain(value, properties[name]) for name, value in parameters.items()}
        complete = defaults | given
        fault = self.check(complete) if self.check else None
        if fault:
            raise ParameterError([fault])
        return complete

    def __call__(self, volume: Volume, context: Context | None = None, /, **parameters: Any) -> Result:
        """Run it here and now, as a test or a script does."""
        return self.function(volume, context or Context(), **self.validate(parameters))


def plugin(
    *,
    name: str,
    title: str,
    version: str,
    accepts: Accepts,
    category: str = "Segmentation",
    resources: Resources = Resources(),
    timeout_s: float = 600,
    family: Code = MORPHOLOGICAL_OPERATIONS,
    check: Callable[[Mapping[str, Any]], str | None] | None = None,
) -> Callable[[Callable[..., Result]], Plugin]:
    """Make a plugin of a function `(volume, context, parameters…) -> Result`.

    Parameters
    ----------
    name : lower-case words joined by hyphens; it is the plugin's address in the REST API and its entry point.
    accepts : the series that it takes.
    timeout_s : a run that takes longer is ended.
    family : of the algorithm, PS3.16 CID 7162.
    check : judges parameters together, after the schema: one sentence that says the fault, or None.

    Raises
    ------
    TypeError, ValueError : at import, if the declaration is not usable.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"A plugin's name is lower-case words joined by hyphens; {name!r} is not.")

    def declare(function: Callable[..., Result]) -> Plugin:
        description = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        schema = declared.schema(function)
        return Plugin(
            function, name, title, version, description, category, accepts, resources, timeout_s, schema, family, check
        )

    return declare
