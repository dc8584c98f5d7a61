"""Renders stored instances: reads their frames, decodes them in the pool, and gives encoded pictures and texts."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from PIL import Image
from pydicom import Dataset

from dicomweb import dicom_xml
from dicomweb.errors import NotAcceptable, NotFound, TooLarge
from dicomweb.pixels import transcode
from dicomweb.pixels.functional_groups import number, numbers
from dicomweb.ports import Archive, JsonDataSet, Runner, StoredInstance
from dicomweb.rendering import color_profiles, encoders, render, report
from dicomweb.rendering.options import Options, Viewport
from dicomweb.rendering.renditions import HTML, PDF, PLAIN
from dicomweb.stored import Reader

T = TypeVar("T")
#: Tells from a header how small a picture must have been before it is shown; None for any size.
Via = Callable[[Dataset], Viewport | None]

#: An animation is made in memory: its frames together have at most so many pixels as they are sent.
MAX_ANIMATED_PIXELS = 1 << 26
_DEFAULT_FRAME_MS = 100.0
_MALFORMED = "The object has malformed attributes and cannot be rendered."


async def still(
    run: Runner, reader: Reader, frame: int, options: Options, media_type: str, *, via: Via | None = None
) -> bytes:
    """One frame as an encoded picture; scaled down to what `via` tells first, what is lost by that stays lost."""
    color_profiles.check(options.icc_profile, media_type)
    stored, header = await _frame(reader, frame, whole=bool(options.annotation))
    return await run(_still, header, reader.instance.transfer_syntax_uid, stored, frame, options, media_type, via)


async def animation(run: Runner, reader: Reader, frames: Sequence[int], options: Options) -> bytes:
    """Frames as an animated GIF, at the speed that the instance names."""
    color_profiles.check(options.icc_profile, encoders.ANIMATED)
    images: list[Image.Image] = []
    for frame in frames:
        stored, header = await _frame(reader, frame)
        images.append(await run(_picture, header, reader.instance.transfer_syntax_uid, stored, frame, options))
        if images[0].width * images[0].height * len(frames) > MAX_ANIMATED_PIXELS:
            raise TooLarge("The frames are too many or too large for one animation; ask with a smaller viewport.")
    return await run(encoders.animate, images, frame_ms(await reader.header()))


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


async def _frame(reader: Reader, frame: int, *, whole: bool = True) -> tuple[bytes | memoryview, Dataset]:
    """A stored frame and its header: the whole of it, or what pictures without annotation depend on."""
    if not reader.instance.pixel_offset:
        raise NotFound("The instance has no picture.")
    return (await reader.stored_frame(frame), await reader.header()) if whole else await reader.picture(frame)


def _still(
    header: Dataset,
    syntax: str,
    stored: bytes | memoryview,
    frame: int,
    options: Options,
    media_type: str,
    via: Via | None = None,
) -> bytes:
    pixels, photometric = transcode.decode(header, syntax, stored, rgb=True)
    smaller = via(header) if via is not None else None
    if smaller is None or options.viewport is None:
        return guarded(render.render, pixels, photometric, header, frame, options, media_type)
    image = guarded(render.picture, pixels, photometric, header, frame, replace(options, viewport=smaller))
    return encoders.encode(render.fit(image, options.viewport), media_type, options.quality)


def _picture(header: Dataset, syntax: str, stored: bytes | memoryview, frame: int, options: Options) -> Image.Image:
    pixels, photometric = transcode.decode(header, syntax, stored, rgb=True)
    image = guarded(render.picture, pixels, photometric, header, frame, options)
    return guarded(render.finish, image, options, header, frame)[0]


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
