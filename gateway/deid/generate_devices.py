"""Regenerate `devices.json`, where devices write on pictures: `python -m gateway.deid.generate_devices deid.dicom`.

The source is the recipe `deid/data/deid.dicom` of deid 0.4.13 (MIT, Vanessa Sochat and others), which tells of most of
its places that they are those of the RSNA's Clinical Trial Processor. Facts alone are taken: what a device is told by,
and rectangles. Labels without rectangles, and those told by what may hold identity, such as a description, are not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
_SOURCE = {
    "table": "Where devices write on pictures: [left, top, right, bottom] in pixels, right and bottom exclusive",
    "sources": ["deid 0.4.13, deid/data/deid.dicom (MIT), most of it after the Clinical Trial Processor of the RSNA"],
}
#: How conditions are named here; the source misspells one.
_CONDITIONS = {
    "Modality": "modality",
    "Manufacturer": "manufacturer",
    "Manfacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "ImageType": "image_type",
    "BurnedInAnnotation": "burned_in",
    "Rows": "rows",
    "Columns": "columns",
}
_NUMBERS = frozenset({"rows", "columns"})
#: What the source means by them no object says.
_NO_MODALITIES = frozenset({"MRI", "OTHER", "PET/CT"})
_TEST = re.compile(r"(?:contains|equals) (\w+) (.+)")
_PLACE = re.compile(r"(ctp)?coordinates (\d+),\s*(\d+),\s*(\d+),\s*(\d+)")


def devices(recipe: str) -> list[dict[str, list[object]]]:
    """Devices as conditions, all of which must hold by one of their values, and their regions; none twice."""
    found: list[dict[str, list[object]]] = []
    for label in recipe.split("%filter blacklist")[0].split("LABEL ")[1:]:
        device = _device([line.strip(" +") for line in label.splitlines()[1:]])
        if device is not None and device not in found:
            found.append(device)
    return sorted(found, key=json.dumps)


def _device(lines: list[str]) -> dict[str, list[object]] | None:
    """One label; None if it has no region, or if a condition cannot be looked at."""
    device: dict[str, list[object]] = {}
    for line in lines:
        if line.startswith(("contains", "equals", "missing", "present", "empty")):
            known = list(_known(line))
            if not known:
                return None
            for name, values in known:
                device.setdefault(name, []).extend(value for value in values if value not in device.get(name, []))
    regions = [_region(*match.groups()) for match in map(_PLACE.match, lines) if match]
    is_said = set(device) & {"manufacturer", "model"} and not _NO_MODALITIES & set(device.get("modality", []))
    return device | {"regions": [list(region) for region in regions]} if regions and is_said else None


def _known(line: str) -> Iterator[tuple[str, list[object]]]:
    """Those alternatives of a condition that can be looked at, each with its values."""
    for alternative in line.split("||"):
        match = _TEST.fullmatch(alternative.strip())
        if match is not None and match[1] in _CONDITIONS:
            name = _CONDITIONS[match[1]]
            values = [value.strip() for value in match[2].split("|")]
            yield name, [int(value) for value in values] if name in _NUMBERS else [value.upper() for value in values]


def _region(is_sized: str | None, *numbers: str) -> tuple[int, int, int, int]:
    """A rectangle; the source gives two corners, or one and a size."""
    left, top, third, fourth = map(int, numbers)
    return (left, top, left + third, top + fourth) if is_sized else (left, top, third, fourth)


def main(source: Path) -> None:
    """Write `devices.json`."""
    rows = devices(source.read_text(encoding="utf-8"))
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps(_SOURCE, indent=1).removesuffix("\n}")
    (HERE / "devices.json").write_text(f'{head},\n "devices": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
