"""Pictures of a volume, still or moving, and what they were made with (PS3.18 Annex K)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from dicomweb.errors import TooLarge
from dicomweb.ports import JsonDataSet
from dicomweb.rendering import annotation, color_profiles, encoders, render
from dicomweb.rendering.grayscale import apply_window, full_range
from dicomweb.rendering.options import Window
from dicomweb.rendering.renderer import MAX_ANIMATED_PIXELS
from dicomweb.volumetric import screen
from dicomweb.volumetric.camera import Camera, along, camera
from dicomweb.volumetric.compositing import compose, project
from dicomweb.volumetric.options import Animation, Reformatting, VolumeOptions
from dicomweb.volumetric.reslice import reslice
from dicomweb.volumetric.shading import transfer
from dicomweb.volumetric.volume import Volume
from dicomweb.volumetric.volumes import Loaded

#: Pixels of a picture across and down; beyond that they are larger than voxels.
_MAX_SIDE = 2048
_LETTERS = {"VOLUME_RENDERED": "Volume rendering", "MAXIMUM_IP": "MIP", "MINIMUM_IP": "MinIP", "AVERAGE_IP": "Average"}


def picture(loaded: Loaded, options: VolumeOptions, header: Dataset, media_type: str) -> bytes:
    """Render and encode; `header` is of one of the images, for annotations and color."""
    cameras = cameras_of(loaded.volume, options)
    viewport = options.image.viewport
    if viewport is not None and viewport.width * viewport.height * len(cameras) > MAX_ANIMATED_PIXELS:
        raise TooLarge("The frames are too many or too large for one animation; ask with a smaller viewport.")
    images = [_finished(image, options, header) for image in _images(loaded, options, cameras)]
    if options.animation is not None:
        return encoders.animate([image for image, _ in images], 1000.0 / options.animation.rate)
    image, profile = images[0]
    return encoders.encode(image, media_type, options.image.quality, profile)


def cameras_of(volume: Volume, options: VolumeOptions) -> list[Camera]:
    """The camera of each picture, one without an animation."""
    first = camera(options.view, volume.center_mm, volume.diagonal_mm)
    animation = options.animation
    if animation is None:
        return [first]
    if animation.swivel_deg is not None:
        return [first.turned(number * animation.step) for number in range(animation.frames)]
    places = _along(animation)
    view = options.view
    if view.orientation or view.position or view.look_at or view.up:
        return [first.moved(place) for place, _ in places]
    return [along(tangent, place, volume.diagonal_mm) for place, tangent in places]


def window_of(volume: Volume, options: VolumeOptions) -> Window:
    """The caller's window, the images' own, or else one over what is there."""
    window = options.image.window or volume.window
    return window or full_range(volume.array[::3, ::3, ::3].astype(np.float32))


def response_module(volume: Volume, options: VolumeOptions) -> JsonDataSet:
    """The Rendered Volume Response Module (Table K.1-1)."""
    first = cameras_of(volume, options)[0]
    found: dict[str, tuple[str, list[str] | list[float]]] = {
        "00701603": ("FD", first.position.tolist()),
        "00701604": ("FD", first.look_at.tolist()),
        "00701605": ("FD", first.up.tolist()),
        "0070120D": ("CS", [options.method]),
        "00720510": ("CS", [options.reformatting.value]),
    }
    if options.slab_mm is not None:
        found["00701503"] = ("FD", [options.slab_mm])
    if options.method != "VOLUME_RENDERED":
        window = window_of(volume, options)
        found |= {"00281050": ("DS", [window.center]), "00281051": ("DS", [window.width])}
        found["00281056"] = ("CS", [window.function])
    if (animation := options.animation) is not None:
        found |= {"00701A05": ("FD", [animation.step]), "00701A03": ("FD", [float(animation.rate)])}
        if animation.swivel_deg is not None:
            found["00701A06"] = ("FD", [animation.swivel_deg])
    return {tag: {"vr": vr, "Value": values} for tag, (vr, values) in sorted(found.items())}


def _images(loaded: Loaded, options: VolumeOptions, cameras: Sequence[Camera]) -> Iterator[Image.Image]:
    """What each camera sees, one picture in memory at a time; all on one screen."""
    volume, method = loaded.volume, options.method
    window = window_of(volume, options)
    if options.reformatting is Reformatting.MPR:
        seen = screen.around(volume.corners_mm, cameras, float(volume.spacing_mm.min()), _side(len(cameras)))
        for one in cameras:
            yield _gray(reslice(volume, one, seen, method, options.slab_mm, len(cameras)), volume, window)
        return
    grid = loaded.grid(len(cameras))
    seen = screen.around(volume.corners_mm, cameras, grid.voxel_mm, _side(len(cameras)))
    if method == "VOLUME_RENDERED":
        look = transfer(grid, is_ct=volume.is_ct, window=options.image.window)
        for one in cameras:
            yield Image.fromarray(compose(grid, one, seen, look))
        return
    for one in cameras:
        yield _gray(project(grid, one, seen, method), volume, window)


def _side(frames: int) -> int:
    """How many pixels wide and high the frames of an animation may be, that all of them can be held."""
    return min(_MAX_SIDE, int((MAX_ANIMATED_PIXELS / frames) ** 0.5))


def _gray(values: NDArray[np.float32], volume: Volume, window: Window) -> Image.Image:
    """Values through the window; black outside the volume."""
    shown = apply_window(values, window)
    shown = np.rint(255.0 - shown if volume.is_inverse else shown)
    return Image.fromarray(np.where(np.isfinite(shown), shown, 0).astype(np.uint8))


def _finished(image: Image.Image, options: VolumeOptions, header: Dataset) -> tuple[Image.Image, bytes | None]:
    """Scaled to the viewport, in the color space asked for, annotated."""
    if options.image.viewport is not None:
        image = render.fit(image, options.image.viewport)
    image, profile = color_profiles.apply(image, options.image.icc_profile, header, 1)
    if options.image.annotation:
        patient, procedure, _ = annotation.corners(header, 1, options.image.annotation)
        how = [_LETTERS[options.method]] if options.method != "AVERAGE_IP" or options.slab_mm else ["MPR"]
        how += [f"Slab {options.slab_mm:g} mm"] if options.slab_mm else []
        image = annotation.burn_in(image, (patient, procedure, how if "technique" in options.image.annotation else []))
    return image, profile


def _along(animation: Animation) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Places along the curve, a step apart, and the direction of the curve there."""
    points = np.array(animation.curve, np.float64)
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps, starts, lengths = steps[lengths > 0], points[:-1][lengths > 0], lengths[lengths > 0]
    ends = np.cumsum(lengths)
    found = []
    for number in range(animation.frames):
        distance = min(number * animation.step, float(ends[-1]))
        part = min(int(np.searchsorted(ends, distance, side="right")), len(ends) - 1)
        tangent = steps[part] / lengths[part]
        found.append((starts[part] + tangent * (distance - (ends[part] - lengths[part])), tangent))
    return found
