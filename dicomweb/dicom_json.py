"""DICOM data sets as DICOM JSON (PS3.18 Annex F), and the bulk data values that the JSON refers to.

Works on what pydicom has read but not yet decoded, and leaves the data set as it was: a CT header takes a millisecond.
Lenient by design: a value that breaks the rules of its VR becomes a string or InlineBinary, never an exception.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.hooks import raw_element_vr

from dicomweb.errors import NotFound
from dicomweb.ports import JsonDataSet

JsonElement = dict[str, Any]

#: Binary values up to this size are wanted with the metadata, since images cannot be shown without them.
DISPLAY_BYTES = 256 << 10
#: Other binary values are wanted with the metadata up to this size.
BULK_BYTES = 16 << 10

_BINARY = frozenset("OB OD OF OL OV OW UN".split())
_TEXT = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_ONE_VALUE = frozenset("LT ST UR UT".split())  # a backslash is a character in these (PS3.5 Table 6.2-1)
_LEADING_SPACE_COUNTS = frozenset("LT ST UC UT LO SH PN".split())
_STRUCT = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
# Palettes and segmented palettes, ICC excepted; LUT Data; overlays are group 60xx.
_ENCODED = _TEXT | _BINARY | _STRUCT.keys() | {"AT"}  # all VRs but SQ
_DISPLAY = frozenset([0x00281201, 0x00281202, 0x00281203, 0x00281204, 0x00281221, 0x00281222, 0x00281223, 0x00283006])
_ENCAPSULATED_DOCUMENT = 0x00420011
_CHARACTER_SET = 0x00080005
_PIXELS = {"OB": "7FE00010", "OW": "7FE00010", "OF": "7FE00008", "OD": "7FE00009"}
_NOT_DATA_SET = (0x0000, 0x0002)  # groups of command elements and of file meta information
_NOT_HEADER = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010, 0xFFFCFFFC])  # pixels; data set trailing padding
ESCAPE_GB_2312 = "\x1b$)A"  # which pydicom 3.0 leaves in what it decodes (ISO 2022 IR 58)
_TEXT_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C}  # after these the character set is the first again (PS3.5 6.1.2.5.3)


def encode(ds: Dataset, *, bulk_bytes: int = BULK_BYTES, pixel_vr: str | None = None) -> JsonDataSet:
    """Encode a whole header.

    Parameters
    ----------
    ds : header, of which nothing is changed; file meta, group lengths and pixel data in it are left out. Binary
        values must be little endian.
    bulk_bytes : longer binary values, and encapsulated documents always, become a BulkDataURI. Palettes, LUTs and
        overlays stay inline up to `DISPLAY_BYTES`.
    pixel_vr : VR of the pixel data that the instance has beside `ds`: it is added as a BulkDataURI.

    Returns
    -------
    JSON-ready mapping with ascending keys, text in ISO_IR 192. A BulkDataURI is relative to the instance's bulkdata
    resource: `00420011`, or `0040A730/4/00700022` for the fifth item of a sequence (items count from 0, as in JSON).
    """
    encoded = _Encoder(bulk_bytes).data_set(ds, "")
    if any(item["vr"] in _TEXT for item in encoded.values()):
        encoded["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    if pixel_vr is not None:
        encoded |= pixel_data(pixel_vr)
    return dict(sorted(encoded.items()))


def pixel_data(vr: str) -> JsonDataSet:
    """The element of pixel data of this VR that an instance has beside its header."""
    tag = _PIXELS[vr]
    return {tag: {"vr": vr, "BulkDataURI": tag}}


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON; what cannot be encoded in UTF-8 becomes question marks."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def bulk_value(ds: Dataset, path: str) -> bytes:
    """The bytes of the value that `encode` called `path`; raise NotFound if there is none."""
    *steps, last = path.upper().split("/")
    try:
        for sequence, index in zip(steps[::2], steps[1::2], strict=True):
            ds = ds[int(sequence, 16)].value[int(index)]
        value = ds[int(last, 16)].value
    except (KeyError, IndexError, ValueError, TypeError, OverflowError):
        value = None
    if not isinstance(value, bytes):
        raise NotFound("The instance has no such bulk data.")
    return value


class _Encoder:
    """Encodes data sets, nested ones included."""

    def __init__(self, bulk_bytes: int) -> None:
        self._bulk_bytes = bulk_bytes

    def data_set(self, ds: Dataset, path: str) -> JsonDataSet:
        """Encode the elements of a data set or item whose tags come after `path`."""
        encoded: JsonDataSet = {}
        for tag in sorted(ds.keys()):
            if tag >> 16 not in _NOT_DATA_SET and tag & 0xFFFF and (path or tag not in _NOT_HEADER):
                name = f"{tag:08X}"
                encoded[name] = self._element(ds.get_item(tag), ds, path + name)
        return encoded

    def _element(self, element: DataElement | RawDataElement, ds: Dataset, path: str) -> dict[str, Any]:
        vr, value = _read(element, ds)
        if value and vr == "SQ":
            return {"vr": vr, "Value": [self.data_set(item, f"{path}/{n}/") for n, item in enumerate(value)]}
        return _shaped(element.tag, vr, value, path, self._bulk_bytes)


def encode_value(tag: int, vr: str, value: bytes, encodings: Sequence[str], path: str) -> JsonElement:
    """Encode one encoded value.

    Parameters
    ----------
    tag, vr : of the element; the VR is any but SQ.
    value : little endian, as it is in a file.
    encodings : the Python codecs of its text.
    path : as in the BulkDataURI that `encode` would give it.
    """
    return _shaped(tag, *_decoded(vr, value, encodings, "<"), path, BULK_BYTES)


def _shaped(tag: int, vr: str, value: Any, path: str, bulk_bytes: int) -> JsonElement:
    """An element of VR and value as `_read` gives them."""
    if not value:
        return {"vr": vr}
    if isinstance(value, bytes):
        return {"vr": vr} | _binary(tag, value, path, bulk_bytes)
    if tag == _CHARACTER_SET:
        return {"vr": vr, "Value": ["ISO_IR 192"]}
    convert = _TO_JSON.get(vr)
    return {"vr": vr, "Value": [convert(one) for one in value] if convert else value}


def _binary(tag: int, value: bytes, path: str, bulk_bytes: int) -> dict[str, str]:
    needed_for_display = tag in _DISPLAY or (tag >> 24 == 0x60 and tag & 0xFFFF == 0x3000)
    limit = DISPLAY_BYTES if needed_for_display else bulk_bytes
    if len(value) > limit or tag == _ENCAPSULATED_DOCUMENT:
        return {"BulkDataURI": path}
    return {"InlineBinary": base64.b64encode(value).decode("ascii")}


def _read(element: DataElement | RawDataElement, ds: Dataset) -> tuple[str, Any]:
    """VR and value of an element: a list of strings or numbers, bytes, or items; something false if it is empty."""
    if not isinstance(element, RawDataElement):
        return _plain(element, ds)
    value = element.value or b""
    vr = element.VR
    if vr is None or vr == "UN":
        vr = _look_up(element, ds)
    if vr in _ENCODED:
        return _decoded(vr, value, _encodings(ds), "<" if element.is_little_endian else ">")
    try:
        return _plain(convert_raw_data_element(element, encoding=_encodings(ds), ds=ds), ds)
    except Exception:  # noqa: BLE001 - pydicom raises anything on a broken sequence; its bytes are then all there is
        return "UN", value


def _decoded(vr: str, value: bytes, encodings: Sequence[str], order: str) -> tuple[str, Any]:
    """VR and value of an encoded element of a VR in `_ENCODED`; the VR is another if the value does not fit it."""
    if vr in _TEXT:
        return vr, _split(vr, _text(value, encodings))
    if vr in _BINARY:
        return vr, value
    return _numbers(vr, value, order)


def _look_up(element: RawDataElement, ds: Dataset) -> str:
    """The VR by the dictionary, where the file tells none."""
    found: dict[str, str] = {}
    try:
        raw_element_vr(element, found, ds=ds)
    except KeyError:  # an unknown private element
        return "UN"
    return _definite(found["VR"], ds)


def _definite(vr: str, ds: Dataset) -> str:
    """One VR where the dictionary allows several (PS3.5 Annex A.1)."""
    if " or " not in vr:
        return vr
    if vr.endswith("OW"):
        return "OW"
    return "SS" if ds.get("PixelRepresentation") == 1 else "US"


def _plain(element: DataElement, ds: Dataset) -> tuple[str, Any]:
    """VR and value of an element that pydicom has decoded or that was set by a program."""
    vr, value = _definite(str(element.VR), ds), element.value
    if value is None or isinstance(value, bytes):
        return (vr if vr in _BINARY or not value else "UN"), value
    if vr == "SQ":
        return vr, value
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if vr == "AT":
        return vr, [f"{int(one):08X}" for one in values]
    if vr in _STRUCT:
        return vr, [one for one in values if one is not None and one != ""]
    texts = ["" if one is None else str(one) for one in values]
    return vr, texts if any(texts) else None


def _numbers(vr: str, value: bytes, order: str) -> tuple[str, Any]:
    """Binary numbers, or tags; as unknown bytes if the length does not fit."""
    size = 4 if vr == "AT" else struct.calcsize(_STRUCT[vr])
    if len(value) % size:
        return "UN", value
    if vr == "AT":
        words = struct.unpack(f"{order}{len(value) // 2}H", value)
        return vr, [f"{group:04X}{number:04X}" for group, number in zip(words[::2], words[1::2], strict=True)]
    return vr, list(struct.unpack(f"{order}{len(value) // size}{_STRUCT[vr]}", value))


def _encodings(ds: Dataset) -> list[str]:
    """The Python codecs of a data set's undecoded text."""
    # Not public in pydicom, but the only thing that knows what an item inherits; Dataset.__getitem__ does the same.
    found: Any = ds.original_character_set or ds._character_set or default_encoding
    return [found] if isinstance(found, str) else list(found)


