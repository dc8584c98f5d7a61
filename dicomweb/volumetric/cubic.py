"""A volume resampled to cubic voxels, cropped to what is not air, small enough to be rendered in a second or two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicomweb.volumetric.volume import Volume

#: Every so many voxels are looked at for the lowest value.
_STRIDE = 4
#: Voxels along an edge: what is much longer than wide would else be sheared into a huge picture.
_MAX_SIDE = 1024
#: Of CT, values below are air; of other volumes, the lowest part of their range.
_AIR_HU = -500.0
_BACKGROUND_PART = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Cubic:
    """Cubic voxels.

    Attributes
    ----------
    array : (slices, rows, columns), int16 or float32, modality units.
    axes : (3, 3), rows are unit vectors in the patient (LPS) along slices, rows, columns.
    origin_mm : center of the first voxel.
    voxel_mm : length of an edge.
    background : value of what lies outside.
    """

    array: NDArray[np.int16] | NDArray[np.float32]
    axes: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    voxel_mm: float
    background: float


def cubic(volume: Volume, max_voxels: int) -> Cubic:
    """Resample a volume to at most about `max_voxels` cubic voxels, linearly; a tilted gantry is set straight."""
    background = _background(volume)
    first, last = _content(volume, background)
    corner = volume.affine[:3, :3] @ first + volume.affine[:3, 3]
    axes = np.stack([volume.affine[:3, 1], volume.affine[:3, 2]])
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    normal = np.cross(axes[0], axes[1])
    normal *= np.sign(normal @ volume.affine[:3, 0])
    step = volume.affine[:3, 0]
    count = last - first
    # How far slices lie aside of each other, with a tilted gantry; zero else.
    aside = np.array([axes[0] @ step, axes[1] @ step])
    extent = np.array([normal @ step, *volume.spacing_mm[1:]]) * count
    extent[1:] += np.abs(aside) * count[0]
    voxel = max(
        float(volume.spacing_mm.min()),
        float(np.prod(np.maximum(extent, 1e-3)) / max_voxels) ** (1 / 3),
        float(extent.max()) / _MAX_SIDE,
    )
    shape = np.maximum(np.ceil(extent / voxel).astype(int) + 1, 1)
    start = np.minimum(aside * count[0], 0.0)
    planes = _Planes(volume, first, aside, start, voxel, (int(shape[1]), int(shape[2])), background)
    array = np.empty(shape, volume.array.dtype)
    for index, place in enumerate(np.arange(shape[0]) * voxel / (normal @ step)):
        array[index] = planes.at(min(float(place), float(count[0])))
    origin = corner + start[0] * axes[0] + start[1] * axes[1]
    return Cubic(array, np.stack([normal, *axes]), origin, voxel, background)


class _Planes:
    """Planes of the cubic grid between two slices; keeps the slices that were scaled last."""

    def __init__(
        self,
        volume: Volume,
        first: NDArray[np.int64],
        aside: NDArray[np.float64],
        start: NDArray[np.float64],
        voxel: float,
        shape: tuple[int, int],
        background: float,
    ) -> None:
        self._volume, self._first, self._background = volume, first, background
        self._aside, self._start, self._voxel, self._shape = aside, start, voxel, shape
        self._scaled: dict[int, NDArray[np.float32]] = {}

    def at(self, place: float) -> NDArray[np.float32]:
        """The plane at a place between slices, counted from the first."""
        below = int(place)
        part = np.float32(place - below)
        plane = self._slice(below)
        return plane if part < 1e-6 else plane + (self._slice(below + 1) - plane) * part

    def _slice(self, index: int) -> NDArray[np.float32]:
        if index not in self._scaled:
            self._scaled = {one: plane for one, plane in self._scaled.items() if one >= index - 1}
            self._scaled[index] = self._scale(index)
        return self._scaled[index]

    def _scale(self, index: int) -> NDArray[np.float32]:
        """One slice on the rows and columns of the cubic grid.

        Pillow counts from the corners of pixels, not from their centers.
        """
        source = Image.fromarray(self._volume.array[self._first[0] + index].astype(np.float32))
        spacing = self._volume.spacing_mm[1:]
        scale = self._voxel / spacing
        shift = (self._start - self._aside * index) / spacing + self._first[1:] + 0.5 - 0.5 * scale
        coefficients = (scale[1], 0.0, shift[1], 0.0, scale[0], shift[0])
        size = (self._shape[1], self._shape[0])
        scaled = source.transform(
            size,
            Image.Transform.AFFINE,
            tuple(map(float, coefficients)),
            Image.Resampling.BILINEAR,
            fillcolor=self._background,
        )
        return np.asarray(scaled, np.float32)


def _background(volume: Volume) -> float:
    """The value of nothing: air for CT, else the lowest there is."""
    lowest = float(volume.array[::_STRIDE, ::_STRIDE, ::_STRIDE].min())
    return max(lowest, -1024.0) if volume.is_ct else lowest


def _content(volume: Volume, background: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indexes of the first and the last voxel of the box around everything but background, and one voxel more."""
    top = max(float(plane.max()) for plane in volume.array)
    threshold = _AIR_HU if volume.is_ct else background + _BACKGROUND_PART * (top - background)
    there = [np.zeros(length, dtype=bool) for length in volume.array.shape]
    for index, plane in enumerate(volume.array):
        inside = plane > threshold
        there[1] |= inside.any(axis=1)
        there[2] |= inside.any(axis=0)
        there[0][index] = bool(inside.any())
    last = np.array(volume.array.shape) - 1
    first = np.zeros(3, np.int64)
    for axis, found in enumerate(map(np.flatnonzero, there)):
        if found.size:
            first[axis] = max(0, found[0] - 1)
            last[axis] = min(last[axis], found[-1] + 1)
    return first, last
