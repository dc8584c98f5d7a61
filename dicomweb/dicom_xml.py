"""The Native DICOM Model (PS3.19 Annex A) as XML, converted from and to DICOM JSON (PS3.18 section F.3.1).

Lenient in what it reads: with or without the namespace, values with or without their number, keywords ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.sax.saxutils import escape, quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.valuerep import VR

from dicomweb.dicom_json import value_from_text
from dicomweb.errors import BadRequest, TooLarge
from dicomweb.ports import JsonDataSet

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_DOCUMENT_BYTES = 64 << 20
_MAX_ELEMENTS = 1_000_000  # an enhanced CT of 2,000 frames has some 400,000
_MAX_DEPTH = 200  # two elements for each level of sequences
_MAX_GAP = 64  # numbers may leave out empty values, but not make a document of bytes a list of gigabytes

_HEAD = f'<?xml version="1.0" encoding="utf-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_VRS = frozenset(str(vr) for vr in VR if len(vr) == 2)
_TAG = re.compile(r"[0-9A-Fa-f]{8}\Z")
# XML 1.0 section 2.2 has no way to write these, not even as a reference.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_xml(item: JsonDataSet) -> bytes:
    """One `NativeDicomModel` document in UTF-8. Characters that XML cannot hold become U+FFFD."""
    pieces = [_HEAD, *_data_set(item), "</NativeDicomModel>"]
    return "".join(pieces).encode("utf-8")


def from_xml(document: bytes) -> JsonDataSet:
    """Read one `NativeDicomModel` document.

    Raises
    ------
    BadRequest : it is not well-formed, has a DTD, or is no Native DICOM Model.
    TooLarge : it is larger or has more elements than any metadata.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise TooLarge("The XML document is too large.")
    parser = DefusedXMLParser(target=_BoundedTree(), forbid_dtd=True)
    try:
        parser.feed(document)
        root: Element = parser.close()
    except DefusedXmlException as exc:
        raise BadRequest("The XML document may not have a DTD or entities.") from exc
    except (ParseError, LookupError, ValueError) as exc:  # an unknown encoding is a LookupError
        raise BadRequest("The XML document is not well-formed.") from exc
    if _name(root) != "NativeDicomModel":
        raise BadRequest("The XML document is no NativeDicomModel.")
    return _read_data_set(root)


class _BoundedTree(TreeBuilder):
    """Builds the tree of a document that is neither too deep nor too long."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._elements = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        """An element begins."""
        self._depth += 1
        self._elements += 1
        if self._depth > _MAX_DEPTH:
            raise BadRequest("The XML document is nested too deep.")
        if self._elements > _MAX_ELEMENTS:
            raise TooLarge("The XML document has too many elements.")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """An element ends."""
        self._depth -= 1
        return super().end(tag)


# Writing ------------------------------------------------------------------------------------------------------------


def _data_set(item: JsonDataSet) -> Iterator[str]:
    creators = _creators(item)
    for tag, element in sorted(item.items()):
        yield f"<DicomAttribute{_attributes(tag, element['vr'], creators)}>"
        yield from _content(element)
        yield "</DicomAttribute>"


def _attributes(tag: str, vr: str, creators: dict[str, str]) -> str:
    """Tag, VR, and keyword or private creator (PS3.19 Table A.1.5-2, PS3.18 Table F.3.1-1)."""
    creator = creators.get(tag[:6])
    if creator is not None and tag[4:6] != "00":
        # The block number means nothing without its creator: gggg00ee, but where one creator has two blocks.
        alone = sum(tag[:4] == block[:4] and creator == other for block, other in creators.items()) == 1
        number = f"{tag[:4]}00{tag[6:]}" if alone else tag
        return f' tag="{number}" vr="{vr}" privateCreator={_quoted(creator)}'
    keyword = keyword_for_tag(int(tag, 16))
    return f' tag="{tag}" vr="{vr}"' + (f' keyword="{keyword}"' if keyword else "")


def _creators(item: JsonDataSet) -> dict[str, str]:
    """Private creators of a data set by the first six digits of the tags in their block (PS3.5 section 7.8.1)."""
    found: dict[str, str] = {}
    for tag, element in item.items():
        if int(tag[3], 16) % 2 and tag[4:6] == "00" and tag[6] != "0":
            value = (element.get("Value") or [None])[0]
            if isinstance(value, str) and value:
                found[tag[:4] + tag[6:]] = value
    return found


def _content(element: dict[str, Any]) -> Iterator[str]:
    if "InlineBinary" in element:
        yield f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    elif "BulkDataURI" in element:
        yield f"<BulkData uri={_quoted(element['BulkDataURI'])}/>"
    else:
        for number, value in enumerate(element.get("Value", ()), start=1):
            yield from _value(element["vr"], number, value)


def _value(vr: str, number: int, value: Any) -> Iterator[str]:
    if vr == "SQ":
        yield f'<Item number="{number}">'
        yield from _data_set(value or {})
        yield "</Item>"
    elif vr == "PN":
        groups = [(group, value[group]) for group in _GROUPS if group in (value or {})]
        names = "".join(f"<{group}>{_components(name)}</{group}>" for group, name in groups)
        yield f'<PersonName number="{number}">{names}</PersonName>'
    elif value is None:
        yield f'<Value number="{number}"/>'
    else:
        yield f'<Value number="{number}">{_escaped(str(value))}</Value>'


def _components(name: str) -> str:
    parts = zip(_COMPONENTS, name.split("^", len(_COMPONENTS) - 1), strict=False)
    return "".join(f"<{component}>{_escaped(part)}</{component}>" for component, part in parts if part)


def _escaped(text: str) -> str:
    # A reader turns a bare carriage return into a line feed (XML 1.0 section 2.11).
    return escape(_ILLEGAL.sub("\ufffd", text), {"\r": "&#13;"})


def _quoted(text: str) -> str:
    return quoteattr(_ILLEGAL.sub("\ufffd", text))


# Reading ------------------------------------------------------------------------------------------------------------


def _read_data_set(parent: Element) -> JsonDataSet:
    found: JsonDataSet = {}
    private: list[tuple[str, str, dict[str, Any]]] = []
    for child in _children(parent, "DicomAttribute"):
        tag, element = child.get("tag", ""), _read_element(child)
        if not _TAG.match(tag):
            raise BadRequest("A DicomAttribute has no valid tag.")
        tag, creator = tag.upper(), child.get("privateCreator")
        if creator and int(tag[3], 16) % 2:
            private.append((tag, creator, element))
        else:
            _add(found, tag, element)
    for tag, creator, element in private:  # now that all blocks are known that the document itself reserves
        _add(found, _block(found, tag, creator) + tag[6:], element)
    return dict(sorted(found.items()))


def _add(found: JsonDataSet, tag: str, element: dict[str, Any]) -> None:
    if tag in found:
        raise BadRequest("An attribute is given more than once.")
    found[tag] = element


def _block(found: JsonDataSet, tag: str, creator: str) -> str:
    """The first six digits of the tags in a creator's block, which is reserved if it was not (PS3.5 section 7.8.1)."""
    known = _creators(found)
    if known.get(tag[:6]) == creator:
        return tag[:6]
    for block, other in known.items():
        if block[:4] == tag[:4] and other == creator:
            return block
    free = next((number for number in range(0x10, 0x100) if f"{tag[:4]}00{number:02X}" not in found), None)
    if free is None:
        raise BadRequest("A group has more private creators than there are blocks.")
    found[f"{tag[:4]}00{free:02X}"] = {"vr": "LO", "Value": [creator]}
    return f"{tag[:4]}{free:02X}"


