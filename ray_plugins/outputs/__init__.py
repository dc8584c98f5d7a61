"""Turns a plugin's result into files: DICOM SEG and SR objects, and meshes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_plugins.sdk import Context, Plugin, Result, Volume
from ray_plugins.task import Task, TaskResult


def write(
    task: Task, plugin: Plugin, parameters: Mapping[str, Any], volume: Volume, result: Result, context: Context
) -> TaskResult:
    """Write everything that a plugin gave."""
    context.check_cancelled()
    rows = [{"name": item.name, "value": item.value, "unit": item.unit} for item in result.measurements]
    return TaskResult(measurements=tuple(rows))
