"""DICOM Segmentation of a result's masks: LABELMAP (PS3.3 A.51, Supplement 243), or BINARY for older readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from skimage.color import rgb2lab

from ray_plugins.outputs.common import DEVICE_SERIAL_NUMBER, MANUFACTURER, Origin, coded
from ray_plugins.sdk import PluginError, Result, Segment

MAX_PARAMETERS_CHARACTERS = 1024


def segmentation(origin: Origin, result: Result) -> Dataset:
    """Make the SEG of all segments of a result.

    Raises
    ------
    PluginError : a mask has another shape than the volume, or segments of a LABELMAP overlap.
    """
    segments = result.segments
    labelmap = result.encoding == "LABELMAP"
    pixels = (_labelmap if labelmap else _stack)(segments, origin.volume.array.shape)
    made: Dataset = Segmentation(
        source_images=origin.sources,
        pixel_array=pixels,
        segmentation_type=SegmentationTypeValues(result.encoding),
        segment_descriptions=[_describe(origin, number, item) for number, item in enumerate(segments, 1)],
        series_instance_uid=origin.uid("seg", "series"),
        series_number=origin.series_number(1),
        sop_instance_uid=origin.uid("seg", "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=origin.plugin.name,
        software_versions=origin.software,
        device_serial_number=DEVICE_SERIAL_NUMBER,
        content_description=origin.description(result.title),
        content_label="SEGMENTATION",
        series_description=origin.description(result.title),
        transfer_syntax_uid=RLELossless if labelmap else ExplicitVRLittleEndian,
    )
    dimensions = origin.uid("seg", "dimensions")
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for item in made.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimensions
    if labelmap:
        # highdicom describes the background as segment 0; OHIF 3.13 then gives each segment its predecessor's colour.
        made.SegmentSequence = [item for item in made.SegmentSequence if item.SegmentNumber != 0]
    return made


def _describe(origin: Origin, number: int, segment: Segment) -> SegmentDescription:
    plugin = origin.plugin
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=coded(segment.category),
        segmented_property_type=coded(segment.code),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=plugin.title[:64],
            version=plugin.version,
            family=coded(plugin.family),
            source=MANUFACTURER,
            parameters={name: str(value) for name, value in origin.parameters.items()} or None,
        ),
        tracking_id=segment.name,
        tracking_uid=origin.uid("tracking", segment.name),
        display_color=_color(segment.color),
    )


def _color(rgb: tuple[int, int, int]) -> CIELabColor:
    """Convert sRGB (0 to 255) to CIELab; viewers read no other colour (PS3.3 C.8.20.2)."""
    lightness, a, b = (float(part) for part in rgb2lab(np.array([[rgb]], np.uint8))[0, 0])
    return CIELabColor(lightness, a, b)


def _labelmap(segments: Sequence[Segment], shape: tuple[int, ...]) -> NDArray[Any]:
    """Make one array of segment numbers."""
    labels = np.zeros(shape, np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, 1):
        mask = _checked(segment, shape)
        if len(segments) > 1 and labels[mask].any():
            raise PluginError(f'Segment "{segment.name}" overlaps another: a LABELMAP cannot hold that, BINARY can.')
        labels[mask] = number
    return labels


def _stack(segments: Sequence[Segment], shape: tuple[int, ...]) -> NDArray[Any]:
    """Make one plane of segments a segment, last axis."""
    return np.stack([_checked(segment, shape) for segment in segments], axis=-1).astype(np.uint8)


def _checked(segment: Segment, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(segment.mask, np.bool_)
    if mask.shape != shape:
        raise PluginError(f'The mask of "{segment.name}" has shape {mask.shape}, the series {shape}.')
    return mask