def _read_element(element: Element) -> dict[str, Any]:
    vr = element.get("vr") or _look_up(element.get("tag", ""))
    if vr not in _VRS:
        raise BadRequest("A DicomAttribute has no valid VR.")
    for child in element:
        if _name(child) == "InlineBinary":
            return {"vr": vr, "InlineBinary": "".join((child.text or "").split())}
        if _name(child) == "BulkData":
            uri = child.get("uri")
            if not uri:
                raise BadRequest("A BulkData element has no uri.")
            return {"vr": vr, "BulkDataURI": uri}
    values = _read_values(vr, element)
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _look_up(tag: str) -> str:
    try:
        return dictionary_VR(int(tag, 16))
    except (KeyError, ValueError):
        return ""


def _read_values(vr: str, element: Element) -> list[Any]:
    """The values in the order of their numbers, `null` (an empty item) where a number is left out."""
    kind = {"SQ": "Item", "PN": "PersonName"}.get(vr, "Value")
    children = _children(element, kind)
    values: list[Any] = []
    for child in children:
        number = _number(child, len(values) + 1, len(children) + _MAX_GAP)
        values += [{} if vr == "SQ" else None] * (number - len(values))
        values[number - 1] = _read_value(vr, child)
    return values


def _number(child: Element, following: int, largest: int) -> int:
    text = child.get("number", str(following))
    number = int(text) if re.fullmatch("0{0,9}[1-9][0-9]{0,8}", text) else 0
    if not 1 <= number <= largest:
        raise BadRequest("The number of a value is not valid.")
    return number


def _read_value(vr: str, element: Element) -> Any:
    if vr == "SQ":
        return _read_data_set(element)
    if vr == "PN":
        groups = {_name(group).replace("SingleByte", "Alphabetic"): _read_name(group) for group in element}
        return {group: groups[group] for group in _GROUPS if groups.get(group)} or None
    return value_from_text(vr, element.text or "")


def _read_name(group: Element) -> str:
    parts = {_name(component): component.text or "" for component in group}
    return "^".join(parts.get(component, "") for component in _COMPONENTS).rstrip("^")


def _children(parent: Element, name: str) -> Sequence[Element]:
    return [child for child in parent if _name(child) == name]


def _name(element: Element) -> str:
    """The name without its namespace."""
    return element.tag.rpartition("}")[2]
