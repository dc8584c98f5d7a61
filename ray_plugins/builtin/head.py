"""Where the brain lies in a head CT or MR: thresholds and morphology on a coarse grid, without a template.

The brain is what survives an erosion inside the skull (after Lemieux et al. 1999, Fast, accurate, and reproducible
automatic segmentation of the brain in T1-weighted volume MRI data, Magn Reson Med 42:127): the skull, dark in MR and
bright in CT, parts it from the scalp, and where nerves and vessels pass, an erosion that is wide enough cuts them. How
wide, and from which grey value on, differs from series to series: several are tried, and the result that looks most
like a brain by size and compactness is taken. If none does, there is no brain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_plugins.array import Backend
from ray_plugins.sdk import PluginError, Volume

GRID_MM = 2.0
HEIGHT_MM = 400.0  # only this much below the upper end is searched: a head, its neck, and arms raised above it
AIR_HU, BONE_HU = -300, 250
BRAIN_HU = (-10, 110)  # fluid, 0 to 15, to fresh blood, 90; noise is averaged out on the grid
MR_LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7)  # of the brain's own signal above the background
RADII_MM = (3.0, 4.5, 6.0, 8.0, 10.0, 13.0)
OPENED_MM = 2.0  # given back beyond the erosion, as opening rounds corners off
CLOSED_MM = 8.0  # sulci and ventricles
VERTEX_TO_CENTER_MM, CENTER_MM = 75.0, 45.0  # a ball that lies in the brain, below the top of the head
CANDIDATES = 3  # parts that may be the brain: after erosion it is among the largest
VOLUME_ML = (350, 2200)  # of a newborn's brain, and beyond the largest cranial cavities
HALF_AXES_MM = ((34, 72), (38, 86), (44, 105))  # of the ellipsoid that has the brain's moments, ascending
COMPACT = 0.75  # of the volume of that ellipsoid
SCALP_MM, TO_AIR_MM = 5.0, 35.0  # from the upper half of the brain to outer air: skull and scalp have 10 to 25
SURE = 0.9  # for this part of the brain's surface
MAX_OUTSIDE = 0.1  # of the scalp above a brain may lie outside of the field of view
SKULL_MM, IN_SKULL = 14.0, 0.5  # this part of a brain's surface has bone within that distance, where the dose is low


class NoBrain(PluginError):
    """The series shows no brain as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A volume on a grid along the patient's axes.

    Attributes
    ----------
    values : (z, y, x) float32, GRID_MM apart, each axis ascending in LPS: to the head, to the back, to the left.
    origin_mm : patient coordinates (x, y, z) of the first voxel.
    """

    values: Any
    origin_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A brain, and how dark the air around the head is.

    Attributes
    ----------
    grid : of the mask.
    brain : (z, y, x) bool, its sulci and ventricles closed.
    air_level : grey values below are air, or as dark.
    """

    grid: Grid
    brain: Any
    air_level: float


def find(
    volume: Volume, modality: str, computer: Backend, step: Callable[[float, str], None] = lambda part, text: None
) -> Head:
    """Find the brain.

    Parameters
    ----------
    modality : CT, whose values are Hounsfield units, or MR of whatever weighting.
    step : told the progress.

    Raises
    ------
    NoBrain : nothing in it has the size, the compactness and the surroundings of a brain.
    """
    step(0, "Resampling")
    grid = resample(volume, computer)
    values = grid.values
    if modality == "CT":
        air_level = float(AIR_HU)
        tissues = [(values > BRAIN_HU[0]) & (values < BRAIN_HU[1])]
    else:
        air_level, tissues = _mr_tissues(values, computer)
    best, most = None, 0.0
    for number, tissue in enumerate(tissues):
        step(0.1 + 0.8 * number / len(tissues), "Looking for the brain")
        for candidate in _opened(tissue, computer):
            score = likeness(candidate, computer)
            if score > most:
                best, most = candidate, score
    step(0.9, "Looking at what is around it")
    if best is None:
        raise NoBrain("No whole brain was found: the series is of no head, or its field of view ends in it.")
    brain = _filled(best, computer)
    _check_vertex(volume, grid, computer.to_numpy(brain))
    _check_surroundings(grid, brain, values > air_level, modality, computer)
    return Head(grid, brain, air_level)


