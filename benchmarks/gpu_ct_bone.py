"""The bone plugin's array part with NumPy and with CuPy: times, and whether both give the same mask.

python benchmarks/gpu_ct_bone.py --size 512x512x400

Needs numpy, scipy and, for the comparison, cupy with a GPU; nothing of DICOM.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from ray_plugins.array import Backend, backend
from ray_plugins.builtin.ct_bone import segment

SPACING_MM = (1.0, 0.8, 0.8)


def phantom(columns: int, rows: int, slices: int) -> np.ndarray:
    """Make a trunk of water with noise, a spine with marrow, sixteen ribs and a table; HU, (slices, rows, columns)."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    trunk = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    ring = np.abs(np.hypot(x / 0.74, y / 0.54) - 1) < 0.04
    angle = np.arctan2(y, x)
    spine = np.hypot(x, y - 0.35)
    made = np.empty((slices, rows, columns), np.int16)
    for number in range(slices):
        plane = np.where(trunk, np.float32(40), np.float32(-1000))
        plane[(y > 0.66) & (y < 0.69) & (np.abs(x) < 0.7)] = 250
        plane[ring & (np.sin(8 * angle + number / 9) > 0.3)] = 500
        plane[spine < 0.12] = 700
        plane[spine < 0.09] = 180
        plane += random.normal(0, 15, plane.shape).astype(np.float32)
        made[number] = plane
    return made


def measure(hu: np.ndarray, computer: Backend, repeats: int) -> tuple[np.ndarray, float]:
    """Give the mask and the best time; the first run, which compiles kernels, is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        bone = segment(hu, SPACING_MM, computer)
        times.append(time.perf_counter() - start)
    return bone.mask, min(times[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="512x512x400", help="COLUMNSxROWSxSLICES")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    hu = phantom(*map(int, options.size.split("x")))
    print(f"{options.size}: {hu.nbytes / 2**20:.0f} MiB of int16")
    host_mask, host_s = measure(hu, backend("cpu"), options.repeats)
    print(f"numpy  {host_s:8.3f} s  {host_mask.sum()} voxels of bone")
    try:
        computer = backend("gpu")
    except RuntimeError as exc:
        print(exc)
        return 0
    mask, device_s = measure(hu, computer, options.repeats)
    print(f"cupy   {device_s:8.3f} s  {mask.sum()} voxels of bone, with both copies over the bus")
    different = int((mask != host_mask).sum())
    print(f"ratio  {host_s / device_s:8.1f}    max difference {different} voxels ({different / host_mask.sum():.2e})")
    return int(different > 1e-5 * host_mask.sum())


if __name__ == "__main__":
    sys.exit(main())
