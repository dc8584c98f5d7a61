"""Defacing of head CT and MR: PS3.15 E.3.2, Clean Recognizable Visual Features, without a template.

A plane parts the face from the brain, as in Schimke & Hale 2011, Quickshear Defacing for Neuroimages (2nd USENIX
Workshop on Health Security and Privacy): it touches the convex hull of the brain from below and in front. Whole
half-spaces are blanked, not the tissue in them: neither the pixels nor a mask of what was changed show a profile.
What is in front of the plane, and of the spine, goes; so do the auricles, outside two planes beside the brain. The
brain cannot be touched, wherever its hull is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ray_plugins.array import Backend, backend
from ray_plugins.builtin.head import GRID_MM, Head, find
from ray_plugins.sdk import (
    VOLUME_EDITING,
    Accepts,
    Code,
    Context,
    Param,
    PluginError,
    Resources,
    Result,
    Segment,
    Volume,
    plugin,
)

TILTS_DEG = range(40, 56)  # of the plane's normal, from straight forward towards straight down
MAX_TURN_DEG = 45  # of the head to a side, as its long axis tells
LONG = 1.08  # a brain whose axes differ less does not tell
FACE_FRONT_MM = 10.0  # the face ends here, in front of the brain's centre: spine and angle of the jaw lie behind
HEAD_MM = 260.0  # from vertex to chin; 255 mm is the 99th percentile of men
EAR_MM = 8.0  # beside the brain, the skull; what lies further out is scalp and auricle
EAR_TILT_DEG = 30.0  # downward: at the height of the ears a head is narrower than above
BACK_OF_EAR_MM, FRONT_OF_EAR_MM, LOBE_MM = 70.0, 40.0, 90.0  # behind, before and below the brain's centre
NECK_MM = 50.0  # this far from the middle, what is below the skull stays
MIN_FACE_ML = 20.0
PADDING_HU = -1100  # whatever is lower is no air, but what scanners put where they measured nothing
MAX_POOL = 1_000_000
FACE = Code("89545001", "SCT", "Face")

Normal = tuple[NDArray[np.float64], float]  # a half-space: all p with normal . p > limit, in patient millimetres


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes: each region is the intersection of its half-spaces."""

    regions: Sequence[Sequence[Normal]]

    def mask(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Give the voxels, (slices, rows, columns), of a grid with that affine."""
        mask = np.zeros(shape, np.bool_)
        rows, columns = np.ogrid[: shape[1], : shape[2]]
        for region in self.regions:
            steps = [(normal @ affine[:3, :3], limit - normal @ affine[:3, 3]) for normal, limit in region]
            for number in range(shape[0]):
                plane = np.ones(shape[1:], np.bool_)
                for step, limit in steps:
                    plane &= step[1] * rows + step[2] * columns > limit - step[0] * number
                mask[number] |= plane
        return mask


def plan(head: Head, computer: Backend, *, margin_mm: float = 5, ears: bool = True) -> Cut:
    """Decide what goes.

    Parameters
    ----------
    margin_mm : between the brain's hull and the plane.
    ears : whether the auricles go, too.
    """
    index = np.argwhere(computer.to_numpy(head.brain))
    points = head.grid.origin_mm + index[:, ::-1] * GRID_MM
    center = points.mean(axis=0)
    forward = _forward(points[:, :2])
    left, up = np.array([-forward[1], forward[0], 0.0]), np.array([0.0, 0.0, 1.0])
    margin_mm += GRID_MM  # voxels have a size
    normals = [np.cos(tilt) * forward - np.sin(tilt) * up for tilt in np.radians(TILTS_DEG)]
    reach = [float((points @ normal).max()) for normal in normals]
    # The hull is flat between frontal and temporal lobes: the plane on that edge is the nearest to the centre.
    best = int(np.argmin([limit - normal @ center for normal, limit in zip(normals, reach, strict=True)]))
    above_chin: Normal = (up, float(points[:, 2].max()) - HEAD_MM)
    in_front: Normal = (forward, float(forward @ center) + FACE_FRONT_MM)
    regions = [[(normals[best], reach[best] + margin_mm), in_front, above_chin]]
    if ears:
        regions += [_ear(points, forward, side) for side in (left, -left)]
    return Cut(regions)


def _ear(points: NDArray[np.float64], forward: NDArray[np.float64], side: NDArray[np.float64]) -> list[Normal]:
    """Bound one auricle: beyond a plane that touches the brain's hull from the side and a little from below."""
    up, center, tilt = np.array([0.0, 0.0, 1.0]), points.mean(axis=0), np.radians(EAR_TILT_DEG)
    outward = np.cos(tilt) * side - np.sin(tilt) * up
    return [
        (outward, float((points @ outward).max()) + EAR_MM),
        (side, float(side @ center) + NECK_MM),
        (forward, float(forward @ center) - BACK_OF_EAR_MM),
        (-forward, -float(forward @ center) - FRONT_OF_EAR_MM),
        (-up, -float(up @ center)),
        (up, float(up @ center) - LOBE_MM),
    ]


def _forward(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say where the head looks, in the transverse plane: along the brain's long axis, if it has one."""
    straight = np.array([0.0, -1.0, 0.0])
    spread, axes = np.linalg.eigh(np.cov(points.T))
    axis = np.array([*axes[:, 1], 0.0]) * (-1 if axes[1, 1] > 0 else 1)
    turned = np.degrees(np.arccos(np.clip(axis @ straight, -1, 1)))
    return axis if spread[1] > LONG**2 * spread[0] and turned <= MAX_TURN_DEG else straight


def fillings(volume: Volume, removed: NDArray[np.bool_], head: Head, fill: str) -> tuple[NDArray[Any] | float, float]:
    """Give what replaces the removed voxels, and how many millilitres of them were no air.

    Air is the median of the air that was removed; noise is drawn from it, so that its grain stays. Neither depends on
    where anything was.
    """
    values = volume.array[removed]
    is_air = values < head.air_level
    tissue_ml = (values.size - int(is_air.sum())) * volume.voxel_ml
    air = values[is_air & (values > PADDING_HU)]
    if not air.size:
        air = volume.array.min(keepdims=True).ravel()
    if fill == "air":
        return float(np.rint(np.median(air))), tissue_ml
    generator = np.random.default_rng(0)  # the same task gives the same bytes
    filled = volume.array.copy()
    filled[removed] = generator.choice(air[:: 1 + air.size // MAX_POOL], values.size)
    return filled, tissue_ml


@plugin(
    name="deface",
    title="Deface",
    version="1.0.0",
    category="De-identification",
    accepts=Accepts(("CT", "MR"), instances=10),
    resources=Resources(cpus=1, memory_mb=3000, gpus=0.25, gpu_memory_mb=4000),
    timeout_s=600,
)
def deface(
    volume: Volume,
    context: Context,
    margin: Annotated[float, Param(5, ge=2, le=20, unit="mm", help="Between the brain and what is removed.")],
    ears: Annotated[bool, Param(True, help="Remove the auricles, too: without, nothing is stamped.")],
    fill: Annotated[Literal["air", "noise"], Param("air", help="What takes the place of the face.")],
    preview: Annotated[bool, Param(False, help="Show what was removed as a segmentation of the source.")],
) -> Result:
    """Removes the face, and the ears, from a CT or MR of the head, as a new series of the same study."""
    header = volume.headers[0]
    if header.get("RecognizableVisualFeatures") == "NO":
        raise PluginError("The series says of itself that it shows no recognizable visual features.")
    computer = backend(gpu_memory_mb=4000)
    context.log("Computing with %s", computer.name)
    head = find(volume, str(header.Modality), computer, context.part(0, 0.8).progress)
    cut = plan(head, computer, margin_mm=margin, ears=ears)
    computer.release()
    context.progress(0.8, "Removing the face")
    removed = cut.mask(volume.array.shape, volume.affine)
    values, tissue_ml = fillings(volume, removed, head, fill)
    context.log("%.0f ml of tissue were removed", tissue_ml)
    if tissue_ml < MIN_FACE_ML:
        raise PluginError("The field of view holds no face: there is nothing to remove.")
    result = Result("Removed face").images(
        "Defaced",
        values,
        removed,
        derivation=VOLUME_EDITING,
        description="Face replaced beyond a plane that touches the hull of the brain (Schimke and Hale 2011)",
        defaced=ears,  # they tell people apart as faces do
    )
    return result.segmentation([Segment("Removed", removed, FACE, color=(220, 80, 80))]) if preview else result
