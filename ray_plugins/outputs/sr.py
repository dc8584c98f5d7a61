"""DICOM Structured Report of a result's measurements: TID 1500, one group for each segment (TID 1411), by reference."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from ray_plugins.outputs.common import MANUFACTURER, Origin, coded, parameter_texts
from ray_plugins.sdk import Code, Result, Segment
from ray_plugins.sdk import Measurement as Measured

#: UCUM units whose meaning should read well; others mean what their code says.
UNITS = {
    "mL": "milliliter",
    "mm": "millimeter",
    "cm2": "square centimeter",
    "[hnsf'U]": "Hounsfield unit",
    "1": "no units",
}
PRIVATE_SCHEME = "99ISTHMUS"


def report(origin: Origin, result: Result, segmentation: Dataset | None) -> Dataset:
    """Make the SR of all measurements of a result; segments are referenced in `segmentation`."""
    groups: list[Any] = []
    for number, segment in enumerate(result.segments, 1):
        mine = [item for item in result.measurements if item.segment == segment.name]
        if mine and segmentation is not None:
            groups.append(_of_segment(origin, segment, number, mine, segmentation))
    rest = [item for item in result.measurements if item.segment not in {segment.name for segment in result.segments}]
    if rest:
        groups.append(_of_series(origin, rest))
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(origin)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion if _is_ct(origin) else codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    made: Dataset = ComprehensiveSR(
        evidence=[*origin.sources, *([segmentation] if segmentation is not None else [])],
        content=content[0],
        series_instance_uid=origin.uid("sr", "series"),
        series_number=origin.series_number(2),
        sop_instance_uid=origin.uid("sr", "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=origin.plugin.name,
        software_versions=origin.software,
        series_description=origin.description(result.title),
        is_complete=True,
        is_final=False,
    )
    return made


def _of_segment(
    origin: Origin, segment: Segment, number: int, measured: Sequence[Measured], segmentation: Dataset
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    reference = ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=number,
        source_series=SourceSeriesForSegmentation(origin.sources[0].SeriesInstanceUID),
    )
    if len(segmentation.SegmentSequence) == 1 and segmentation.SegmentationType == "LABELMAP":
        # A reference to all segments names none (PS3.3 Table 10-3); dciodvfy insists on it for label maps.
        del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(origin.uid("tracking", segment.name), segment.name),
        referenced_segment=reference,
        finding_category=coded(segment.category),
        finding_type=coded(segment.code),
        algorithm_id=_algorithm(origin),
        measurements=[_measurement(item) for item in measured],
    )


def _of_series(origin: Origin, measured: Sequence[Measured]) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(origin.uid("tracking", "series"), origin.plugin.title),
        algorithm_id=_algorithm(origin),
        measurements=[_measurement(item) for item in measured],
    )


def _measurement(item: Measured) -> Measurement:
    unit = Code(item.unit, "UCUM", UNITS.get(item.unit, item.unit))
    return Measurement(
        name=coded(item.code or _private(item.name)),
        value=item.value,
        unit=coded(unit),
        derivation=coded(item.derivation) if item.derivation else None,
    )


def _private(name: str) -> Code:
    """Make a code of our own for a concept that its plugin gave no code: a function of its name."""
    return Code(hashlib.sha256(name.encode()).hexdigest()[:12], PRIVATE_SCHEME, name[:64])


def _algorithm(origin: Origin) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=origin.plugin.title, version=origin.plugin.version, parameters=parameter_texts(origin.parameters)
    )


def _observer(origin: Origin) -> ObserverContext:
    """Name the software; one UID for each plugin and version, wherever it runs."""
    identity = DeviceObserverIdentifyingAttributes(
        uid=origin.uid_of_plugin,
        name=origin.plugin.title,
        manufacturer_name=MANUFACTURER,
        model_name=origin.plugin.name,
    )
    return ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=identity)


def _is_ct(origin: Origin) -> bool:
    return bool(origin.sources[0].get("Modality") == "CT")
