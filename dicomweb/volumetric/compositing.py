"""Volumes seen as a whole: compositing with light, or maximum, minimum and mean along the rays (PS3.4 FF.2.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicomweb.volumetric.camera import Camera
from dicomweb.volumetric.cubic import Cubic
from dicomweb.volumetric.screen import Screen
from dicomweb.volumetric.shading import Transfer
from dicomweb.volumetric.shear_warp import Image2D, Shear, factor

#: What shines through less than this is not followed further.
_OPAQUE = 0.03
# The light comes from the camera and a little from the upper left, as bodies are drawn: forward, right, down.
_LIGHT = (1.0, 0.35, 0.35)
_AMBIENT, _DIFFUSE, _GLOSS, _SHININESS = 0.25, 0.8, 0.18, 24
#: Where values rise by less than this part of the transfer function a voxel, there is no surface to be lit.
_SURFACE = 0.03


def project(grid: Cubic, camera: Camera, screen: Screen, method: str) -> Image2D:
    """The MAXIMUM_IP, MINIMUM_IP or AVERAGE_IP of each ray: (rows, columns) of the screen, NaN where it met nothing."""
    shear = factor(grid, camera)
    found = np.full(shear.shape, np.nan, np.float32)
    count = np.zeros(shear.shape, np.float32)
    for rows, columns, values in shear.moved():
        window = found[rows, columns]
        if method == "AVERAGE_IP":
            np.copyto(window, 0, where=np.isnan(window))
            window += values
            count[rows, columns] += 1
        else:
            (np.fmax if method == "MAXIMUM_IP" else np.fmin)(window, values, out=window)
    if method == "AVERAGE_IP":
        found /= np.maximum(count, 1)
    return np.asarray(_on_screen(Image.fromarray(found), shear, camera, screen, float("nan")), np.float32)


def compose(grid: Cubic, camera: Camera, screen: Screen, transfer: Transfer) -> NDArray[np.uint8]:
    """The VOLUME_RENDERED picture: (rows, columns, 3) of the screen, on black."""
    shear = factor(grid, camera)
    light = _Light(shear, camera, transfer)
    opacity = 1.0 - (1.0 - transfer.opacity) ** np.float32(shear.step)
    color = np.zeros((shear.shape[0] * shear.shape[1], 3), np.float32)
    passing = np.ones(shear.shape[0] * shear.shape[1], np.float32)
    empty = np.full(shear.shape, shear.background, np.float32).ravel()
    before = here = empty
    for after in chain(_frames(shear, empty, transfer.low), [empty]):
        if here is not empty:
            active = np.flatnonzero((here > transfer.low) & (passing > _OPAQUE))
            steps = transfer.index(here[active])
            weight = passing[active] * opacity[steps]
            diffuse, gloss = light.on(before, here, after, active)
            color[active] += weight[:, None] * (transfer.color[steps] * diffuse[:, None] + gloss[:, None])
            passing[active] -= weight
        before, here = here, after
    shown = np.clip(color.reshape(*shear.shape, 3) * 255.0, 0.0, 255.0).astype(np.uint8)
    return np.asarray(_on_screen(Image.fromarray(shown), shear, camera, screen, None), np.uint8)


class _Light:
    """Diffuse light and gloss on surfaces, whose normal is the gradient (B. T. Phong, CACM 18(6), 1975)."""

    def __init__(self, shear: Shear, camera: Camera, transfer: Transfer) -> None:
        self._width = shear.shape[1]
        self._rate = shear.rate.astype(np.float32)
        forward, right, down = _LIGHT
        direction = forward * camera.forward + right * camera.right - down * camera.up
        direction /= np.linalg.norm(direction)
        halfway = direction + camera.forward
        self._direction = (shear.axes @ direction).astype(np.float32)
        self._halfway = (shear.axes @ (halfway / np.linalg.norm(halfway))).astype(np.float32)
        self._weak = np.float32(_SURFACE * (transfer.high - transfer.low))

    def on(self, before: Image2D, here: Image2D, after: Image2D, active: NDArray[np.intp]) -> tuple[Image2D, Image2D]:
        """Diffuse light and gloss on the active pixels of a sheared slice between two others; all are flat."""
        rows = (here[active + self._width] - here[active - self._width]) * np.float32(0.5)
        columns = (here[active + 1] - here[active - 1]) * np.float32(0.5)
        # Along a ray one step goes a slice further and `rate` aside: only the first part is wanted.
        depth = (after[active] - before[active]) * np.float32(0.5) - self._rate[0] * rows - self._rate[1] * columns
        gradient = np.stack([depth, rows, columns])
        strength = np.sqrt(np.einsum("ij,ij->j", gradient, gradient)) + np.float32(1e-6)
        surface = strength / (strength + self._weak)
        diffuse = np.maximum(self._direction @ gradient / strength, 0.0)
        gloss = np.maximum(self._halfway @ gradient / strength, 0.0) ** _SHININESS
        lit = np.float32(_AMBIENT) + np.float32(_DIFFUSE) * diffuse
        return 1.0 + surface * (lit - 1.0), np.float32(_GLOSS) * surface * gloss


def _frames(shear: Shear, empty: Image2D, low: float) -> Iterator[Image2D]:
    """Each slice as a whole sheared picture, flat; `empty` for one without anything above `low`."""
    for rows, columns, values in shear.moved():
        if float(values.max()) <= low:
            yield empty
            continue
        frame = empty.copy()
        frame.reshape(shear.shape)[rows, columns] = values
        yield frame


def _on_screen(image: Image.Image, shear: Shear, camera: Camera, screen: Screen, fill: float | None) -> Image.Image:
    """Warp a sheared picture to the screen. Pillow counts from the corners of pixels, not from their centers."""
    a, b, c, d, e, f = shear.warp(camera, screen)
    coefficients = (a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))
    size = (screen.columns, screen.rows)
    return image.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill)
