"""Planes through a volume: multi-planar reformatting, thin or as a slab (PS3.4 section FF.2.1.1)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dicomweb.volumetric.camera import Camera
from dicomweb.volumetric.screen import Screen
from dicomweb.volumetric.volume import Volume

#: A slab, or those of an animation together, take at most so many samples, about 4 s; what is more is sampled at
#: wider steps.
_MAX_SAMPLES = 1 << 27


def reslice(
    volume: Volume, camera: Camera, screen: Screen, method: str, slab_mm: float | None, frames: int = 1
) -> NDArray[np.float32]:
    """Sample the plane through the point that the camera looks at, or a slab around it.

    Parameters
    ----------
    method : MAXIMUM_IP, MINIMUM_IP or AVERAGE_IP, along the view through the slab.
    slab_mm : thickness of the slab; None for the plane alone.
    frames : how many pictures the animation has that this is one of.

    Returns
    -------
    array (rows, columns) of the screen in modality units, trilinearly interpolated; NaN outside the volume.
    """
    inverse = np.linalg.inv(volume.affine[:3, :3])
    matrix = inverse @ np.stack([camera.forward, -camera.up * screen.pixel_mm, camera.right * screen.pixel_mm], axis=1)
    start = inverse @ (screen.origin(camera) - volume.affine[:3, 3])
    combined = np.full((screen.rows, screen.columns), np.nan, np.float32)
    count = np.zeros(combined.shape, np.int32)
    limit = max(2, _MAX_SAMPLES // (screen.rows * screen.columns * frames))
    slab_mm = None if slab_mm is None else min(slab_mm, 2 * volume.diagonal_mm)
    for depth in _depths(inverse @ camera.forward, slab_mm, limit):
        sample = _plane(volume, matrix, start + matrix[:, 0] * depth, screen)
        if method == "AVERAGE_IP":
            inside = ~np.isnan(sample)
            combined = np.where(inside, np.where(count, combined, 0) + sample, combined)
            count += inside
        else:
            combine = np.fmax if method == "MAXIMUM_IP" else np.fmin
            combine(combined, sample, out=combined)
    return np.asarray(combined / np.maximum(count, 1) if method == "AVERAGE_IP" else combined, np.float32)


def _depths(voxels_per_mm: NDArray[np.floating], slab_mm: float | None, limit: int) -> NDArray[np.float64]:
    """Depths in mm to sample a slab at: one for each voxel that it passes, at most `limit`."""
    if slab_mm is None:
        return np.zeros(1)
    samples = math.floor(slab_mm * float(np.abs(voxels_per_mm).max()) + 0.5)
    samples = min(max(samples, 1), limit)
    return np.asarray((np.arange(samples) - (samples - 1) / 2) * (slab_mm / samples))


def _plane(
    volume: Volume, matrix: NDArray[np.floating], offset: NDArray[np.floating], screen: Screen
) -> NDArray[np.float32]:
    """One plane of samples; NaN outside."""
    from scipy import ndimage  # 15 MB of every worker, needed by few requests

    shape = (1, screen.rows, screen.columns)
    sample = np.empty(shape, np.float32)
    ndimage.affine_transform(
        volume.array, matrix, offset, shape, output=sample, order=1, mode="nearest", prefilter=False
    )
    outside = _outside(volume.array.shape, matrix, offset, screen)
    sample[0][outside] = np.nan
    return np.asarray(sample[0], np.float32)


def _outside(
    size: tuple[int, ...], matrix: NDArray[np.floating], offset: NDArray[np.floating], screen: Screen
) -> NDArray[np.bool_]:
    """Pixels whose place is more than half a voxel outside the volume."""
    rows = np.arange(screen.rows)[:, None]
    columns = np.arange(screen.columns)[None, :]
    outside = np.zeros((screen.rows, screen.columns), dtype=bool)
    for axis, length in enumerate(size):
        place = offset[axis] + matrix[axis, 1] * rows + matrix[axis, 2] * columns
        outside |= (place < -0.5) | (place > length - 0.5)
    return outside
