"""Results of a run on their way in: DICOM objects to the archive, meshes to the object store, or nothing at all."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator

from dicomweb.errors import Gone, IsthmusError, NotFound
from dicomweb.ports import Archive
from gateway.jobs.meshes import MeshStore
from gateway.jobs.model import Output, Run, new_id
from gateway.jobs.queue import RunQueue
from gateway.store.objects import CHUNK_BYTES
from ray_plugins.task import DicomObject, DicomSeries, RunFailed, TaskResult

logger = logging.getLogger(__name__)

MAX_OUTPUTS = 100
MAX_MEASUREMENTS = 1_000


class Filing:
    """Files what runs made. What it is about to file is noted in the run first, so that it can always be taken back."""

    def __init__(self, queue: RunQueue, archive: Archive, meshes: MeshStore) -> None:
        self._queue = queue
        self._archive = archive
        self._meshes = meshes

    async def file(self, run: Run, result: TaskResult) -> list[Output]:
        """File everything; a run that fails here must be given to `take_back`.

        Raises
        ------
        RunFailed : the results cannot be kept, or the archive refuses an object.
        LeaseLost : the run is another dispatcher's; nothing was filed.
        """
        check(result)
        objects = [(_dicom_output(item), item) for item in result.objects]
        series = [(Output(item.kind, item.title, item.study_uid, item.series_uid), item) for item in result.series]
        meshes = [(_mesh_output(run, files.name, files.triangles), files) for files in result.meshes]
        outputs = [output for output, _ in (*series, *objects, *meshes)]
        await self._queue.stage(run, outputs)
        for output, files in meshes:
            await self._meshes.add(output, run, files)
        for _, images in series:
            for _, data in images.instances:
                await self._store(run, images, data)
        for _, item in objects:
            await self._store(run, item, item.data)
        return outputs

    async def _store(self, run: Run, item: DicomObject | DicomSeries, data: bytes) -> None:
        outcome = await self._archive.store(_chunks(data), study_uid=run.study_uid)
        if outcome.failure is not None:
            raise RunFailed(f"The archive refused the {item.kind.upper()} object {item.title!r}: {outcome.reason}")

    async def take_back(self, run: Run) -> None:
        """Remove whatever was filed of a run that did not succeed. Raises LeaseLost, Unavailable."""
        for output in await self._queue.staged(run):
            try:
                if output.mesh_id is not None:
                    await self._meshes.delete(output.mesh_id)
                else:
                    await self._archive.delete(output.resource)
            except (NotFound, Gone):
                continue  # it had not been stored yet
            except IsthmusError as exc:
                if exc.retryable:
                    raise
                logger.exception("run %s: its %s could not be taken back", run.id, output.kind)


def check(result: TaskResult) -> None:
    """Refuse results that the run's document could not hold, or that JSON could not say."""
    outputs = len(result.objects) + len(result.series) + len(result.meshes)
    if outputs > MAX_OUTPUTS or len(result.measurements) > MAX_MEASUREMENTS:
        raise RunFailed(f"A run may give at most {MAX_OUTPUTS} outputs and {MAX_MEASUREMENTS} measurements.")
    for measurement in result.measurements:
        if not math.isfinite(measurement["value"]):
            raise RunFailed(f"The plugin measured no number: {measurement['name']} is {measurement['value']}.")


def _dicom_output(item: DicomObject) -> Output:
    return Output(item.kind, item.title, item.study_uid, item.series_uid, item.instance_uid)


def _mesh_output(run: Run, title: str, triangles: int) -> Output:
    return Output("mesh", title, run.study_uid, run.series_uids[0], mesh_id=new_id(), triangles=triangles)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])
