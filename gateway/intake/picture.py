"""An instance that is held in memory in whole, so that its picture can be looked at before anything of it is stored.

Pure CPU, for a thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from dicomweb.pixels import codecs, transcode
from dicomweb.pixels.frames import FrameTable
from dicomweb.pixels.transcode import Undecodable
from gateway.deid.policy import Refusal
from gateway.deid.stamps import state_clean_pixels
from gateway.intake.header import Header
from gateway.intake.rewrite import parsed
from gateway.intake.source import ByteSource
from gateway.intake.stored import Deidentify
from gateway.intake.taking import Taking, Treatment

#: What all frames of an instance may take once they are decoded: 8,000 frames of a megapixel.
MAX_DECODED_BYTES: Final = 8 << 30
_MALFORMED: Final = "The attributes of the picture are malformed, so that nobody can look into it."
_UNDECODABLE: Final = "The pixel data cannot be decoded, so that nobody can look for text in it."


@dataclass(slots=True)
class Looked:
    """What a profile does to the header of an instance whose picture is looked at: `attributes` are set before.

    `is_clean` tells whether text was looked for; where only known places were blanked nothing is said of the pixels.
    """

    profile: Deidentify
    attributes: Mapping[str, Any] = field(default_factory=dict)
    is_clean: bool = True
    is_identity: bool = False

    @property
    def uid(self) -> Callable[[str], str]:
        """What a UID is replaced by."""
        return self.profile.uid

    def apply(self, ds: Dataset) -> None:
        """Say that the pixels are clean if they are, and go on as the profile does."""
        for keyword, value in self.attributes.items():
            if value is not None:
                setattr(ds, keyword, value)
            elif keyword in ds:
                del ds[keyword]
        if self.is_clean:
            state_clean_pixels(ds)
        self.profile.apply(ds)


def treated(treatment: Treatment, attributes: Mapping[str, Any] | None = None, *, is_clean: bool = True) -> Treatment:
    """A treatment of what is looked at."""
    return dataclasses.replace(treatment, profile=Looked(treatment.profile, attributes or {}, is_clean))


class Picture:
    """The frames of an instance, and how it would be stored if nothing in them had to be changed."""

    def __init__(self, header: Header, source: ByteSource, treatment: Treatment, study_uid: str | None) -> None:
        """Take the bytes that follow the header, all of which have arrived.

        Raises
        ------
        Refused : nobody can look into the picture, or the profile refuses the object.
        BadRequest, Conflict, TooLarge : the instance cannot be taken.
        """
        self.header = header
        self.treatment = treatment
        self.study_uid = study_uid
        #: As it came: what decides on the risk the profile may change.
        self.original = parsed(header)
        self.taking = Taking(source, treated(treatment), study_uid, header)
        self._data = bytearray()
        for piece in self.taking.advance():
            self._data += piece
        self.syntax = self.taking.stored.transfer_syntax_uid
        self.frames = self._frames()

    def _frames(self) -> FrameTable:
        """Where the frames lie; raise Refusal unless all that there is can be looked into."""
        if not codecs.can_decode(self.syntax):
            raise Refusal("The picture is a video, or compressed as nothing here can decode; nobody can look into it.")
        frames, ds = self.taking.frames, self.original
        try:
            declared = max(1, int(ds.get("NumberOfFrames") or 1))
            bits = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated
        except (ValueError, TypeError, AttributeError):
            raise Refusal(_MALFORMED) from None
        if frames.count != declared or (frames.bits % 8 and declared > 1) or self.taking.codestreams > declared:
            raise Refusal("The frames of the object cannot be told apart, so that nobody can look into them.")
        if bits // 8 * declared > MAX_DECODED_BYTES:
            raise Refusal("The picture is too large once it is decoded to look for text in it.")
        return frames

    @property
    def value(self) -> memoryview:
        """The value of the pixel data: of native frames what they take, and no byte more."""
        start = len(self.taking.stored.head)
        size = -(-self.frames.bits * self.frames.count // 8)
        return memoryview(self._data)[start : start + size if size else None]

    def decoded(self, number: int, *, rgb: bool = True) -> tuple[np.ndarray, str]:
        """A frame and its photometric interpretation; raise Refusal if it cannot be decoded."""
        stored = b"".join(self._data[at : at + length] for at, length in self.frames.ranges(number))
        try:
            return transcode.decode(self.original, self.syntax, stored, rgb=rgb)
        except Undecodable:
            raise Refusal(_UNDECODABLE) from None
