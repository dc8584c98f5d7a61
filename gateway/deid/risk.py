"""How likely a picture shows identity, and where it is known to: rules as data, `pixel_rules.toml`."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from gateway.deid.ocr import Box

_RULES: Final = Path(__file__).parent / "pixel_rules.toml"
#: Made by `generate_devices`, which names its source.
_DEVICES: Final = Path(__file__).parent / "devices.json"
_CONDITIONS: Final = {
    "sop_class": "SOPClassUID",
    "burned_in": "BurnedInAnnotation",
    "conversion_type": "ConversionType",
    "image_type": "ImageType",
    "modality": "Modality",
    "bits_allocated": "BitsAllocated",
}
#: Of these it counts whether they have a value, not which.
_PRESENT: Final = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
#: What devices are told by besides: text by how a word of it begins, numbers as they are.
_TEXTS: Final = {"manufacturer": "Manufacturer", "model": "ManufacturerModelName"}
_NUMBERS: Final = {"rows": "Rows", "columns": "Columns"}
#: What tells the risk, and which device a picture is of.
DECIDING: Final = frozenset(
    tag for tag in map(tag_for_keyword, [*_CONDITIONS.values(), *_TEXTS.values(), *_NUMBERS.values()]) if tag
)
PRESENT: Final = frozenset(tag for tag in map(tag_for_keyword, _PRESENT) if tag)
_ULTRASOUND_REGION: Final = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


class Risk(StrEnum):
    """How likely text about a person is in the pixels; `pixel_rules.toml` says what follows."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is known of a picture before anyone looks at it.

    Attributes
    ----------
    risk : how likely it shows identity.
    blank : where it shows identity, or may.
    keep : if any, everything outside these is no part of the examination itself.
    """

    risk: Risk
    blank: tuple[Box, ...] = ()
    keep: tuple[Box, ...] = ()


def assess(ds: Dataset) -> Assessment:
    """Assess a picture by its header."""
    rules = _rules()
    risk = next((Risk(rule["risk"]) for rule in rules["rule"] if _holds(rule, ds)), Risk.HIGH)
    if risk is Risk.NONE:
        return Assessment(risk)
    blank = tuple(Box(*region) for device in rules["device"] if _is(device, ds) for region in device["regions"])
    return Assessment(risk, blank, _ultrasound_regions(ds))


@cache
def _rules() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    content = tomllib.loads(_RULES.read_text(encoding="utf-8"))
    listed = json.loads(_DEVICES.read_text(encoding="utf-8"))["devices"]
    return {"rule": content["rule"], "device": [*content["device"], *listed]}


def _holds(rule: Mapping[str, Any], ds: Dataset) -> bool:
    return all(ds.get(keyword) not in (None, "") for keyword in rule.get("has", ())) and all(
        set(rule[name]) & _values(ds, keyword) for name, keyword in _CONDITIONS.items() if name in rule
    )


def _is(device: Mapping[str, Any], ds: Dataset) -> bool:
    """Whether all conditions of a device hold, each by one of its values."""
    return (
        all(ds.get(keyword) in device[name] for name, keyword in _NUMBERS.items() if name in device)
        and all(_begins(device[name], ds, keyword) for name, keyword in _TEXTS.items() if name in device)
        and all(_begins(device[name], ds, keyword) for name, keyword in _CONDITIONS.items() if name in device)
    )


def _begins(wanted: Sequence[str], ds: Dataset, keyword: str) -> bool:
    """Whether one of these is in a value from the beginning of a word on."""
    words = re.compile("|".join(rf"(?<![A-Z0-9]){re.escape(one.upper())}" for one in wanted))
    return any(words.search(value) is not None for value in _values(ds, keyword))


def _values(ds: Dataset, keyword: str) -> set[str]:
    value = ds.get(keyword)
    values = [value] if value is None or isinstance(value, str | int) else value
    return {str(one).strip().upper() for one in values if one is not None}


def _ultrasound_regions(ds: Dataset) -> tuple[Box, ...]:
    """The calibrated regions of an ultrasound picture (PS3.3 section C.8.5.5); none if one lies outside of it.

    Software that crops or shrinks a picture leaves the regions as they were: then nothing in them can be believed.
    """
    regions: list[Box] = []
    for item in ds.get("SequenceOfUltrasoundRegions") or ():
        left, top, right, bottom = (item.get(keyword) for keyword in _ULTRASOUND_REGION)
        if not all(isinstance(edge, int) for edge in (left, top, right, bottom)):
            return ()
        if not (0 <= left < right <= ds.Columns and 0 <= top < bottom <= ds.Rows):
            return ()
        regions.append(Box(left, top, right + 1, bottom + 1))
    return tuple(regions)
