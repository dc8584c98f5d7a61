"""What a running gateway keeps or says outside of objects while a made-up person is driven through it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from ray_plugins.session import short_folder
from tests import leaks
from tests.conftest import running
from tests.leaks import Place
from tests.planting import Drive


def search(folder: Path) -> dict[str, tuple[int, int]]:
    """Drive a person in by every way, at log level debug; tell of each sort of place how many there are and leak."""
    settings = {
        "ISTHMUS_LOG__LEVEL": "debug",
        "ISTHMUS_QUARANTINE__DIR": str(folder / "data" / "quarantine"),
    }
    print("outside the objects: a gateway is driven", file=sys.stderr, flush=True)
    with running(folder, **settings) as gateway:
        drive = Drive(gateway, folder)
        with drive.waiting_bulk_data():
            drive.everything()
            drive.places += leaks.processes(gateway.process.pid)
            drive.places += leaks.folder(gateway.data, "files while it runs", without="mongo")
            drive.places += leaks.folder(short_folder(gateway.data / "ray"), "Ray")
        drive.places += leaks.database(leaks.internal_user(gateway.data))
    drive.places += leaks.folder(gateway.data, "files")
    drive.places.append(Place("log", "standard error", gateway.log.read_bytes()))
    searched = Counter(place.category for place in drive.places)
    found = {(leak.category, leak.name) for leak in drive.needles.leaks(drive.places)}
    leaking = Counter(category for category, _ in found)
    return {category: (count, leaking[category]) for category, count in sorted(searched.items())}