def resample(volume: Volume, computer: Backend) -> Grid:
    """Bring a volume of any orientation to a coarse grid along the patient's axes: block means, then linear."""
    xp = computer.xp
    strides = [max(1, int(GRID_MM / width + 0.01)) for width in volume.spacing_mm]
    blocks = _block_means(volume.array, strides)
    affine = volume.affine @ np.diag([*strides, 1.0])
    affine[:3, 3] = volume.affine[:3, 3] + volume.affine[:3, :3] @ (np.array(strides) - 1) / 2
    corners = np.array(list(product(*((0, length - 1) for length in blocks.shape)))) @ affine[:3, :3].T + affine[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    low[2] = max(low[2], high[2] - HEIGHT_MM)
    shape = np.ceil((high - low) / GRID_MM).astype(int) + 1
    to_block = np.linalg.inv(affine[:3, :3])
    matrix = to_block[:, ::-1] * GRID_MM  # the grid's index is (z, y, x)
    values = computer.ndimage.affine_transform(
        xp.asarray(blocks),
        xp.asarray(matrix),
        offset=xp.asarray(to_block @ (low - affine[:3, 3])),
        output_shape=tuple(int(length) for length in shape[::-1]),
        order=1,
        cval=float(blocks.min()),
    )
    return Grid(values, low)


def _block_means(array: NDArray[Any], strides: list[int]) -> NDArray[np.float32]:
    """Mean of each block of voxels, slab by slab, so that a float copy of the whole volume is never made."""
    deep, high, wide = (max(1, length // stride) for length, stride in zip(array.shape, strides, strict=True))
    means = np.empty((deep, high, wide), np.float32)
    for number in range(deep):
        slab = array[number * strides[0] : (number + 1) * strides[0], : high * strides[1], : wide * strides[2]]
        blocks = slab.reshape(slab.shape[0], high, -1, wide, slab.shape[2] // wide)
        means[number] = blocks.mean(axis=(0, 2, 4), dtype=np.float32)
    return means


def _mr_tissues(values: Any, computer: Backend) -> tuple[float, list[Any]]:
    """Give the level of air, and masks of all that is at least so bright: the brain's own signal is the measure.

    The signal is the median of a ball that lies in the brain of whatever head, below its vertex.
    """
    xp, ndimage = computer.xp, computer.ndimage
    low, high = (float(xp.percentile(values, percent)) for percent in (2, 98))
    air_level = low + 0.1 * (high - low)  # as of BET: Smith 2002, Hum Brain Mapp 17:143
    parts, _ = ndimage.label(ndimage.binary_erosion(values > air_level, iterations=2, brute_force=True))
    sizes = xp.bincount(parts.ravel())
    sizes[0] = 0
    largest = parts == int(sizes.argmax())
    rows = np.flatnonzero(computer.to_numpy(largest.sum(axis=(1, 2))) * GRID_MM**2 > 1000)
    if not len(rows) or not int(sizes.max()):
        raise NoBrain("No head was found in the series.")
    top = int(rows[-1])
    upper = largest[max(0, top - 60) : top + 1]
    y, x = (float((upper.sum(axis=(0, other)) * xp.arange(upper.shape[axis])).sum() / upper.sum())
            for axis, other in ((1, 2), (2, 1)))  # fmt: skip
    center = (max(top - VERTEX_TO_CENTER_MM / GRID_MM, 0), y, x)
    index = xp.ogrid[tuple(slice(0, length) for length in values.shape)]
    ball = sum((axis - at) ** 2 for axis, at in zip(index, center, strict=True)) < (CENTER_MM / GRID_MM) ** 2
    signal = float(xp.median(values[ball]))
    return air_level, [values > low + level * (signal - low) for level in MR_LEVELS]


def _opened(tissue: Any, computer: Backend) -> Iterator[Any]:
    """Give the largest parts that erosions by balls leave, each grown again within the tissue."""
    xp, ndimage = computer.xp, computer.ndimage
    distance = _distance(tissue, computer)
    ball_mm = (VOLUME_ML[0] * 1000 / (4 / 3 * np.pi)) ** (1 / 3)
    for radius_mm in RADII_MM:
        parts, count = ndimage.label(distance > radius_mm)
        sizes = xp.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        # half of what would be left of a ball that is as large as the smallest brain
        least = 2 / 3 * np.pi * (ball_mm - radius_mm) ** 3 / GRID_MM**3
        for number in xp.argsort(sizes)[::-1][:CANDIDATES].tolist():
            if int(sizes[number]) > least:
                yield _grown(parts == number, tissue, radius_mm + OPENED_MM, computer)


def _grown(part: Any, tissue: Any, distance_mm: float, computer: Backend) -> Any:
    """Grow a part within the tissue; only what is near it is looked at."""
    box = _box(part, int(distance_mm / GRID_MM) + 1, computer)
    grown = computer.xp.zeros_like(part)
    grown[box] = tissue[box] & (_distance(~part[box], computer) <= distance_mm)
    return grown


def _box(mask: Any, near: int, computer: Backend) -> tuple[slice, ...]:
    """Bound what is in a mask, and so many voxels around it."""
    box = []
    for axis, length in enumerate(mask.shape):
        hit = np.flatnonzero(computer.to_numpy(mask.any(axis=tuple({0, 1, 2} - {axis}))))
        box.append(slice(max(0, int(hit[0]) - near), min(length, int(hit[-1]) + near + 1)))
    return tuple(box)


def likeness(mask: Any, computer: Backend) -> float:
    """How much a mask looks like a brain, by its size and its compactness; 0 if it cannot be one."""
    points = np.argwhere(computer.to_numpy(mask)) * GRID_MM
    volume_ml = len(points) * GRID_MM**3 / 1000
    if not VOLUME_ML[0] <= volume_ml <= VOLUME_ML[1]:
        return 0.0
    half_axes = np.sqrt(5 * np.linalg.eigvalsh(np.cov(points.T)))
    compact = volume_ml * 1000 / (4 / 3 * np.pi * float(np.prod(half_axes)))
    fits = all(low <= length <= high for length, (low, high) in zip(half_axes, HALF_AXES_MM, strict=True))
    return float(compact * np.cbrt(volume_ml)) if fits and compact >= COMPACT else 0.0


def _filled(mask: Any, computer: Backend) -> Any:
    """Close sulci, and fill ventricles; at the border of the grid nothing is eroded."""
    grown = _distance(~mask, computer) <= CLOSED_MM
    return computer.ndimage.binary_fill_holes(mask | (_distance(grown, computer) > CLOSED_MM))


def _check_vertex(volume: Volume, grid: Grid, brain: NDArray[np.bool_]) -> None:
    """Refuse a brain whose upper end lies outside the field of view: what is seen may be anything that is large."""
    deep = brain.shape[0]
    y, x = np.nonzero(brain.any(axis=0))
    z = deep - 1 - brain[::-1, y, x].argmax(axis=0)
    above = grid.origin_mm + np.stack([x, y, z + SCALP_MM / GRID_MM], axis=-1) * GRID_MM
    index = (above - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    outside = ((index < -0.5) | (index > np.array(volume.array.shape) - 0.5)).any(axis=-1)
    if float(outside.mean()) > MAX_OUTSIDE:
        raise NoBrain("The field of view ends below the top of the brain.")


def _check_surroundings(grid: Grid, brain: Any, body: Any, modality: str, computer: Backend) -> None:
    """Refuse what has a brain's size but not its place: outer air is near above it, and in CT a skull around it."""
    xp, ndimage = computer.xp, computer.ndimage
    surface = brain & ~ndimage.binary_erosion(brain, brute_force=True, border_value=1)
    rows = np.flatnonzero(computer.to_numpy(brain.any(axis=(1, 2))))
    upper = surface.copy()
    upper[: int(rows.mean())] = False
    # Beyond the field of view there is air, but below: a head goes on there. Lungs and sinuses are no outer air.
    air = xp.pad(~body, ((0, 1), (1, 1), (1, 1)), constant_values=True)
    parts, _ = ndimage.label(_distance(air, computer) > 2 * GRID_MM)
    outer = (parts == parts[-1, 0, 0]) if int(parts[-1, 0, 0]) else air
    depth = _distance(~outer, computer)[:-1, 1:-1, 1:-1][upper] - 2 * GRID_MM  # as the outer air was eroded
    if float((depth <= TO_AIR_MM).mean()) < SURE or float((depth >= SCALP_MM).mean()) < SURE:
        raise NoBrain("No brain was found: what has its size does not lie below a scalp.")
    if modality == "CT":
        bone = _distance(grid.values < BONE_HU, computer) <= SKULL_MM
        if float(bone[surface].mean()) < IN_SKULL:
            raise NoBrain("No brain was found: what has its size lies in no skull.")


def _distance(mask: Any, computer: Backend) -> Any:
    """Millimetres from each voxel of a mask to the nearest one outside; infinite if there is none."""
    if bool(mask.all()):
        return computer.xp.full(mask.shape, np.inf, np.float32)
    distance = computer.xp.zeros(mask.shape, np.float32)
    if bool(mask.any()):
        box = _box(mask, 1, computer)  # none outside is nearer than the box's rim
        distance[box] = computer.ndimage.distance_transform_edt(mask[box]) * GRID_MM
    return distance
