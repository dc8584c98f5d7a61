"""Turns a plugin's result into files: DICOM SEG and SR objects, derived image series, and meshes.

An output keeps study, patient and frame of reference of its source, and its de-identification stamps; `common` says how
it gets its dates and UIDs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_plugins.sdk import Code, Context, Measurement, Plugin, Result, Surface, Volume
from ray_plugins.task import MeshFiles, Task, TaskResult

if TYPE_CHECKING:
    from ray_plugins.outputs.mesh import Mesh

SURFACE_AREA = Code("C0JK", "IBSI", "Surface Area of Mesh")


def write(
    task: Task, plugin: Plugin, parameters: Mapping[str, Any], volume: Volume, result: Result, context: Context
) -> TaskResult:
    """Write everything that a plugin gave: the SEG of its segments, the SR of its measurements, its images and meshes.

    A surface that bears a segment's name adds its area to the segment's measurements.

    Raises
    ------
    PluginError : the result contradicts itself or the series; in one sentence.
    """
    # highdicom, scikit-image: seconds to import, for those who write
    from ray_plugins.outputs.common import Origin
    from ray_plugins.outputs.images import images
    from ray_plugins.outputs.mesh import build
    from ray_plugins.outputs.seg import segmentation
    from ray_plugins.outputs.sr import report

    origin = Origin(task, plugin, parameters, volume)
    title = result.title or plugin.title
    names = {segment.name for segment in result.segments}
    meshes = []
    for number, surface in enumerate(result.surfaces):
        context.progress(0.6 * number / len(result.surfaces), f"Making the surface {surface.title}")
        mesh = build(surface, volume)
        context.log("%s: %d triangles, %.1f ml", surface.title, len(mesh.faces), mesh.volume_ml)
        meshes.append(_encode(mesh, surface, plugin, parameters))
        if surface.title in names:
            result.measure("Surface area", mesh.area_cm2, "cm2", segment=surface.title, code=SURFACE_AREA)
    objects = []
    dataset = None
    if result.segments:
        context.progress(0.6, "Writing the segmentation")
        dataset = segmentation(origin, result)
        objects.append(origin.finish(dataset, "seg", title))
    if result.measurements:
        context.progress(0.9, "Writing the report")
        objects.append(origin.finish(report(origin, result, dataset), "sr", f"{title}: measurements"))
    series = [images(origin, made, number, context.part(0.9, 1)) for number, made in enumerate(result.series, 1)]
    return TaskResult(tuple(objects), tuple(meshes), tuple(map(_row, result.measurements)), tuple(series))


def _encode(mesh: Mesh, surface: Surface, plugin: Plugin, parameters: Mapping[str, Any]) -> MeshFiles:
    from ray_plugins.outputs.common import parameter_texts
    from ray_plugins.outputs.encode import glb, stl, x3d

    provenance = {"plugin": f"{plugin.name} {plugin.version}", "parameters": ", ".join(parameter_texts(parameters))}
    return MeshFiles(
        surface.title,
        x3d(mesh, surface.title, surface.color, provenance),
        glb(mesh, surface.title, surface.color),
        stl(mesh),
        len(mesh.faces),
        mesh.bounds_mm,
    )


def _row(item: Measurement) -> dict[str, Any]:
    """Give a measurement as the API does: a number of four digits, as no measurement here is truer."""
    name = f"{item.segment}: {item.name}" if item.segment else item.name
    return {"name": name, "value": float(f"{item.value:.4g}"), "unit": item.unit}
