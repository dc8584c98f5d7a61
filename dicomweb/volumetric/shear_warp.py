"""Parallel projection of a volume by shear and warp: slice after slice, front to back, then one warp of the result.

The view is factored into a shear of the slices and a warp in two dimensions (P. Lacroute, M. Levoy: Fast volume
rendering using a shear-warp factorization of the viewing transformation, SIGGRAPH 1994): each slice is moved by one
amount, so that NumPy can treat it whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomweb.volumetric.camera import Camera
from dicomweb.volumetric.cubic import Cubic
from dicomweb.volumetric.screen import Screen

Image2D = NDArray[np.float32]
#: Columns and rows around the sheared slices, so that every pixel of a slice has neighbors.
MARGIN = 2


@dataclass(frozen=True, slots=True, eq=False)
class Shear:
    """A view of a cubic grid, factored.

    `slices` are those of the grid along its axis that is nearest the view, the nearest to the camera first; each moves
    by `-rate` pixels (rows, columns) from one to the next. `toward` has a unit step into the scene, along slices, rows
    and columns; `axes` are the unit vectors of those in the patient.
    """

    slices: NDArray[np.int16] | NDArray[np.float32]
    rate: NDArray[np.float64]
    axes: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    voxel_mm: float
    background: float

    @property
    def offset(self) -> NDArray[np.float64]:
        """Where the first pixel of the sheared slices lies, in pixels of the nearest slice."""
        last = -self.rate * (len(self.slices) - 1)
        return np.asarray(np.floor(np.minimum(last, 0.0)) - MARGIN, np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the sheared picture."""
        spread = np.ceil(np.abs(self.rate) * (len(self.slices) - 1)).astype(int)
        rows, columns = np.array(self.slices.shape[1:]) + spread + 2 * MARGIN + 2
        return int(rows), int(columns)

    @property
    def step(self) -> float:
        """Length of a ray through one slice, in voxels."""
        return float(np.sqrt(1.0 + self.rate @ self.rate))

    def place(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Where a slice lies in the sheared picture: whole pixels, and the part of a pixel beyond."""
        place = -self.rate * index - self.offset
        whole = np.floor(place + 1e-9).astype(np.int64)
        return whole, np.maximum(place - whole, 0.0)

    def moved(self) -> Iterator[tuple[slice, slice, Image2D]]:
        """Each slice as it lies in the sheared picture: its rows, its columns, its values."""
        for index, plane in enumerate(self.slices):
            (top, left), part = self.place(index)
            values = _moved(_moved(plane.astype(np.float32), part[0], self.background).T, part[1], self.background).T
            yield slice(top, top + values.shape[0]), slice(left, left + values.shape[1]), values

    def warp(self, camera: Camera, screen: Screen) -> tuple[float, ...]:
        """From pixels of the screen to those of the sheared picture: a to f of x' = ax + by + c, y' = dx + ey + f.

        Any point on a ray will do: rays through the screen meet the nearest slice where they have been sheared to.
        """

        def sheared(point: NDArray[np.float64]) -> NDArray[np.float64]:
            depth, row, column = self.axes @ (point - self.origin_mm) / self.voxel_mm
            return np.array(
                [column - self.rate[1] * depth - self.offset[1], row - self.rate[0] * depth - self.offset[0]]
            )

        corner = screen.origin(camera)
        start = sheared(corner)
        across = sheared(corner + camera.right * screen.pixel_mm) - start
        down = sheared(corner - camera.up * screen.pixel_mm) - start
        return (across[0], down[0], start[0], across[1], down[1], start[1])


def factor(grid: Cubic, camera: Camera) -> Shear:
    """Factor the view of a camera."""
    direction = grid.axes @ camera.forward
    main = int(np.argmax(np.abs(direction)))
    order = [main, *(axis for axis in range(3) if axis != main)]
    slices = grid.array.transpose(order)
    axes, origin = grid.axes[order].copy(), grid.origin_mm.copy()
    direction = direction[order]
    if direction[0] < 0:
        origin += axes[0] * (len(slices) - 1) * grid.voxel_mm
        axes[0] *= -1
        direction[0] *= -1
        slices = slices[::-1]
    rate = direction[1:] / direction[0]
    return Shear(slices, rate, axes, origin, grid.voxel_mm, grid.background)


def _moved(plane: Image2D, distance: float, background: float) -> Image2D:
    """Move down by part of a pixel; one row longer unless nothing is to be done."""
    if distance < 1e-6:
        return plane
    moved = np.empty((plane.shape[0] + 1, plane.shape[1]), np.float32)
    part = np.float32(distance)
    np.subtract(plane[:-1], plane[1:], out=moved[1:-1])
    moved[1:-1] *= part
    moved[1:-1] += plane[1:]
    moved[0] = plane[0] + (np.float32(background) - plane[0]) * part
    moved[-1] = np.float32(background) + (plane[-1] - np.float32(background)) * part
    return moved
