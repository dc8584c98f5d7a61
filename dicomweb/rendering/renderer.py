"""Renders stored instances: reads their frames, decodes them in the pool, and gives encoded pictures and texts."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from pydicom import Dataset

from dicomweb import dicom_xml
from dicomweb.errors import NotAcceptable, NotFound, TooLarge
from dicomweb.pixels import transcode
from dicomweb.pixels.functional_groups import number, numbers
from dicomweb.ports import Archive, Bytes, JsonDataSet, Runner, StoredInstance
from dicomweb.rendering import color_profiles, encoders, render, report
from dicomweb.rendering.native import native
from dicomweb.rendering.options import Options, Viewport, Window
from dicomweb.rendering.renditions import HTML, PDF, PLAIN
from dicomweb.stored import Reader

T = TypeVar("T")
#: Tells from a header how small a picture must have been before it is shown; None for any size.
Via = Callable[[Dataset], Viewport | None]

#: An animation is made in memory: its frames together have at most so many pixels as they are sent.
MAX_ANIMATED_PIXELS = 1 << 26
#: A viewport of so many pixels takes no more memory than what is shown in it.
_LIGHT_PIXELS = 1 << 20
_DEFAULT_FRAME_MS = 100.0
_MALFORMED = "The object has malformed attributes and cannot be rendered."


async def still(
    run: Runner, reader: Reader, frame: int, options: Options, media_type: str, *, via: Via | None = None
) -> bytes:
    """One frame as an encoded picture; scaled down to what `via` tells first, what is lost by that stays lost."""
    color_profiles.check(options.icc_profile, media_type)
    _check_pixels(reader)
    syntax = reader.instance.transfer_syntax_uid
    make = partial(_still, syntax=syntax, frame=frame, options=options, media_type=media_type, via=via)
    if options.annotation:  # which shows what is anywhere in the header
        return await run(make, await reader.stored_frame(frame), await reader.header())
    viewport = options.viewport
    is_light = viewport is None or viewport.width * viewport.height <= _LIGHT_PIXELS
    return await reader.picture(frame, make, is_light=is_light)


async def animation(run: Runner, reader: Reader, frames: Sequence[int], options: Options) -> bytes:
    """Frames as an animated GIF, at the speed that the instance names."""
    color_profiles.check(options.icc_profile, encoders.ANIMATED)
    _check_pixels(reader)
    header, syntax = await reader.header(), reader.instance.transfer_syntax_uid
    images: list[Image.Image] = []
    for frame in frames:
        images.append(await run(_picture, await reader.stored_frame(frame), header, syntax, frame, options))
        if images[0].width * images[0].height * len(frames) > MAX_ANIMATED_PIXELS:
            raise TooLarge("The frames are too many or too large for one animation; ask with a smaller viewport.")
    return await run(encoders.animate, images, frame_ms(header))


async def text(run: Runner, archive: Archive, reader: Reader, media_type: str) -> bytes:
    """A structured report as HTML, plain text or the Native DICOM Model."""
    if media_type in (HTML, PLAIN):
        header = await reader.header()
        return await run(guarded, report.to_html if media_type == HTML else report.to_text, header)
    metadata = await archive.metadata(reader.instance.resource)
    return await run(_native_model, metadata.gzip_body)


async def document(reader: Reader) -> bytes:
    """An encapsulated document as it was before it was made a DICOM object."""
    header = await reader.header()
    content = header.get("EncapsulatedDocument") or b""
    if not isinstance(content, bytes):
        raise NotAcceptable(_MALFORMED)
    length = header.get("EncapsulatedDocumentLength")
    # Padded to an even length (PS3.3 section C.24.2); a PDF ends at its last %%EOF in any case.
    return content[:length] if isinstance(length, int) and 0 < length <= len(content) else content


def document_type(media_type: str) -> str:
    """Content-Type of a rendered text."""
    return media_type if media_type == PDF or not media_type.startswith("text/") else f"{media_type}; charset=utf-8"


def document_fields(media_type: str) -> dict[str, str]:
    """Header fields of a rendered text: browsers run no script of what somebody stored, with the rights of a viewer."""
    if not media_type.startswith("text/"):
        return {}
    return {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}


def frame_ms(header: Dataset) -> float:
    """How long each frame of a cine is shown (PS3.3 section C.7.6.5); an even pace, also where frame times differ."""
    times = [number(header.get("FrameTime"), math.nan), *list(numbers(header.get("FrameTimeVector")))[1:]]
    times = [one for one in times if one > 0 and math.isfinite(one)]
    if times:
        return sum(times) / len(times)
    for keyword in ("RecommendedDisplayFrameRate", "CineRate"):
        rate = number(header.get(keyword), 0.0)
        if rate > 0 and math.isfinite(rate):
            return 1000.0 / rate
    return _DEFAULT_FRAME_MS


def _check_pixels(reader: Reader) -> None:
    if not reader.instance.pixel_offset:
        raise NotFound("The instance has no picture.")


def _still(
    stored: Bytes,
    header: Dataset,
    syntax: str,
    frame: int,
    options: Options,
    media_type: str,
    via: Via | None,
) -> bytes:
    shown = _displayed(stored, header, syntax, frame, options.window)
    smaller = via(header) if via is not None else None
    if smaller is None or options.viewport is None:
        return guarded(render.render, shown, header, frame, options, media_type)
    image = guarded(render.picture, shown, header, frame, replace(options, viewport=smaller))
    return encoders.encode(render.fit(image, options.viewport), media_type, options.quality)


def _picture(stored: bytes, header: Dataset, syntax: str, frame: int, options: Options) -> Image.Image:
    shown = _displayed(stored, header, syntax, frame, options.window)
    image = guarded(render.picture, shown, header, frame, options)
    return guarded(render.finish, image, options, header, frame)[0]


def _displayed(stored: Bytes, header: Dataset, syntax: str, frame: int, window: Window | None) -> np.ndarray:
    """A frame as it is shown: looked up as it is stored where that can be, else decoded."""
    found = guarded(native, header, syntax, frame, window)
    shown = None if found is None else found.shades(stored)
    if shown is None:
        pixels, photometric = transcode.decode(header, syntax, stored, rgb=True)
        shown = guarded(render.display, pixels, photometric, header, frame, window)
    return shown


def guarded(function: Callable[..., T], *args: Any) -> T:
    """Turn what pydicom, NumPy and Pillow raise on malformed attributes into the caller's error."""
    try:
        return function(*args)
    except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, OSError, NotImplementedError) as exc:
        raise NotAcceptable(_MALFORMED) from exc


def _native_model(gzip_body: bytes) -> bytes:
    items: list[JsonDataSet] = json.loads(gzip.decompress(gzip_body))
    return dicom_xml.to_xml(items[0])


def is_animated(instance: StoredInstance, frames: Sequence[int], media_type: str) -> bool:
    """Whether these frames are sent as one moving picture."""
    return media_type == encoders.ANIMATED and len(frames) > 1 and instance.frames.count > 1
