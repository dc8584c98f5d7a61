"""`isthmus doctor`: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config import Settings
from gateway.errors import ConfigurationError
from gateway.store.mongod import find_binary
from gateway.wiring import VIEWER_DIST, VIEWER_OHIF, named_profiles


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; a check that is not `needed` only takes a feature away."""

    name: str
    works: bool
    needed: bool
    text: str


def checks(settings: Settings) -> Iterator[Check]:
    """Look at everything, one after the other."""
    yield _mongod(settings)
    yield _folder("viewer", VIEWER_DIST.is_dir(), "the web application is built", "build it: make viewer")
    yield _folder("OHIF", VIEWER_OHIF.is_dir(), "OHIF is here", "fetch it: make viewer")
    yield _module("ray", "plugins run on Ray", "pip install ray")
    yield _profiles(settings)
    yield _module(
        "rapidocr",
        "text in pictures is found and blanked",
        "pip install 'isthmus[ocr]'; suspect pictures are refused and overlays removed without it",
    )
    yield _module("cupy", "plugins use the GPU where there is one", "pip install 'isthmus[gpu]'; NumPy is used instead")
    free = shutil.disk_usage(settings.data.dir if settings.data.dir.exists() else ".").free
    yield Check("disk", free > 1 << 30, needed=True, text=f"{free / (1 << 30):.0f} GiB free for the data folder")


def _mongod(settings: Settings) -> Check:
    if settings.mongodb.uri:
        return Check("MongoDB", works=True, needed=True, text="mongodb.uri is set; the private mongod is not used")
    try:
        return Check("mongod", works=True, needed=True, text=str(find_binary(settings.mongodb)))
    except ConfigurationError as exc:
        return Check("mongod", works=False, needed=True, text=exc.message)


def _profiles(settings: Settings) -> Check:
    try:
        profiles = named_profiles(settings)
    except ConfigurationError as exc:
        return Check("profiles", works=False, needed=True, text=exc.message)
    return Check("profiles", works=True, needed=True, text=", ".join(profile.name for profile in profiles))


def _folder(name: str, works: bool, good: str, bad: str) -> Check:
    return Check(name, works, needed=False, text=good if works else bad)


def _module(name: str, good: str, bad: str) -> Check:
    works = importlib.util.find_spec(name) is not None
    return Check(name, works, needed=False, text=good if works else bad)
