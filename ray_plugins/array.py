"""Where arrays are computed: CuPy if this process may use a GPU, else NumPy and SciPy. One code path; cupy's only home.

An algorithm takes a :class:`Backend` and calls `backend.xp` for NumPy's functions, `backend.ndimage` for those of
`scipy.ndimage`. It keeps to functions that both libraries have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Backend:
    """NumPy and scipy.ndimage, or what CuPy has in their places."""

    name: Literal["numpy", "cupy"]
    xp: Any
    ndimage: Any

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Bring an array to the host."""
        return np.asarray(array if self.name == "numpy" else self.xp.asnumpy(array))

    def release(self) -> None:
        """Give cached GPU memory back, for the next run of whatever plugin."""
        if self.name == "cupy":
            self.xp.get_default_memory_pool().free_all_blocks()
            self.xp.get_default_pinned_memory_pool().free_all_blocks()


def backend(device: Literal["auto", "cpu", "gpu"] = "auto", gpu_memory_mb: int = 0) -> Backend:
    """Choose where to compute.

    Parameters
    ----------
    device : "auto" takes a GPU if CuPy and a device that works are there.
    gpu_memory_mb : most memory that CuPy's pool may take in this process, 0 for no limit. Ray only counts GPUs:
        nothing else keeps two plugins from filling one.

    Raises
    ------
    RuntimeError : device is "gpu" and there is none.
    """
    if device != "cpu":
        try:
            return _cupy(gpu_memory_mb)
        except _no_gpu_errors() as exc:
            if device == "gpu":
                raise RuntimeError(f"No GPU can be used: {exc}.") from exc
    import scipy.ndimage

    return Backend("numpy", np, scipy.ndimage)


def _cupy(gpu_memory_mb: int) -> Backend:
    import cupy
    import cupyx.scipy.ndimage

    if cupy.cuda.runtime.getDeviceCount() == 0:
        raise RuntimeError("CUDA finds no device")
    cupy.get_default_memory_pool().set_limit(size=gpu_memory_mb << 20)
    return Backend("cupy", cupy, cupyx.scipy.ndimage)


def _no_gpu_errors() -> tuple[type[Exception], ...]:
    """Give the exceptions that mean: there is no GPU here. CUDA's are RuntimeErrors."""
    return ImportError, RuntimeError
