"""A derived image series: the source's own instances, with other pixels where a plugin says so.

Sources are fetched and read again, one by one: what did not change is copied from the stored values, never computed
back from rescaled ones, so it is the same to the bit; and no second volume is held. An instance keeps its SOP class,
its geometry and the rest of its header, but what could show the pixels as they were: overlays, icons, private elements.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEGLSLossless

from ray_plugins.outputs.common import MANUFACTURER, Origin, parameter_texts
from ray_plugins.sdk import Code, Context, Images, PluginError
from ray_plugins.task import DicomSeries
from ray_plugins.volume import MAX_THREADS, fetcher, parse, slices_of

SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
PROCESSING = Code("109102", "DCM", "Processing Equipment")
CLEAN_VISUAL_FEATURES = Code("113102", "DCM", "Clean Recognizable Visual Features Option")
#: A result travels as one message and is held until it is filed.
MAX_SERIES_BYTES = 384 << 20

#: What shows or describes the pixels as they were: icons, statistics, checksums, other forms of pixels.
STALE = (
    "IconImageSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "PixelDataProviderURL",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "MACParametersSequence",
    "DigitalSignaturesSequence",
    "DataSetTrailingPadding",
)
#: What has these is of the multi-frame kind, of however many frames (PS3.3 C.7.6.16).
FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: Curves and overlays repeat in these groups (PS3.5 section 7.6).
DRAWN_GROUPS = range(0x5000, 0x5020), range(0x6000, 0x6020)


def images(origin: Origin, made: Images, number: int, context: Context) -> DicomSeries:
    """Make one derived series.

    Parameters
    ----------
    number : of the series among those of the result, from 1.

    Raises
    ------
    PluginError : `made` has another shape than the volume; the source's pixels are stored in a way that cannot be
        written back; the series would be too large.
    """
    shape = origin.volume.array.shape
    if made.changed.shape != shape or np.shape(made.values) not in ((), shape):
        raise PluginError(f'The images "{made.title}" have another shape than the series, {shape}.')
    headers = origin.volume.headers
    if len(headers) != shape[0] or any(group in header for header in headers for group in FRAMES):
        raise PluginError("Derived images are made of single-frame images only; this series has multi-frame images.")
    series = _Series(origin, made, number)
    places = {str(header.SOPInstanceUID): index for index, header in enumerate(headers)}
    fetch = fetcher(origin.task.inputs)

    def derive(uri: str) -> tuple[int, str, bytes] | None:
        context.check_cancelled()
        source = parse(fetch(uri))
        index = places.get(str(source.SOPInstanceUID))
        return None if index is None else (index, *series.instance(source, index))

    written: list[tuple[int, str, bytes]] = []
    size = 0
    with ThreadPoolExecutor(min(MAX_THREADS, (os.cpu_count() or 1) + 1)) as pool:
        try:
            for one in filter(None, pool.map(derive, origin.task.inputs)):
                written.append(one)
                size += len(one[2])
                if size > MAX_SERIES_BYTES:
                    raise PluginError(f"The new series is larger than {MAX_SERIES_BYTES >> 20} MiB, the most of a run.")
                context.progress(len(written) / shape[0], f"Writing {len(written)} of {shape[0]} images")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who ends early waits for nothing that nobody takes
    instances = tuple((uid, data) for _, uid, data in sorted(written))
    return DicomSeries("images", made.title, str(origin.sources[0].StudyInstanceUID), str(series.uid), instances)


@dataclass(frozen=True)
class _Series:
    """The series that is made, and how an instance of it comes of one of the source."""

    origin: Origin
    made: Images
    number: int

    @property
    def uid(self) -> UID:
        """Its own UID."""
        return self.origin.uid("images", str(self.number))

    def instance(self, source: Dataset, index: int) -> tuple[str, bytes]:
        """Make the instance that has the place `index` in the volume: its UID, and its Part 10 file."""
        reference = _reference(source)
        pixels = self._pixels(source, index)
        source.decode()  # by the source's character set, before it has another one
        _clean(source)
        self._describe(source, reference)
        source.SOPInstanceUID = self.origin.uid("images", str(self.number), reference.ReferencedSOPInstanceUID)
        _encode(source, pixels)
        self.origin.stamp(source)
        return str(source.SOPInstanceUID), self.origin.part10(source)

    def _pixels(self, source: Dataset, index: int) -> NDArray[Any]:
        """Give the stored values, those that changed by the inverse of the rescaling."""
        bits = int(source.BitsStored)
        (place,) = slices_of(source)
        if int(source.HighBit) != bits - 1 or int(source.BitsAllocated) not in (8, 16) or not place.slope:
            raise PluginError("The pixels are stored in a way that cannot be written back.")
        pixels = np.array(pixel_array(source, raw=True))
        unused = 8 * pixels.dtype.itemsize - bits  # overlays may lie there, and go, too
        pixels = (pixels << unused) >> unused
        changed = self.made.changed[index]
        if changed.any():
            given = np.asarray(self.made.values)
            values = given[index][changed] if given.ndim else given
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if pixels.dtype.kind == "i" else (0, (1 << bits) - 1)
            stored = np.rint((values.astype(np.float64) - place.intercept) / place.slope)
            pixels[changed] = np.clip(stored, low, high).astype(pixels.dtype)
        return pixels

    def _describe(self, instance: Dataset, reference: Dataset) -> None:
        """Say what the images are now, and of what and how they were made (PS3.3 C.7.6.1, C.12.4)."""
        origin, made = self.origin, self.made
        instance.SeriesInstanceUID = self.uid
        instance.SeriesNumber = origin.series_number(self.number + 2)
        described = str(instance.get("SeriesDescription") or "")
        title = made.title.lower()[:40]
        instance.SeriesDescription = (
            f"{described[: 63 - len(title)]} {title}" if described else origin.description(made.title)
        )
        instance.ImageType = ["DERIVED", "SECONDARY", *list(instance.get("ImageType") or [])[2:]]
        reference.PurposeOfReferenceCodeSequence = [_item(SOURCE_IMAGE)]
        instance.SourceImageSequence = [reference]
        instance.DerivationDescription = made.description[:1024]
        instance.DerivationCodeSequence = [_item(made.derivation)]
        equipment = Dataset()
        equipment.PurposeOfReferenceCodeSequence = [_item(PROCESSING)]
        equipment.Manufacturer, equipment.ManufacturerModelName = MANUFACTURER, origin.plugin.name
        equipment.SoftwareVersions = origin.software
        equipment.ContributionDescription = ", ".join(parameter_texts(origin.parameters))[:1024]
        instance.ContributingEquipmentSequence = [*instance.get("ContributingEquipmentSequence", []), equipment]
        if made.defaced:
            _say_defaced(instance, " ".join(origin.software[0:1]))


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def _clean(instance: Dataset) -> None:
    """Drop what may show or describe the pixels as they were."""
    instance.remove_private_tags()
    for keyword in STALE:
        if keyword in instance:
            del instance[keyword]
    for element in list(instance.keys()):
        if any(element.group in groups for groups in DRAWN_GROUPS):
            del instance[element]


def _say_defaced(instance: Dataset, by: str) -> None:
    """Stamp as PS3.15 E.3.2 wants it; of a method only objects tell whose identity was removed (PS3.3 C.7.1.1)."""
    instance.RecognizableVisualFeatures = "NO"
    if instance.get("PatientIdentityRemoved") == "YES":
        methods = instance.get("DeidentificationMethod") or []
        instance.DeidentificationMethod = [*([methods] if isinstance(methods, str) else methods), by[:64]]
        done = list(instance.get("DeidentificationMethodCodeSequence", []))
        if all(item.get("CodeValue") != CLEAN_VISUAL_FEATURES.value for item in done):
            done.append(_item(CLEAN_VISUAL_FEATURES))
        instance.DeidentificationMethodCodeSequence = done


def _encode(instance: Dataset, pixels: NDArray[Any]) -> None:
    """Put pixels in, JPEG-LS lossless: of the codecs that keep all bits, it is quick and small."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    meta.TransferSyntaxUID = JPEGLSLossless
    instance.file_meta = meta
    # JPEG-LS knows no sign: it carries the two's complement of all bits
    frame = imagecodecs.jpegls_encode(np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}"), 0)
    instance.PixelData = encapsulate([bytes(frame)])
    instance["PixelData"].VR = "OB"


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
