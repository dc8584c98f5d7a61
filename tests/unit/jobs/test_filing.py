"""Results that a run's document could not hold are refused before anything is filed."""

import math

import pytest

from gateway.jobs.filing import MAX_MEASUREMENTS, MAX_OUTPUTS, check
from ray_plugins.task import DicomSeries, MeshFiles, RunFailed, TaskResult

MESH = MeshFiles("m", b"", b"", b"", 0, (0, 0, 0, 0, 0, 0))
SERIES = DicomSeries("images", "s", "1.2", "1.2.3", ())
VOLUME = {"name": "Volume", "value": 1.5, "unit": "mL"}


def test_results_within_the_limits_pass():
    check(TaskResult(meshes=(MESH,) * MAX_OUTPUTS, measurements=(VOLUME,) * MAX_MEASUREMENTS))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (TaskResult(meshes=(MESH,) * (MAX_OUTPUTS + 1)), "at most 100 outputs"),
        (TaskResult(meshes=(MESH,) * MAX_OUTPUTS, series=(SERIES,)), "at most 100 outputs"),
        (TaskResult(measurements=(VOLUME,) * (MAX_MEASUREMENTS + 1)), "1000 measurements"),
        (TaskResult(measurements=(VOLUME | {"value": math.nan},)), "Volume is nan"),
        (TaskResult(measurements=(VOLUME | {"value": math.inf},)), "Volume is inf"),
    ],
)
def test_others_are_refused_with_a_sentence(result, words):
    with pytest.raises(RunFailed, match=words):
        check(result)
