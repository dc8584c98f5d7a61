"""Structured reports as HTML and plain text (PS3.18 Table 8.7.4-1, category Text): the content tree of PS3.3 C.17.3.

A plain reading of what is in the tree, in its order; every text is escaped, and the HTML refers to nothing outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from dicomweb.pixels.functional_groups import first
from dicomweb.rendering.annotation import date, time

_MAX_DEPTH = 32
_MAX_ITEMS = 50_000
_UNTITLED = "Structured Report"
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1em}dt{color:#555}dd{margin:0}"
    "ul{padding-left:1.2em}b{font-weight:600}li.heading>b{font-size:1.1em}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One content item: how deep it lies, its concept name, its value; a heading has items below it."""

    depth: int
    name: str
    value: str
    is_heading: bool


def to_html(report: Dataset) -> bytes:
    """A complete HTML document in UTF-8."""
    title = escape(_title(report))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(report))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    pieces = [f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n<h1>{title}</h1>\n<dl>{facts}</dl>\n']
    depth = 0
    for line in _lines(report):
        pieces.append("<ul>" * (line.depth - depth) + "</ul>" * (depth - line.depth))
        depth = line.depth
        name = f"<b>{escape(line.name)}</b>" if line.name else ""
        value = escape(line.value).replace("\n", "<br>")
        style = ' class="heading"' if line.is_heading else ""
        pieces.append(f"<li{style}>{name}{': ' if name and value else ''}{value}</li>\n")
    pieces.append("</ul>" * depth + "</body></html>\n")
    return "".join(pieces).encode()


def to_text(report: Dataset) -> bytes:
    """The same as lines of plain text in UTF-8, indented by depth."""
    title = _title(report)
    lines = [title, "=" * len(title), *(f"{name}: {value}" for name, value in _facts(report)), ""]
    for line in _lines(report):
        indent = "  " * (line.depth - 1)
        text = ": ".join(filter(None, [line.name, line.value]))
        lines += [indent + part for part in text.split("\n")]
    return ("\n".join(lines) + "\n").encode()


def _title(report: Dataset) -> str:
    return _meaning(report.get("ConceptNameCodeSequence")) or _UNTITLED


def _facts(report: Dataset) -> Iterator[tuple[str, str]]:
    """What a reader must know before the content: whom and when it is about, and whether it is final."""
    when = " ".join(filter(None, [date(report.get("ContentDate")), time(report.get("ContentTime"))]))
    observers = report.get("VerifyingObserverSequence") or []
    found = [
        ("Patient", _name(report.get("PatientName"))),
        ("Patient ID", _text(report.get("PatientID"))),
        ("Born", date(report.get("PatientBirthDate"))),
        ("Study", " ".join(filter(None, [date(report.get("StudyDate")), _text(report.get("StudyDescription"))]))),
        ("Report", when),
        ("Completion", _text(report.get("CompletionFlag")).capitalize()),
        ("Verification", _text(report.get("VerificationFlag")).capitalize()),
        *(("Verified by", _name(one.get("VerifyingObserverName"))) for one in observers),
    ]
    return ((name, value) for name, value in found if value)


def _lines(report: Dataset) -> Iterator[Line]:
    """The content items below the root, depth first."""
    pending = [(1, item) for item in reversed(report.get("ContentSequence") or [])]
    for _ in range(_MAX_ITEMS):
        if not pending:
            return
        depth, item = pending.pop()
        below = list(item.get("ContentSequence") or []) if depth < _MAX_DEPTH else []
        yield Line(depth, _meaning(item.get("ConceptNameCodeSequence")), _value(item), bool(below))
        pending += [(depth + 1, one) for one in reversed(below)]
    if pending:
        yield Line(1, "", "The report goes on; retrieve it as DICOM to read all of it.", is_heading=False)


def _value(item: Dataset) -> str:
    if "ReferencedContentItemIdentifier" in item:
        return "see item " + ".".join(map(str, _many(item.ReferencedContentItemIdentifier)))
    read = _VALUES.get(_text(item.get("ValueType")))
    return read(item) if read else ""


def _number(item: Dataset) -> str:
    measured = first(item.get("MeasuredValueSequence"))
    if measured is None:
        return _meaning(item.get("NumericValueQualifierCodeSequence"))
    unit = first(measured.get("MeasurementUnitsCodeSequence"))
    code = _text(unit.get("CodeValue")) if unit is not None else ""
    return " ".join(filter(None, [_text(measured.get("NumericValue")), "" if code == "1" else code]))


def _reference(item: Dataset) -> str:
    sop = first(item.get("ReferencedSOPSequence"))
    if sop is None:
        return ""
    frames = ", ".join(map(str, _many(sop.get("ReferencedFrameNumber"))))
    name = UID(_text(sop.get("ReferencedSOPClassUID"))).name
    return name + (f", frame {frames}" if frames else "")


def _coordinates(item: Dataset) -> str:
    values = [f"{value:g}" for value in _many(item.get("GraphicData"))[:12]]
    more = " …" if len(_many(item.get("GraphicData"))) > len(values) else ""
    return f"{_text(item.get('GraphicType')).lower()} {', '.join(values)}{more}"


_VALUES: dict[str, Callable[[Dataset], str]] = {
    "TEXT": lambda item: _text(item.get("TextValue")),
    "CODE": lambda item: _meaning(item.get("ConceptCodeSequence")),
    "NUM": _number,
    "PNAME": lambda item: _name(item.get("PersonName")),
    "DATE": lambda item: date(item.get("Date")),
    "TIME": lambda item: time(item.get("Time")),
    "DATETIME": lambda item: _text(item.get("DateTime")),
    "UIDREF": lambda item: _text(item.get("UID")),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _coordinates,
    "SCOORD3D": _coordinates,
    "TCOORD": lambda item: _text(item.get("TemporalRangeType")).lower(),
}


def _meaning(sequence: Any) -> str:
    """The meaning of a code, or the code itself."""
    code = first(sequence)
    if code is None:
        return ""
    return _text(code.get("CodeMeaning")) or _text(code.get("CodeValue") or code.get("LongCodeValue"))


def _name(value: Any) -> str:
    text = next((group for group in _text(value).split("=") if group), "")
    return " ".join(part for part in text.split("^") if part)


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _text(value: Any) -> str:
    """Printable text of a value, its line breaks kept."""
    text = str("" if value is None else value).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(one for one in text if one.isprintable() or one == "\n").strip()
