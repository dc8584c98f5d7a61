"""ICC profiles of rendered pictures (PS3.18 section 8.3.5.1.5): which one a picture has, and changing it."""

from __future__ import annotations

import io
import struct
from functools import cache

import imagecodecs
import numpy as np
from PIL import Image, ImageCms
from pydicom import Dataset

from dicomweb.errors import BadRequest
from dicomweb.pixels.functional_groups import Frame, first

#: Media types in which the encoders here can embed a profile; for others only `no` can be asked for.
EMBEDDING = frozenset(["image/jpeg", "image/png"])
_MAX_PROFILE_BYTES = 8 << 20
# Date and time in the header of a profile (ICC.1 section 7.2.10), six numbers of 16 bits: when it was made would make
# pictures with the same ETag differ from worker to worker.
_CREATED = slice(24, 36)
_ANY_TIME = struct.pack(">6H", 2001, 12, 1, 0, 0, 0)  # when version 4 was published
# ISO 22028-2 (ROMM RGB): white point D50, primaries as x, y, Y each, linear below 1/32.
_ROMM_WHITE = [0.3457, 0.3585, 1.0]
_ROMM_PRIMARIES = [0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0]


def check(name: str | None, media_type: str) -> None:
    """Raise BadRequest if a profile is asked for that the media type cannot hold."""
    if name not in (None, "no") and media_type not in EMBEDDING:
        raise BadRequest(f"No ICC profile can be embedded in {media_type}; ask with iccprofile=no.")


def apply(image: Image.Image, name: str | None, header: Dataset, frame: int) -> tuple[Image.Image, bytes | None]:
    """The picture in the color space that is asked for, and the profile to embed.

    `yes` keeps the pixels and names what they are: the profile in the object, else sRGB. A profile that cannot be read
    counts as none.
    """
    if name in (None, "no"):
        return image, None
    source = _profile(own_profile(header, frame))
    image = image.convert("RGB")
    if name == "yes":
        return image, source or standard("srgb")
    wanted = standard(str(name))
    if wanted == (source or standard("srgb")):
        return image, wanted
    transformed = ImageCms.profileToProfile(
        image, io.BytesIO(source or standard("srgb")), io.BytesIO(wanted), outputMode="RGB"
    )
    return transformed or image, wanted


def own_profile(header: Dataset, frame: int) -> bytes | None:
    """The ICC Profile (0028,2000) of an image, or of the optical path of its frame (PS3.3 section C.8.12.5)."""
    if isinstance(profile := header.get("ICCProfile"), bytes):
        return profile
    paths = header.get("OpticalPathSequence") or []
    wanted = Frame(header, frame).group("OpticalPathIdentificationSequence").get("OpticalPathIdentifier")
    path = next((one for one in paths if one.get("OpticalPathIdentifier") == wanted), None) or first(paths)
    profile = path.get("ICCProfile") if path is not None else None
    return profile if isinstance(profile, bytes) else None


@cache
def standard(name: str) -> bytes:
    """One of the well-known profiles srgb, adobergb, rommrgb; the same in every process."""
    made = bytes(imagecodecs.cms_profile(name) if name != "rommrgb" else _romm())
    return made[: _CREATED.start] + _ANY_TIME + made[_CREATED.stop :]


def _romm() -> bytes:
    encoded = np.linspace(0.0, 1.0, 1024, dtype=np.float32)
    decoded = np.where(encoded < 1 / 32, encoded / 16, encoded**1.8).astype(np.float32)
    return bytes(
        imagecodecs.cms_profile("rgb", whitepoint=_ROMM_WHITE, primaries=_ROMM_PRIMARIES, transferfunction=decoded)
    )


def _profile(data: bytes | None) -> bytes | None:
    """A profile of RGB pixels, or None."""
    if not data or len(data) > _MAX_PROFILE_BYTES:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data)).profile
    except (OSError, ImageCms.PyCMSError):
        return None
    return data if profile.xcolor_space.strip() == "RGB" else None
