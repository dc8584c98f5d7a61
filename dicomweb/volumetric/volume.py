"""A volume: evenly spaced planes as one array, with where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.options import Window


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxels in modality units.

    Attributes
    ----------
    array : (slices, rows, columns), int16 or float32, all finite.
    affine : (4, 4), from voxel indexes (slice, row, column) to mm in the patient's coordinates (LPS).
    window : how its middle plane is to be shown; None if the object names none.
    is_ct : whether the values are Hounsfield units.
    is_inverse : whether low values are to be shown bright (MONOCHROME1).
    """

    array: NDArray[np.int16] | NDArray[np.float32]
    affine: NDArray[np.float64]
    window: Window | None = None
    is_ct: bool = False
    is_inverse: bool = False

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance between slices, rows and columns."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), np.float64)

    @property
    def corners_mm(self) -> NDArray[np.float64]:
        """The centers of the voxels in its eight corners: (8, 3)."""
        ends = np.array(self.array.shape) - 1
        corners = np.array(list(np.ndindex(2, 2, 2))) * ends
        return np.asarray(corners @ self.affine[:3, :3].T + self.affine[:3, 3], np.float64)

    @property
    def center_mm(self) -> NDArray[np.float64]:
        """Its middle."""
        return np.asarray(self.corners_mm.mean(axis=0), np.float64)

    @property
    def diagonal_mm(self) -> float:
        """Length from corner to corner, at least 1 mm."""
        corners = self.corners_mm
        return max(1.0, float(np.linalg.norm(corners.max(axis=0) - corners.min(axis=0))))
