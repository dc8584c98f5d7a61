"""Reads the instances of one series into a Volume: fetched by URI, sorted by geometry, decoded, rescaled.

A grid is made only of slices that form one: parallel, equally spaced, each position once. Whatever does not is refused
with a sentence that says where, because a silently bent volume gives wrong millilitres. A tilted gantry shears the grid
evenly: such a series is read, and its affine says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from ray_plugins import decoding
from ray_plugins.sdk import Context, PluginError, Volume

#: Direction cosines of one stack may differ by this much: scanners write six digits.
MAX_COSINE_DIFFERENCE = 1e-3
#: A step may differ from the mean by this part of it, so that rounded positions pass and a missing slice does not.
MAX_STEP_DIFFERENCE = 0.05
MAX_THREADS = 8


class UnusableSeries(PluginError):
    """The series is no regular grid of slices; the message says why."""


def read(uris: Sequence[str], context: Context | None = None) -> Volume:
    """Read one series.

    Parameters
    ----------
    uris : Part 10 files, `file:///…` or `s3://bucket/key`, in any order.

    Returns
    -------
    Volume : array (slices, rows, columns), int16 where rescaled values are whole and fit, else float32.

    Raises
    ------
    UnusableSeries : no image, several series, different sizes or orientations, gaps, duplicates.
    """
    context = context or Context()
    decoding.register()
    fetch = fetcher(uris)
    with ThreadPoolExecutor(min(MAX_THREADS, (os.cpu_count() or 1) + 1)) as pool:
        found: list[Slice] = []
        for number, instance in enumerate(pool.map(lambda uri: parse(fetch(uri)), uris), 1):
            found.extend(slices_of(instance))
            context.progress(0.3 * number / len(uris), f"Reading {number} of {len(uris)} instances")
        slices = sort(found)
        affine = grid(slices)
        whole = all(item.is_whole for item in slices)
        array = np.empty((len(slices), *slices[0].shape), np.int16 if whole else np.float32)

        def fill(index: int) -> None:
            context.check_cancelled()
            array[index] = slices[index].decode(array.dtype)

        for number, _ in enumerate(pool.map(fill, range(len(slices))), 1):
            context.progress(0.3 + 0.7 * number / len(slices), f"Decoding {number} of {len(slices)} slices")
    headers = {str(item.dataset.SOPInstanceUID): item.dataset for item in slices}
    for header in headers.values():
        del header.PixelData
    return Volume(array, affine, tuple(headers.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One plane of an instance: an image, or a frame of a multi-frame image."""

    dataset: Dataset
    frame: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along which slices are sorted: row direction x column direction."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)

    @property
    def distance_mm(self) -> float:
        """Position along the normal."""
        return float(self.position @ self.normal)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.dataset.Rows), int(self.dataset.Columns)

    @property
    def is_whole(self) -> bool:
        """Whether rescaled values are whole numbers that fit int16."""
        if self.slope != 1 or not self.intercept.is_integer():
            return False
        bits, signed = int(self.dataset.BitsStored), bool(self.dataset.PixelRepresentation)
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        limits = np.iinfo(np.int16)
        return bool(limits.min <= low + self.intercept and high + self.intercept <= limits.max) or signed

    def decode(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Decode and rescale; a value beyond int16 (a padding value) is clipped to its end."""
        try:
            pixels = pixel_array(self.dataset, index=self.frame, raw=True)
        except (AttributeError, NotImplementedError, RuntimeError, ValueError) as exc:
            syntax = self.dataset.file_meta.TransferSyntaxUID.name
            raise UnusableSeries(f"{_label(self)} cannot be decoded ({syntax}).") from exc
        if dtype == np.int16:
            limits = np.iinfo(np.int16)
            shifted = pixels.astype(np.int32) + np.int32(self.intercept)
            return np.asarray(np.clip(shifted, limits.min, limits.max), np.int16)
        return np.asarray(pixels, np.float32) * np.float32(self.slope) + np.float32(self.intercept)


def sort(slices: Sequence[Slice]) -> list[Slice]:
    """Sort slices along their common normal, refusing those that cannot be one stack."""
    if not slices:
        raise UnusableSeries("The series holds no image.")
    first = slices[0]
    for item in slices:
        if item.dataset.SeriesInstanceUID != first.dataset.SeriesInstanceUID:
            raise UnusableSeries("The instances belong to more than one series.")
        if item.dataset.get("FrameOfReferenceUID") != first.dataset.get("FrameOfReferenceUID"):
            raise UnusableSeries("The slices do not share one frame of reference.")
        if item.shape != first.shape:
            raise UnusableSeries(f"{_label(item)} has another size than {_label(first)}.")
        if np.abs(item.orientation - first.orientation).max() > MAX_COSINE_DIFFERENCE:
            raise UnusableSeries(f"{_label(item)} has another orientation than {_label(first)}.")
        if not np.allclose(item.spacing_mm, first.spacing_mm, rtol=MAX_COSINE_DIFFERENCE):
            raise UnusableSeries(f"{_label(item)} has another pixel spacing than {_label(first)}.")
    normal = first.normal
    return sorted(slices, key=lambda item: float(item.position @ normal))


def grid(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Make the affine of sorted slices (see sdk.Volume), refusing gaps, duplicates and uneven steps."""
    if len(slices) < 2:
        raise UnusableSeries("One slice is no volume.")
    positions = np.stack([item.position for item in slices])
    distances = positions @ slices[0].normal
    steps = np.diff(distances)
    step = float(np.median(steps))
    for index, width in enumerate(steps):
        pair = f"between {_label(slices[index])} and {_label(slices[index + 1])}"
        if width < 0.01:
            raise UnusableSeries(f"Two slices lie at the same position, {distances[index]:.2f} mm along the normal.")
        if abs(width - step) > MAX_STEP_DIFFERENCE * step:
            raise UnusableSeries(f"The step is {width:.2f} mm {pair}, elsewhere {step:.2f} mm: a slice is missing.")
    # Positions have few digits: the mean step over the whole stack is truer than any single one.
    direction = (positions[-1] - positions[0]) / (len(slices) - 1)
    drift = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * direction).max()
    if drift > MAX_STEP_DIFFERENCE * max(step, *slices[0].spacing_mm):
        raise UnusableSeries(f"The slices do not lie on one line: they drift by up to {drift:.2f} mm.")
    rows_mm, columns_mm = slices[0].spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = direction
    affine[:3, 1] = slices[0].orientation[3:] * rows_mm
    affine[:3, 2] = slices[0].orientation[:3] * columns_mm
    affine[:3, 3] = positions[0]
    return affine


