"""Copies without identity, made when they are asked for: Basic Profile and Clean Pixel Data, whatever is stored how.

What `anonymize=yes` of WADO-URI means (PS3.18 section 9.4.1.2.1). Nothing is kept but what was found to blank.
"""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from typing import Final
from weakref import WeakValueDictionary

from pydicom.dataset import Dataset, FileMetaDataset

from dicomweb.ports import AnonymousCopy, FrameSource, Runner, StoredInstance
from gateway.deid.engine import Deidentifier
from gateway.deid.pixels import PixelCleaner, Redaction
from gateway.deid.policy import Refusal
from gateway.deid.stamps import state_clean_pixels

_PROFILE: Final = "basic"
_MAX_CACHED: Final = 1024


class Anonymizer:
    """Makes de-identified copies with one key; implements `dicomweb.ports.Anonymizer`."""

    def __init__(self, key: bytes, run: Runner, cleaner: PixelCleaner | None = None) -> None:
        self._key = key
        self._run = run
        self._cleaner = cleaner or PixelCleaner(run)
        self._profile: Deidentifier | None = None
        self._redactions: OrderedDict[str, Redaction] = OrderedDict()
        self._examining: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def copy(self, instance: StoredInstance, header: Dataset, read: FrameSource) -> AnonymousCopy:
        """Make a copy of a header and find out what to blank in the frames; see `dicomweb.ports.Anonymizer`."""
        if instance.pixel_offset and not instance.frames.count:
            raise Refusal("The frames of the object cannot be told apart, so that nobody can look into them.")
        redaction = await self._redaction(instance, header, read)
        profile = self._profile = self._profile or await self._run(Deidentifier.load, _PROFILE, self._key)
        result = await self._run(_anonymous, header, profile, redaction.looked)
        return AnonymousCopy(result, lambda pixels, photometric: redaction.apply(pixels, photometric, header))

    async def _redaction(self, instance: StoredInstance, header: Dataset, read: FrameSource) -> Redaction:
        """What to blank; who asks for several frames of an object at once waits for one examination."""
        async with self._examining.setdefault(instance.key, asyncio.Lock()):
            found = self._redactions.get(instance.key)
            if found is None:
                found = await self._cleaner.examine(header, instance.frames.count, read)
                self._redactions[instance.key] = found
                if len(self._redactions) > _MAX_CACHED:
                    self._redactions.popitem(last=False)
            return found


def _anonymous(header: Dataset, profile: Deidentifier, looked: bool) -> Dataset:
    """De-identify a copy of a header; its file meta information is new (PS3.15 section E.1.1)."""
    ds = copy.deepcopy(header)
    if looked:
        state_clean_pixels(ds)
    profile.apply(ds)
    ds.preamble = b"\0" * 128
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    return ds
