"""The Native DICOM Model (PS3.19 Annex A.1) read by plain ElementTree, and DICOM JSON in the same shape."""

import base64
import re
from typing import Any
from xml.etree import ElementTree as ET

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def read(document: bytes) -> dict[str, Any]:
    """A NativeDicomModel document as {tag: (vr, values)}."""
    root = ET.fromstring(document)
    assert root.tag == NAMESPACE + "NativeDicomModel", root.tag
    return _data_set(root)


def _data_set(parent: ET.Element) -> dict[str, Any]:
    found = {}
    for attribute in parent:
        assert attribute.tag == NAMESPACE + "DicomAttribute", attribute.tag
        tag = attribute.attrib["tag"]
        name = tag + attribute.get("privateCreator", "")
        assert name not in found
        if _is_private(tag) and "privateCreator" not in attribute.attrib:
            assert re.fullmatch("....00[1-F].", tag), "but the creators, every private element says whose it is"
            continue
        found[name] = (attribute.attrib["vr"], _values(attribute))
    return found


def _values(attribute: ET.Element) -> list[Any]:
    children = list(attribute)
    numbers = [int(one.attrib["number"]) for one in children if "number" in one.attrib]
    assert numbers == sorted(set(numbers))
    values: list[Any] = [None] * (numbers[-1] if numbers else 0)
    for child in children:
        kind = child.tag.removeprefix(NAMESPACE)
        if kind == "BulkData":
            return ["bulk", child.attrib["uri"]]
        if kind == "InlineBinary":
            return ["binary", base64.b64decode(child.text or "")]
        values[int(child.attrib["number"]) - 1] = _value(kind, child)
    return values


def _value(kind: str, child: ET.Element) -> Any:
    if kind == "Item":
        return _data_set(child)
    if kind == "PersonName":
        return {group.tag.removeprefix(NAMESPACE): _name(group) for group in child}
    assert kind == "Value", kind
    return child.text or None


def _name(group: ET.Element) -> str:
    parts = {one.tag.removeprefix(NAMESPACE): one.text or "" for one in group}
    return "^".join(parts.get(one, "") for one in _COMPONENTS).rstrip("^")


def of_json(item: dict[str, Any]) -> dict[str, Any]:
    """A DICOM JSON object in the same shape: private elements by block and creator (Table F.3.1-1)."""
    creators = {tag: one["Value"][0] for tag, one in item.items() if _is_private(tag) and tag[4:6] == "00"}
    found = {}
    for tag, one in item.items():
        creator = creators.get(f"{tag[:4]}00{tag[4:6]}") if _is_private(tag) else None
        if tag not in creators:
            found[f"{tag[:4]}00{tag[6:]}{creator}" if creator else tag] = (one["vr"], _json_values(one))
    return found


def _is_private(tag: str) -> bool:
    return int(tag[:4], 16) % 2 == 1


def _json_values(one: dict[str, Any]) -> list[Any]:
    if "BulkDataURI" in one:
        return ["bulk", one["BulkDataURI"]]
    if "InlineBinary" in one:
        return ["binary", base64.b64decode(one["InlineBinary"])]
    return [_json_value(one["vr"], value) for value in one.get("Value", [])]


def _json_value(vr: str, value: Any) -> Any:
    if value is None or value == "":
        return None
    if vr == "SQ":
        return of_json(value)
    if vr == "PN":
        return {group: name.rstrip("^") for group, name in value.items()}
    return _text(value)


def _text(value: Any) -> str:
    """A number as the shortest text, so that 5, 5.0 and "5" agree where they mean the same."""
    return repr(value) if isinstance(value, float) else str(value)
