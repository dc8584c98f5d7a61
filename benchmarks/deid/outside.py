"""What a running gateway keeps or says outside of objects while a made-up person is driven through it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.planting import drive


def search(folder: Path) -> dict[str, tuple[int, int]]:
    """Drive a person in by every way, at log level debug; tell of each sort of place how many there are and leak."""
    print("outside the objects: a gateway is driven", file=sys.stderr, flush=True)
    done, _ = drive(folder)
    searched = Counter(place.category for place in done.places)
    found = {(leak.category, leak.name) for leak in done.needles.leaks(done.places)}
    leaking = Counter(category for category, _ in found)
    return {category: (count, leaking[category]) for category, count in sorted(searched.items())}
