"""How voxels look: their opacity and color by value (PS3.3 section C.11.25), for bones of CT or for anything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.options import Window
from dicomweb.volumetric.cubic import Cubic

_STEPS = 1024
# Of CT, in HU: cancellous bone begins at about 150, cortical bone is above 300.
_BONE = [(170.0, 0.0), (300.0, 0.25), (500.0, 0.7), (1000.0, 0.95)]
_BONE_COLORS = [
    (170.0, (0.72, 0.36, 0.25)),
    (260.0, (0.88, 0.68, 0.48)),
    (500.0, (0.97, 0.92, 0.80)),
    (1500.0, (1.0, 1.0, 1.0)),
]
_TISSUE_COLORS = [(0.0, (0.55, 0.30, 0.25)), (0.5, (0.85, 0.70, 0.60)), (1.0, (1.0, 0.98, 0.95))]
_OPAQUE = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """Opacity for a ray through one voxel, and color, of values from `low` to `high` in even steps.

    Below `low` all is transparent, above `high` as at its end. `opacity` is (steps,), `color` (steps, 3), 0 to 1.
    """

    low: float
    high: float
    opacity: NDArray[np.float32]
    color: NDArray[np.float32]

    def index(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """The step of each value."""
        scale = np.float32((len(self.opacity) - 1) / (self.high - self.low))
        place = np.clip((values - np.float32(self.low)) * scale, 0, len(self.opacity) - 1)
        return np.asarray(place, np.intp)


def transfer(grid: Cubic, *, is_ct: bool, window: Window | None) -> Transfer:
    """The transfer function of a volume: bones of CT, the brighter half of others; a window moves the ramp."""
    if window is not None:
        low, high = window.center - window.width / 2, window.center + window.width / 2
        colors = [(low + (high - low) * part, color) for part, color in _TISSUE_COLORS]
        return _table([(low, 0.0), (high, _OPAQUE)], _BONE_COLORS if is_ct else colors)
    if is_ct:
        return _table(_BONE, _BONE_COLORS)
    low, high = _bright(grid)
    colors = [(low + (high - low) * part, color) for part, color in _TISSUE_COLORS]
    return _table([(low, 0.0), (high, _OPAQUE)], colors)


def _bright(grid: Cubic) -> tuple[float, float]:
    """From the middle of what is not background to nearly the highest."""
    sample = grid.array[::3, ::3, ::3].astype(np.float32)
    sample = sample[sample > grid.background]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(one) for one in np.percentile(sample, [50.0, 99.5]))
    return low, max(high, low + 1e-6)


def _table(opacities: list[tuple[float, float]], colors: list[tuple[float, tuple[float, float, float]]]) -> Transfer:
    low, high = opacities[0][0], max(opacities[-1][0], colors[-1][0])
    values = np.linspace(low, high, _STEPS)
    opacity = np.interp(values, [place for place, _ in opacities], [one for _, one in opacities])
    places = [place for place, _ in colors]
    color = np.stack([np.interp(values, places, [one[part] for _, one in colors]) for part in range(3)], axis=1)
    return Transfer(low, high, opacity.astype(np.float32), color.astype(np.float32))
