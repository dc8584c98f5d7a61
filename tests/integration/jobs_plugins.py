"""Plugins for tests: they behave as plugins may."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from ray_plugins.sdk import Accepts, Context, Param, PluginError, Result, Segment, Volume, plugin


@plugin(name="act", title="Acts as told", version="1.0.0", accepts=Accepts("CT", instances=3), timeout_s=60)
def act(
    volume: Volume,
    context: Context,
    how: Literal["well", "quietly", "slowly", "sentence", "fault", "death once", "images"] = "well",
    level: Annotated[int, Param(100, ge=0, le=1000, unit="HU", widget="slider", help="Where the surface is.")] = 100,
    number: int = 0,
    grave: str = "",
) -> Result:
    """Behave as a plugin may."""
    context.log("acts %s, number %d", how, number)
    context.progress(0.5, "half-way")
    while how == "slowly":
        context.check_cancelled()
        time.sleep(0.01)
    if how == "sentence":
        raise PluginError("There is no bone in this series.")
    if how == "fault":
        raise KeyError("unforeseen")
    if how == "death once" and not Path(grave).exists():
        Path(grave).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("quietly", "death once"):
        return Result()
    mask = np.zeros(volume.array.shape, bool)
    mask[2:-2, 100:140, 100:140] = True
    if how == "images":
        return Result().images("Blanked", -1000, mask, description="A block was blanked")
    found = Result().segmentation([Segment("Block", mask)]).mesh("Block", mask, triangles=500)
    return found.measure("Volume", float(mask.sum()) * volume.voxel_ml, "mL", segment="Block")


@plugin(name="hurry", title="Has little time", version="1.0.0", accepts=Accepts("CT"), timeout_s=1.5)
def hurry(volume: Volume, context: Context) -> Result:
    """Take too long."""
    context.log("hurries")
    while True:
        context.check_cancelled()
        time.sleep(0.01)
