"""Volumes of stored images: frames read and decoded a few at a time into one array, and the last ones kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicomweb.errors import NotAcceptable, TooLarge
from dicomweb.pixels import transcode
from dicomweb.pixels.functional_groups import number
from dicomweb.ports import Limits, Runner
from dicomweb.rendering.grayscale import stored_window
from dicomweb.rendering.options import FUNCTIONS, Window
from dicomweb.rendering.renderer import guarded
from dicomweb.stored import Reader
from dicomweb.volumetric.cubic import Cubic, cubic
from dicomweb.volumetric.planes import Plane
from dicomweb.volumetric.selection import affine
from dicomweb.volumetric.volume import Volume

_KEPT = 2
_READ_AT_ONCE = 4
#: Voxels that a still picture and the frames of an animation together may take: 0.3 s, and about 3 s.
_STILL_VOXELS = 48_000_000
_ANIMATED_VOXELS = 200_000_000
#: What decoding needs to know of an image, by tag in DICOM JSON.
_PIXEL_MODULE = {
    "00280002": "SamplesPerPixel",
    "00280004": "PhotometricInterpretation",
    "00280010": "Rows",
    "00280011": "Columns",
    "00280100": "BitsAllocated",
    "00280101": "BitsStored",
    "00280102": "HighBit",
    "00280103": "PixelRepresentation",
}


@dataclass(slots=True)
class Loaded:
    """A volume and what was last made of it: its cubic grid, and for how many voxels that was asked."""

    volume: Volume
    _grids: dict[int, Cubic] = field(default_factory=dict)

    def grid(self, frames: int = 1) -> Cubic:
        """The cubic grid for a picture, or a coarser one for so many frames of an animation."""
        voxels = max(1_000_000, min(_STILL_VOXELS, _ANIMATED_VOXELS // max(1, frames)))
        if voxels not in self._grids:
            self._grids = {voxels: cubic(self.volume, voxels)}
        return self._grids[voxels]


class Volumes:
    """Loads volumes and keeps those that were last asked for; callers take turns."""

    def __init__(self, run: Runner, limits: Limits) -> None:
        self._run = run
        self._max_bytes = limits.max_volume_bytes
        self._kept: OrderedDict[str, Loaded] = OrderedDict()

    async def get(self, key: str, planes: Sequence[Plane], readers: Mapping[str, Reader]) -> Loaded:
        """The volume of sorted planes; `key` names their content, `readers` give the pixels by SOP Instance UID.

        Raises
        ------
        BadRequest : the planes form no volume.
        TooLarge : it would take more memory than one may.
        NotAcceptable : a plane cannot be decoded.
        """
        loaded = self._kept.get(key)
        if loaded is not None:
            self._kept.move_to_end(key)
            return loaded
        matrix = await self._run(guarded, affine, planes)
        dtype = await self._run(guarded, _dtype, planes)
        size = len(planes) * planes[0].shape[0] * planes[0].shape[1] * dtype.itemsize
        if size > self._max_bytes:
            raise TooLarge("The volume is too large to be rendered; choose fewer images by attributes to match.")
        self._make_room(size)
        array = await self._load(planes, readers, dtype)
        loaded = self._kept[key] = Loaded(_volume(array, matrix, planes))
        return loaded

    def _make_room(self, size: int) -> None:
        while self._kept and (len(self._kept) >= _KEPT or self._kept_bytes() + size > self._max_bytes):
            self._kept.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(one.volume.array.nbytes for one in self._kept.values())

    async def _load(
        self, planes: Sequence[Plane], readers: Mapping[str, Reader], dtype: np.dtype[np.int16] | np.dtype[np.float32]
    ) -> NDArray[np.int16] | NDArray[np.float32]:
        array = np.empty((len(planes), *planes[0].shape), dtype)
        pending = iter(enumerate(planes))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_READ_AT_ONCE):
                    group.create_task(self._fill(array, pending, readers))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return array

    async def _fill(
        self,
        array: NDArray[np.int16] | NDArray[np.float32],
        pending: Iterator[tuple[int, Plane]],
        readers: Mapping[str, Reader],
    ) -> None:
        """Take plane after plane, as long as there are any."""
        for index, plane in pending:
            reader = readers[plane.instance_uid]
            stored = await reader.stored_frame(plane.frame)
            await self._run(_decode, array, index, plane, reader.instance.transfer_syntax_uid, stored)


def _decode(
    array: NDArray[np.int16] | NDArray[np.float32], index: int, plane: Plane, syntax: str, stored: bytes
) -> None:
    """Decode and rescale one plane into the array; a value beyond int16 (of padding) is clipped to its end."""
    pixels, _ = transcode.decode(_header(plane), syntax, stored)
    if pixels.shape != array.shape[1:]:
        raise NotAcceptable("An image has pixels that do not fit its header.")
    if array.dtype == np.int16:
        limits = np.iinfo(np.int16)
        array[index] = np.clip(pixels.astype(np.int32) + np.int32(plane.intercept), limits.min, limits.max)
    else:
        np.multiply(pixels, np.float32(plane.slope), out=array[index], casting="unsafe")
        array[index] += np.float32(plane.intercept)
        np.nan_to_num(array[index], copy=False)


def _header(plane: Plane) -> Dataset:
    """As much of a header as decoding needs."""
    header = Dataset()
    for tag, keyword in _PIXEL_MODULE.items():
        values = plane.item.get(tag, {}).get("Value")
        if values:
            setattr(header, keyword, values[0])
    header.NumberOfFrames = 1
    return header


def _dtype(planes: Sequence[Plane]) -> np.dtype[np.int16] | np.dtype[np.float32]:
    """int16 where every rescaled value is whole and fits, else float32."""
    return np.dtype(np.int16) if all(map(_is_whole, planes)) else np.dtype(np.float32)


def _is_whole(plane: Plane) -> bool:
    header = _header(plane)
    bits = number(header.get("BitsStored"), 32)
    if plane.slope != 1 or not plane.intercept.is_integer() or not 1 <= bits <= 16:
        return False
    signed = header.get("PixelRepresentation") == 1
    low, high = (-(1 << int(bits) - 1), (1 << int(bits) - 1) - 1) if signed else (0, (1 << int(bits)) - 1)
    # Signed values are of scanners whose 16 bits are never used up: what lies outside is padding.
    return signed or (low + plane.intercept >= -32768 and high + plane.intercept <= 32767)


def _volume(
    array: NDArray[np.int16] | NDArray[np.float32], matrix: NDArray[np.float64], planes: Sequence[Plane]
) -> Volume:
    middle = planes[len(planes) // 2]
    return Volume(
        array,
        matrix,
        _window(middle),
        is_ct=_first(middle, "00080060") == "CT",
        is_inverse=_first(middle, "00280004") == "MONOCHROME1",
    )


def _window(plane: Plane) -> Window | None:
    voi = Dataset()
    for tag, keyword in (("00281050", "WindowCenter"), ("00281051", "WindowWidth")):
        value = _first(plane, tag)
        if isinstance(value, int | float):
            setattr(voi, keyword, value)
    function = _first(plane, "00281056")
    if function in FUNCTIONS.values():
        voi.VOILUTFunction = function
    return stored_window(voi)


def _first(plane: Plane, tag: str) -> object:
    return next(iter(plane.attributes.get(tag, {}).get("Value", [])), None)
