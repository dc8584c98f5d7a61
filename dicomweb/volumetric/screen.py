"""The picture plane of a rendering: its pixels, and where each lies in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomweb.volumetric.camera import Camera


@dataclass(frozen=True, slots=True)
class Screen:
    """Columns and rows of square pixels; `left` and `top` are where the center of the first lies, in mm from the point
    looked at, to the right and downward.
    """

    columns: int
    rows: int
    pixel_mm: float
    left: float
    top: float

    def origin(self, camera: Camera) -> NDArray[np.float64]:
        """The center of the first pixel in the plane through the point looked at, in mm (LPS)."""
        return np.asarray(camera.look_at + camera.right * self.left - camera.up * self.top, np.float64)


def around(corners_mm: NDArray[np.float64], cameras: Sequence[Camera], pixel_mm: float, max_side: int = 2048) -> Screen:
    """A screen on which every camera sees all corners of a volume, its pixels on those of the volume where they can be.

    Pixels grow where there would be more than `max_side` across or down.
    """
    lows, highs = [], []
    for camera in cameras:
        seen = (corners_mm - camera.look_at) @ np.stack([camera.right, -camera.up]).T
        lows.append(seen.min(axis=0))
        highs.append(seen.max(axis=0))
    low, extent = np.min(lows, axis=0), np.max(highs, axis=0) - np.min(lows, axis=0)
    pixel_mm = max(pixel_mm, float(extent.max()) / (max_side - 1))
    columns, rows = (int(np.floor(side / pixel_mm + 0.5)) + 1 for side in extent)
    return Screen(columns, rows, pixel_mm, float(low[0]), float(low[1]))
