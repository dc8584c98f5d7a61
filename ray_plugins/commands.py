"""What `isthmus plugins` does: list, describe, run on a folder, test and begin plugins, without a server or Ray.

A plugin is named by its entry point, or by the path of a Python file that holds it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from ray_plugins.registry import BrokenPlugin, Registry
from ray_plugins.sdk import ParameterError, Plugin, PluginError, Progress
from ray_plugins.task import RunFailed, Task, TaskResult

DONE, FAILED, USAGE = 0, 1, 2

TEMPLATE = '''"""{title}: say here what it finds."""

from typing import Annotated

from ray_plugins.sdk import Accepts, Context, Param, Result, Segment, Volume, plugin


@plugin(name="{name}", title="{title}", version="0.1.0", accepts=Accepts("CT"))
def {identifier}(
    volume: Volume,
    context: Context,
    level: Annotated[int, Param(200, ge=-1000, le=3000, unit="HU", widget="slider", help="What is found is above it.")],
) -> Result:
    """Marks everything above a level."""
    mask = volume.array > level
    context.log("%d voxels", mask.sum())
    return (
        Result()
        .segmentation([Segment("Found", mask)])
        .measure("Volume", mask.sum() * volume.voxel_ml, "mL", segment="Found")
        .mesh("Found", mask)
    )
'''
TEMPLATE_TEST = """from {identifier} import {identifier}
from ray_plugins.testing import PluginContract


class TestContract(PluginContract):
    plugin = {identifier}
"""
TEMPLATE_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
dependencies = ["isthmus"]

[project.entry-points."isthmus.plugins"]
{name} = "{identifier}:{identifier}"

[tool.setuptools]
py-modules = ["{identifier}"]
"""


def run(
    action: str, name: str | None, series: Path | None, to: Path, assignments: Iterable[str], out: TextIO | None = None
) -> int:
    """Do one of list, describe, run, test, new, and give the exit code.

    Parameters
    ----------
    name : of a plugin, or the path of a file that holds one; the name of a new one.
    series : folder of DICOM files to run on. to : where results go, and where a new plugin's folder is made.
    assignments : parameters, NAME=VALUE.
    out : what is found goes there, standard output by default; faults go to standard error.
    """
    out = out or sys.stdout
    try:
        if action == "list":
            return _list(out)
        if not name:
            return _fail(f"Say which plugin: isthmus plugins {action} NAME.", USAGE)
        if action == "new":
            return _new(name, to, out)
        plugin = find(name)
        if action == "describe":
            print(json.dumps(plugin.manifest, indent=2, ensure_ascii=False), file=out)
            return DONE
        if action == "test":
            return _test(plugin, out)
        if series is None:
            return _fail("Say which series: --series DIR, a folder of DICOM files.", USAGE)
        return _run(plugin, series, to, assignments, out)
    except ParameterError as exc:
        return _fail(str(exc), USAGE)
    except (PluginError, RunFailed) as exc:
        return _fail(str(exc), FAILED)