def _text(value: bytes, encodings: Sequence[str]) -> str:
    if is_plain(value):
        return value.decode("ascii")
    try:
        if b"\x1b" not in value:
            return value.decode(encodings[0])
        return decode_bytes(value, list(encodings), _TEXT_DELIMITERS).replace(ESCAPE_GB_2312, "")
    except LookupError:
        return value.decode(convert_encodings("ISO_IR 192")[0], "replace")
    except UnicodeError:
        return value.decode(encodings[0], "replace")


def is_plain(value: bytes) -> bool:
    """Whether text means the same in every character set (PS3.5 section 6.1.2): ASCII that escapes to no other."""
    return value.isascii() and b"\x1b" not in value


def _split(vr: str, text: str) -> list[str] | None:
    """Values without padding; None if there is nothing but padding."""
    values = [text] if vr in _ONE_VALUE else text.split("\\")
    if vr in _LEADING_SPACE_COUNTS:
        values = [value.rstrip(" \0") for value in values]
    else:
        values = [value.strip(" \0") for value in values]
    return values if any(values) else None


def _integer(text: str) -> int | str | None:
    try:
        return int(text) if len(text) <= 16 else text
    except ValueError:
        return text or None


def _decimal(text: str) -> float | int | str | None:
    try:
        number = float(text)
    except ValueError:
        return text or None
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _real(number: float) -> float | str:
    """A finite number, or the name that `Number()` in JavaScript and `float()` in Python read back: JSON has none."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _person(text: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group.strip() for name, group in groups if group.strip()} or None


def _string(text: str) -> str | None:
    return text or None


_TO_JSON: dict[str, Callable[[Any], Any]] = dict.fromkeys(_TEXT, _string) | {
    "DS": _decimal,
    "FD": _real,
    "FL": _real,
    "IS": _integer,
    "PN": _person,
}
_INTEGERS = frozenset("SL SS SV UL US UV".split())
_REALS = frozenset(["FD", "FL"])


def value_from_text(vr: str, text: str) -> Any:
    """One value as JSON holds it, from its text in XML; `null` if it is empty. What is no number stays a string."""
    text = text.rstrip(" \0") if vr in _LEADING_SPACE_COUNTS else text.strip(" \0\t\r\n")
    try:
        if vr in _INTEGERS:
            return int(text) if text else None
        if vr in _REALS:
            return _real(float(text)) if text else None
    except ValueError:
        return text
    return _TO_JSON.get(vr, _string)(text)
