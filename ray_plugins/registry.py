"""Which plugins are installed: entry points of the group `isthmus.plugins`, each loaded when first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points

from ray_plugins.sdk import Plugin, PluginError

GROUP = "isthmus.plugins"


class UnknownPlugin(PluginError):
    """No plugin of this name is installed."""


class BrokenPlugin(PluginError):
    """A plugin is installed but cannot be loaded."""


class Registry:
    """The installed plugins. Names are known without importing any of them.

    Loading a plugin imports its module, which by convention imports nothing heavy at module level: the web server
    needs the manifest only. A plugin that cannot be loaded is no fault of the others.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        found = entry_points(group=GROUP) if points is None else points
        self._points = {point.name: point for point in found}
        self._loaded: dict[str, Plugin] = {}

    def names(self) -> list[str]:
        """Names of all plugins, ascending."""
        return sorted(self._points.keys() | self._loaded.keys())

    def get(self, name: str) -> Plugin:
        """Load a plugin.

        Raises
        ------
        UnknownPlugin, BrokenPlugin : with one sentence.
        """
        if name not in self._loaded:
            if name not in self._points:
                raise UnknownPlugin(f"There is no plugin {name}; installed are: {', '.join(self.names()) or 'none'}.")
            self._loaded[name] = _load(self._points[name])
        return self._loaded[name]

    def add(self, plugin: Plugin) -> None:
        """Add a plugin that is not installed: a file under development, a test."""
        self._loaded[plugin.name] = plugin

    def __iter__(self) -> Iterator[Plugin]:
        """Iterate over the plugins that can be loaded, by name."""
        for name in self.names():
            try:
                yield self.get(name)
            except BrokenPlugin:
                continue

    def broken(self) -> dict[str, str]:
        """Name -> reason of the plugins that cannot be loaded."""
        reasons = {}
        for name in self.names():
            try:
                self.get(name)
            except BrokenPlugin as exc:
                reasons[name] = str(exc)
        return reasons


def _load(point: EntryPoint) -> Plugin:
    try:
        loaded = point.load()
    except Exception as exc:  # whatever a third party's module does at import
        raise BrokenPlugin(f"Plugin {point.name} cannot be loaded from {point.value}: {exc}.") from exc
    if not isinstance(loaded, Plugin):
        raise BrokenPlugin(f"Plugin {point.name}: {point.value} is not a function under @plugin.")
    if loaded.name != point.name:
        raise BrokenPlugin(f"Plugin {point.name}: its own name is {loaded.name}; the entry point must bear the same.")
    return loaded
