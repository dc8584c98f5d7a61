"""Bone in CT: a mask by hysteresis threshold inside the body, its measurements and its surface.

The array part (:func:`segment`) needs numpy, scipy and, on a GPU, cupy; nothing of DICOM. Every step is a filter, a
labelling or a count, which NumPy and CuPy both have, so the two give the same mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ray_plugins.array import Backend, backend
from ray_plugins.sdk import Accepts, Code, Context, Param, PluginError, Resources, Result, Segment, Volume, plugin

BODY_HU = -300  # between lung or air and fat
BODY_GRID_MM = 4.0  # the body is found on a grid this coarse: 16 times fewer voxels
TABLE_MM = 10.0  # what is thinner than this is no body: table tops, rails, blankets
BODY_PART = 0.02  # of the largest part: arms beside the trunk count as body, too
BODY_MARGIN_MM = 4.0  # given back all around, as opening rounds corners off
STRONG_PART = 0.1  # of a part must reach the high threshold: an enhanced vessel with a calcified plaque does not
CLOSING_MM = 1.5
MARROW_ML = 60.0  # cavities up to this volume that bone closes on all sides are marrow
MARROW_MM2 = 90.0  # and holes up to this area in a transverse slice; the vertebral canal has 150 to 400 mm2
WIDE_MARROW_MM2 = 1500.0  # and up to this area if their mean is that of
MARROW_HU = 80.0  # red marrow; the canal has 20 to 40, muscle 50 to 70

IN_PLANE = np.zeros((3, 3, 3), np.bool_)  # neighbours in the same slice
IN_PLANE[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


@dataclass(frozen=True, slots=True)
class Bone:
    """The mask, on the host, and how many parts it has."""

    mask: NDArray[np.bool_]
    components: int


def segment(
    hu: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    computer: Backend,
    *,
    low: float = 160,
    high: float = 300,
    smoothing_mm: float = 0.5,
    min_component_ml: float = 0.5,
    step: Callable[[float, str], None] = lambda fraction, text: None,
) -> Bone:
    """Find bone.

    Parameters
    ----------
    hu : (slices, rows, columns), Hounsfield units, on the host.
    spacing_mm : of slices, rows, columns.
    low, high : hysteresis: bone is what reaches `low` and is connected to something that reaches `high`.
    smoothing_mm : standard deviation of the Gaussian before the threshold; 0 for none.
    min_component_ml : smaller parts are calcification, contrast or noise.
    step : told the progress.

    Returns
    -------
    Bone : mask of the shape of `hu`; marrow is part of it, the vertebral canal is not.
    """
    xp, ndimage = computer.xp, computer.ndimage
    mask = np.zeros(hu.shape, np.bool_)
    step(0.0, "Finding the body")
    body, box = find_body(hu, spacing_mm, computer)
    if box is None:
        return Bone(mask, 0)
    values = xp.asarray(hu[box])
    step(0.2, "Smoothing")
    if smoothing_mm:
        sigma = [smoothing_mm / width if smoothing_mm > width / 3 else 0 for width in spacing_mm]
        values = ndimage.gaussian_filter(values.astype(xp.float32), sigma, truncate=3)
    step(0.4, "Applying the threshold")
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    least = min_component_ml / voxel_ml
    bone, _ = _parts(body & (values >= low), computer, least, strong=values >= high)
    step(0.6, "Closing")
    bone = _close(bone, spacing_mm, computer)
    step(0.8, "Filling marrow")
    bone |= _fill(bone, ndimage.generate_binary_structure(3, 1), computer, MARROW_ML / voxel_ml)
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    wide = (values, MARROW_HU, WIDE_MARROW_MM2 / pixel_mm2)
    bone |= _fill(bone, xp.asarray(IN_PLANE), computer, MARROW_MM2 / pixel_mm2, wide)
    step(0.9, "Counting components")
    bone, components = _parts(bone, computer, least)
    mask[box] = computer.to_numpy(bone)
    return Bone(mask, components)


def find_body(
    hu: NDArray[Any], spacing_mm: tuple[float, float, float], computer: Backend
) -> tuple[Any, tuple[slice, slice, slice] | None]:
    """Find the patient's body without the table.

    Returns
    -------
    The mask inside its bounding box, and the box; None for the box if there is no body.
    """
    xp, ndimage = computer.xp, computer.ndimage
    strides = tuple(max(1, round(BODY_GRID_MM / width)) for width in spacing_mm)
    coarse_mm = tuple(width * stride for width, stride in zip(spacing_mm, strides, strict=True))
    tissue = xp.asarray(hu[tuple(slice(None, None, stride) for stride in strides)]) > BODY_HU
    disc = xp.asarray(IN_PLANE)
    thin = max(1, round(TABLE_MM / 2 / coarse_mm[1]))
    # brute_force: CuPy has no other way to iterate
    eroded = ndimage.binary_erosion(tissue, disc, iterations=thin, border_value=1, brute_force=True)
    labels, count = ndimage.label(eroded)
    if count == 0:
        return None, None
    sizes = xp.bincount(labels.ravel())
    sizes[0] = 0
    body = (sizes >= BODY_PART * sizes.max())[labels]
    grown = thin + max(1, round(BODY_MARGIN_MM / coarse_mm[1]))
    body = ndimage.binary_dilation(body, disc, iterations=grown, brute_force=True)
    box = _bounding_box(computer.to_numpy(body), strides, hu.shape)
    for axis, stride in enumerate(strides):
        body = xp.repeat(body, stride, axis=axis)
    return body[box], box


def _bounding_box(coarse: NDArray[np.bool_], strides: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    box = []
    for axis, (stride, length) in enumerate(zip(strides, shape, strict=True)):
        hit = np.flatnonzero(coarse.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(hit[0]) * stride, min(int(hit[-1] + 1) * stride, length)))
    return tuple(box)


def _parts(mask: Any, computer: Backend, least: float, strong: Any = None) -> tuple[Any, int]:
    """Keep connected parts (26 neighbours) that have `least` voxels and, if given, enough strong ones; count them."""
    xp, ndimage = computer.xp, computer.ndimage
    labels, count = ndimage.label(mask, xp.ones((3, 3, 3), bool))
    sizes = xp.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= max(least, 1)
    if strong is not None:
        keep &= xp.bincount(labels[strong], minlength=count + 1) >= STRONG_PART * sizes
    keep[0] = False
    return keep[labels], int(keep.sum())


def _fill(
    mask: Any, neighbours: Any, computer: Backend, most: float, wide: tuple[Any, float, float] | None = None
) -> Any:
    """Find enclosed parts of the background of at most `most` voxels.

    `wide` is (values, mean, most) for larger ones that have such a mean.
    """
    xp = computer.xp
    labels, count = computer.ndimage.label(~mask, neighbours)
    flat = labels.ravel()
    sizes = xp.bincount(flat, minlength=count + 1)
    fill = sizes <= most
    if wide is not None:
        values, mean, most = wide
        fill |= (sizes <= most) & (xp.bincount(flat, weights=values.ravel(), minlength=count + 1) >= mean * sizes)
    fill[0] = False
    for axis in (0, 1, 2) if neighbours[0].any() else (1, 2):  # what reaches the border is not enclosed
        for end in (0, -1):
            fill[labels.take(end, axis=axis)] = False
    return fill[labels]


def _close(mask: Any, spacing_mm: tuple[float, float, float], computer: Backend) -> Any:
    """Close gaps up to twice CLOSING_MM wide; at the border of the volume nothing is eroded."""
    radius = [int(CLOSING_MM / width + 0.5) for width in spacing_mm]
    grid = np.ogrid[tuple(slice(-r, r + 1) for r in radius)]
    ball = sum((axis * width / CLOSING_MM) ** 2 for axis, width in zip(grid, spacing_mm, strict=True)) <= 1.2
    structure = computer.xp.asarray(ball)
    grown = computer.ndimage.binary_dilation(mask, structure)
    return mask | computer.ndimage.binary_erosion(grown, structure, border_value=1)


BONE = Code("272673000", "SCT", "Bone")
IVORY = (227, 212, 174)
MEAN = Code("373098007", "SCT", "Mean")
VOLUME = Code("118565006", "SCT", "Volume")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
#: Most triangles of the surface, and its Taubin iterations.
QUALITY: Mapping[str, tuple[int, int]] = {"preview": (60_000, 10), "full": (160_000, 10)}


def _thresholds_are_ordered(parameters: Mapping[str, Any]) -> str | None:
    return "high must not be below low." if parameters["high"] < parameters["low"] else None


@plugin(
    name="ct-bone",
    title="Bone",
    version="1.0.0",
    accepts=Accepts("CT", instances=10),
    resources=Resources(cpus=1, memory_mb=3000, gpus=0.25, gpu_memory_mb=4000),
    timeout_s=600,
    check=_thresholds_are_ordered,
)
def ct_bone(
    volume: Volume,
    context: Context,
    low: Annotated[int, Param(160, ge=50, le=1000, unit="HU", widget="slider", help="What bone reaches everywhere.")],
    high: Annotated[int, Param(300, ge=50, le=2000, unit="HU", widget="slider", help="What bone reaches somewhere.")],
    smoothing: Annotated[
        float, Param(0.5, ge=0, le=3, unit="mm", widget="slider", help="Standard deviation of a Gaussian.")
    ],
    min_component: Annotated[float, Param(0.5, ge=0, le=50, unit="mL", help="Smaller pieces are left out.")],
    quality: Annotated[Literal["preview", "full"], Param("full", help="Detail of the surface.")],
    encoding: Annotated[
        Literal["LABELMAP", "BINARY"], Param("LABELMAP", help="Of the segmentation; BINARY for older readers.")
    ],
) -> Result:
    """Segments the skeleton in a CT by threshold, measures it and makes its surface."""
    computer = backend(gpu_memory_mb=4000)
    context.log("Computing with %s", computer.name)
    bone = segment(
        volume.array,
        volume.spacing_mm,
        computer,
        low=low,
        high=high,
        smoothing_mm=smoothing,
        min_component_ml=min_component,
        step=context.progress,
    )
    computer.release()
    if not bone.components:
        raise PluginError("No bone was found with these thresholds.")
    triangles, smooth = QUALITY[quality]
    return (
        Result("Bone")
        .segmentation([Segment("Bone", bone.mask, BONE, color=IVORY)], encoding)
        .measure("Volume", bone.mask.sum() * volume.voxel_ml, "mL", segment="Bone", code=VOLUME)
        .measure(
            "Mean attenuation",
            volume.array[bone.mask].mean(dtype=np.float64),
            "[hnsf'U]",
            segment="Bone",
            code=ATTENUATION,
            derivation=MEAN,
        )
        .measure("Components", bone.components, "1", segment="Bone")
        .mesh("Bone", bone.mask, image=volume.array, level=low, triangles=triangles, smooth=smooth, color=IVORY)
    )