def slices_of(instance: Dataset) -> Iterator[Slice]:
    """Give the planes of an instance; none if it has no pixels."""
    if "PixelData" not in instance:
        return
    if int(instance.get("SamplesPerPixel", 1)) != 1:
        raise UnusableSeries("The series has colour images.")
    for frame in range(int(instance.get("NumberOfFrames", 1) or 1)):
        find = _attribute_finder(instance, frame)
        position, orientation = find("ImagePositionPatient"), find("ImageOrientationPatient")
        spacing = find("PixelSpacing")
        if position is None or orientation is None or spacing is None:
            raise UnusableSeries("An image does not say where in the patient it lies; the series cannot be a volume.")
        yield Slice(
            instance,
            frame,
            np.array(position, np.float64),
            np.array(orientation, np.float64),
            (float(spacing[0]), float(spacing[1])),
            float(1 if (slope := find("RescaleSlope")) is None else slope),
            float(find("RescaleIntercept") or 0),
        )


#: Where a multi-frame image keeps, for a frame or for all, what a single-frame image has at its top (PS3.3 C.7.6.16).
FUNCTIONAL_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


def _attribute_finder(instance: Dataset, frame: int) -> Callable[[str], Any]:
    """Make a function that looks an attribute up in the frame's groups, the shared groups, and the instance."""
    groups = [*instance.get("PerFrameFunctionalGroupsSequence", [])[frame : frame + 1]]
    groups += instance.get("SharedFunctionalGroupsSequence", [])

    def find(keyword: str) -> Any:
        for group in groups:
            items = group.get(FUNCTIONAL_GROUPS[keyword])
            if items and items[0].get(keyword) is not None:
                return items[0][keyword].value
        return instance.get(keyword)

    return find


def _label(item: Slice) -> str:
    """Name a slice without identity."""
    number = item.dataset.get("InstanceNumber")
    return f"frame {item.frame + 1}" if "NumberOfFrames" in item.dataset else f"instance {number}"


def parse(data: bytes) -> Dataset:
    """Read a Part 10 file."""
    try:
        return dcmread(BytesIO(data))
    except InvalidDicomError as exc:
        raise UnusableSeries("A file of the series is not DICOM.") from exc


def fetcher(uris: Sequence[str]) -> Callable[[str], bytes]:
    """Make a function from URI to bytes, usable by several threads.

    The S3 client takes credentials and endpoint from where it runs (AWS_* variables or a profile): they never travel
    with a task.
    """
    client: Any = None
    if any(uri.startswith("s3://") for uri in uris):
        from botocore.config import Config
        from botocore.session import get_session

        client = get_session().create_client("s3", config=Config(max_pool_connections=MAX_THREADS))

    def fetch(uri: str) -> bytes:
        scheme, _, rest = uri.partition("://")
        try:
            if scheme == "file":
                return Path(unquote(rest)).read_bytes()
            if scheme == "s3":
                bucket, _, key = rest.partition("/")
                return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except Exception as exc:
            raise PluginError("An instance of the series cannot be fetched from the object store.") from exc
        raise PluginError(f"Inputs are file:// or s3:// URIs, not {scheme}://.")

    return fetch
