"""What a profile would do to an object, element by element, for people to look at before they trust it.

The rows hold the identity of the original: they are for the terminal of whoever has the file, never for a log.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicomweb.errors import NotDicom
from gateway.deid.engine import Deidentifier
from gateway.deid.plan import STRINGS
from gateway.deid.risk import Risk, assess
from gateway.deid.stamps import state_clean_pixels
from gateway.deid.values import DEFAULT_ENCODINGS, encodings_of, text_of

_MAX_CHARACTERS: Final = 200
#: What is set whatever the plan says of it.
_SET: Final = {
    0x00100010: "pseudonym",
    0x00100020: "pseudonym",
    **dict.fromkeys((0x00080005, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303), "stated"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One element: where it is, what is done with it, its value before and after; None where there is none."""

    path: str
    keyword: str
    action: str
    before: str | None
    after: str | None


def preview(file: Path, profile_name: str, key: bytes, directory: Path | None = None) -> list[Row]:
    """Compare the header of a DICOM file with what a profile makes of it; the file is not changed.

    Raises
    ------
    NotDicom : if the file is none.
    Refusal : if the profile would refuse the object.
    """
    try:
        ds = dcmread(file, stop_before_pixels=True)
    except InvalidDicomError:
        raise NotDicom(f"{file} is not a DICOM file.") from None
    return compare(ds, Deidentifier.load(profile_name, key, directory))


def compare(ds: Dataset, deidentifier: Deidentifier) -> list[Row]:
    """Compare a header with its de-identified copy; `ds` itself is not changed.

    A picture that would be looked at is taken for clean: here is none.
    """
    result = copy.deepcopy(ds)
    is_suspect = deidentifier.cleans_pixels and assess(ds).risk in (Risk.HIGH, Risk.MEDIUM) and "Rows" in ds
    if is_suspect:
        state_clean_pixels(result)
    deidentifier.apply(result)
    rows = list(_rows(ds, result, deidentifier, "", DEFAULT_ENCODINGS))
    return [*rows, Row("(7FE0,0010)", "PixelData", "searched", None, "text in it is blanked")] if is_suspect else rows


def _rows(
    before: Dataset, after: Dataset, deidentifier: Deidentifier, prefix: str, encodings: tuple[str, ...]
) -> Iterator[Row]:
    encodings = encodings_of(before, encodings)
    for tag in sorted({*before.keys(), *after.keys()}):
        path, keyword = f"{prefix}({tag >> 16:04X},{tag & 0xFFFF:04X})", keyword_for_tag(tag)
        old, new = _text(before, tag, encodings), _text(after, tag, ("utf8",))
        items = _items(before, tag), _items(after, tag)
        if new is None:
            yield Row(path, keyword, "removed", old, None)
        elif items[0] and len(items[0]) == len(items[1]) and tag not in _SET:
            for number, pair in enumerate(zip(*items, strict=True), start=1):
                yield from _rows(*pair, deidentifier, f"{path}[{number}].", encodings)
        elif old is None:
            yield Row(path, keyword, "added", None, new)
        else:
            action = _SET.get(tag) or str(deidentifier.plan.resolve(tag, before[tag].VR)[0])
            yield Row(path, keyword, "kept" if old == new else action, old, new)


def _items(ds: Dataset, tag: int) -> list[Dataset]:
    return list(ds[tag].value or ()) if tag in ds and ds[tag].VR == "SQ" else []


def _text(ds: Dataset, tag: int, encodings: tuple[str, ...]) -> str | None:
    """Return a value as text; binary and items by their size alone."""
    element = ds.get_item(tag)
    if element is None:
        return None
    raw, decoded = element, ds[tag]
    if decoded.VR == "SQ":
        return f"{len(decoded.value or ())} items"
    if isinstance(decoded.value, bytes):
        return f"{len(decoded.value)} bytes"
    text = text_of(raw, encodings, decoded.VR) if decoded.VR in STRINGS else str(decoded.value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
