"""What one run is: read the series, call the plugin, write its outputs. The same in a thread and in a Ray worker."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from ray_plugins.outputs import write
from ray_plugins.registry import Registry
from ray_plugins.sdk import Context, Event, Log, PluginError, Progress
from ray_plugins.task import RunFailed, Task, TaskResult
from ray_plugins.volume import read

MAX_LOG_LINES = 2000
MAX_LINE_CHARACTERS = 2000
PROGRESS_INTERVAL_S = 0.1

#: Part of the progress bar that reading, the plugin and writing take.
READING, RUNNING, WRITING = (0.0, 0.15), (0.15, 0.7), (0.7, 1.0)


class Reporter:
    """Passes events on, few enough that nobody downstream needs a limit of their own."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._lines = 0
        self._last_progress_s = 0.0

    def __call__(self, event: Event) -> None:
        """Pass an event on, or not."""
        if isinstance(event, Progress):
            now_s = time.monotonic()
            if event.fraction < 1 and now_s - self._last_progress_s < PROGRESS_INTERVAL_S:
                return
            self._last_progress_s = now_s
            self._report(event)
            return
        for line in event.text.splitlines():
            self._lines += 1
            if self._lines <= MAX_LOG_LINES:
                self._report(Log(line[:MAX_LINE_CHARACTERS]))
            elif self._lines == MAX_LOG_LINES + 1:
                self._report(Log(f"The log ends here: {MAX_LOG_LINES} lines are kept."))


def execute(task: Task, registry: Registry, context: Context) -> TaskResult:
    """Run a task to its end in this thread.

    Raises
    ------
    RunFailed : with one sentence; the traceback of a fault that nobody foresaw goes to the run's log.
    sdk.Cancelled : if the run was cancelled.
    """
    try:
        return _execute(task, registry, context)
    except PluginError as exc:
        raise RunFailed(str(exc)) from exc
    except MemoryError as exc:
        raise RunFailed("The run needs more memory than this machine has free.") from exc
    except Exception as exc:
        context.log("%s", traceback.format_exc())
        raise RunFailed(f"The plugin failed with {type(exc).__name__}; the run's log has the details.") from exc


def _execute(task: Task, registry: Registry, context: Context) -> TaskResult:
    plugin = registry.get(task.plugin)
    parameters = plugin.validate(task.parameters)
    context.progress(0, "Reading the series")
    volume = read(task.inputs, context.part(*READING))
    context.log("%s %s on %d slices of %d x %d", plugin.name, plugin.version, *volume.array.shape)
    context.progress(RUNNING[0], plugin.title)
    started_s = time.monotonic()
    result = plugin.function(volume, context.part(*RUNNING), **parameters)
    context.log("The plugin took %.1f s", time.monotonic() - started_s)
    written = write(task, plugin, parameters, volume, result, context.part(*WRITING))
    context.progress(1, "Done")
    return written
