"""Makes the names of new files durable: an fsync of their folder, shared by all who ask while one runs."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

#: Folders that are remembered; a new one is used each minute.
_MAX_KNOWN = 64


class DurableNames:
    """Syncs the minute folders of a store; the calls block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, _Folder] = {}

    def sync(self, minute: Path) -> None:
        """Make the entries of a minute folder durable and, the first time, those that lead to it.

        The first time is that of each process: a sibling may have made the folder and not synced it yet.
        """
        with self._lock:
            folder = self._folders.get(minute)
            if folder is None:
                if len(self._folders) >= _MAX_KNOWN:
                    self._folders.clear()
                folder = self._folders[minute] = _Folder(minute)
        folder.sync()


class _Folder:
    """One minute folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._running = threading.Lock()
        self._numbers = itertools.count(1)
        self._served = 0  # who has a lower number
        self._reachable = False

    def sync(self) -> None:
        """Return when an fsync has ended that began after this was called."""
        number = next(self._numbers)
        with self._running:
            if number < self._served:
                return
            served = next(self._numbers)
            sync_folder(self._path)
            if not self._reachable:
                sync_folder(self._path.parent)
                sync_folder(self._path.parent.parent)
                self._reachable = True
            self._served = served


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