def find(name: str) -> Plugin:
    """Give an installed plugin, or the one in a Python file."""
    if not name.endswith(".py"):
        return Registry().get(name)
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BrokenPlugin(f"There is no file {name}.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as exc:  # whatever a file under development does
        raise BrokenPlugin(f"{name} cannot be loaded: {type(exc).__name__}: {exc}.") from exc
    found = [value for value in vars(module).values() if isinstance(value, Plugin)]
    if len(found) != 1:
        raise BrokenPlugin(f"{name} must hold one function under @plugin; it holds {len(found)}.")
    return found[0]


def parse(plugin: Plugin, assignments: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE by the types of a plugin's parameters; what does not fit is left for `validate` to refuse."""
    parameters: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise ParameterError([f"Parameters are NAME=VALUE; {assignment!r} is not."])
        kind = plugin.schema["properties"].get(name, {}).get("type", "string")
        parameters[name] = text if kind == "string" else _json(text)
    return plugin.validate(parameters)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def save(result: TaskResult, folder: Path) -> list[Path]:
    """Write results into a folder and give their paths; each series of images has a folder of its own."""
    files: dict[str, bytes] = {f"{item.kind}.dcm": item.data for item in result.objects}
    for at, series in enumerate(result.series, 1):
        files |= {f"{series.kind}-{at}/{number:04}.dcm": data for number, (_, data) in enumerate(series.instances, 1)}
    for number, mesh in enumerate(result.meshes, 1):
        stem = "".join(letter if letter.isalnum() else "-" for letter in mesh.name.lower()) or f"mesh-{number}"
        files |= {f"{stem}.x3d": mesh.x3d, f"{stem}.glb": mesh.glb, f"{stem}.stl": mesh.stl}
    files["measurements.json"] = json.dumps(list(map(dict, result.measurements)), indent=2).encode()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def _list(out: TextIO) -> int:
    registry = Registry()
    for plugin in registry:
        print(f"{plugin.name:<20} {plugin.version:<10} {plugin.title}: {plugin.description}", file=out)
    for name, reason in registry.broken().items():
        print(f"{name:<20} BROKEN     {reason}", file=out)
    return DONE


def _run(plugin: Plugin, series: Path, to: Path, assignments: Iterable[str], out: TextIO) -> int:
    parameters = parse(plugin, assignments)
    uris = tuple(path.absolute().as_uri() for path in sorted(series.rglob("*")) if _is_dicom(path))
    if not uris:
        return _fail(f"There are no DICOM files in {series}.", USAGE)
    result = asyncio.run(_execute(plugin, parameters, uris))
    for row in result.measurements:
        print("{name}: {value:g} {unit}".format(**row), file=out)
    for path in dict.fromkeys(path if path.parent == to else path.parent for path in save(result, to)):
        print(path, file=out)
    return DONE


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


async def _execute(plugin: Plugin, parameters: Mapping[str, Any], uris: tuple[str, ...]) -> TaskResult:
    from ray_plugins.runner import LocalRunner
    from ray_plugins.testing import only

    async with LocalRunner(only(plugin)) as runner:
        handle = await runner.submit(Task("local", plugin.name, parameters, uris, seed="\0".join(uris)))
        async for event in handle:
            text = f"{event.fraction:4.0%} {event.text}" if isinstance(event, Progress) else f"     {event.text}"
            sys.stderr.write(f"{text}\n")
        return await handle.result()


def _test(plugin: Plugin, out: TextIO) -> int:
    """Run the contract without pytest, which an installation need not have."""
    from ray_plugins.testing import PluginContract

    suite = type("Contract", (PluginContract,), {"plugin": plugin})()
    failed = 0
    for name in sorted(member for member in dir(suite) if member.startswith("test_")):
        try:
            getattr(suite, name)()
            verdict = "ok     "
        except Exception as exc:  # noqa: BLE001 - a test fails in whatever way
            verdict = "FAILED "
            failed += 1
            sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        print(f"{verdict} {name.removeprefix('test_').replace('_', ' ')}", file=out)
    return FAILED if failed else DONE


def _new(name: str, to: Path, out: TextIO) -> int:
    """Make a folder with a plugin that works, its test and its project file."""
    words = name.split("-")
    if not all(word.isascii() and word.isalnum() and word == word.lower() for word in words) or words[0][0].isdigit():
        return _fail(f"A plugin's name is lower-case words joined by hyphens; {name!r} is not.", USAGE)
    identifier, folder = "_".join(words), to / name
    if folder.exists():
        return _fail(f"{folder} exists.", USAGE)
    folder.mkdir(parents=True)
    fields = {"name": name, "identifier": identifier, "title": " ".join(words).capitalize()}
    for file, template in (
        (f"{identifier}.py", TEMPLATE),
        (f"test_{identifier}.py", TEMPLATE_TEST),
        ("pyproject.toml", TEMPLATE_PROJECT),
    ):
        (folder / file).write_text(template.format(**fields), encoding="utf-8")
        print(folder / file, file=out)
    print(f"Install it with: pip install -e {folder}", file=out)
    return DONE


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code
