"""Structured reports as text: everything is there, in order, and nothing can break out of the HTML."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.rendering.report import to_html, to_text


def code(meaning, value="X") -> Sequence:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, "99TEST", meaning
    return Sequence([ds])


def item(kind, name, *below, **values) -> Dataset:
    ds = Dataset()
    ds.ValueType, ds.ConceptNameCodeSequence = kind, code(name)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    if below:
        ds.ContentSequence = Sequence(below)
    return ds


def report(*below) -> Dataset:
    ds = item("CONTAINER", "Chest Report", *below)
    ds.PatientName, ds.PatientID, ds.VerificationFlag = "Quixote^Alonso", "MRN-4711", "VERIFIED"
    return ds


def measurement(value, unit) -> Sequence:
    ds = Dataset()
    ds.NumericValue, ds.MeasurementUnitsCodeSequence = value, code(unit, unit)
    return Sequence([ds])


REPORT = report(
    item(
        "CONTAINER",
        "Findings",
        item("TEXT", "Finding", TextValue="A nodule <here> & there"),
        item("NUM", "Diameter", MeasuredValueSequence=measurement("7.5", "mm")),
        item("CODE", "Side", ConceptCodeSequence=code("Left")),
    ),
    item("PNAME", "Observer", PersonName="Panza^Sancho"),
    item("DATE", "Next visit", Date="20270301"),
)


TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "dl", "dt", "dd", "ul", "li", "b", "br"}


class Words(HTMLParser):
    """Collects tags and text."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.depth = self.deepest = 0
        self.text = ""
        self.feed(document.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "ul":
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)

    def handle_endtag(self, tag):
        self.depth -= tag == "ul"

    def handle_data(self, data):
        self.text += data


def test_text():
    text = to_text(REPORT).decode()
    assert text.startswith("Chest Report\n============\nPatient: Quixote Alonso\n")
    lines = text.splitlines()
    start = lines.index("Findings")
    assert lines[start:] == [
        "Findings",
        "  Finding: A nodule <here> & there",
        "  Diameter: 7.5 mm",
        "  Side: Left",
        "Observer: Panza Sancho",
        "Next visit: 2027-03-01",
    ]


def test_html():
    words = Words(to_html(REPORT))
    assert "A nodule <here> & there" in words.text
    assert words.deepest == 2
    assert words.depth == 0
    assert "script" not in words.tags


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_breaks_out(name, value):
    words = Words(to_html(report(item("TEXT", name.replace("\\", ""), TextValue="<script>" + value))))
    assert set(words.tags) <= TAGS
    assert "<script>" in words.text


def test_deep_and_long_reports_end():
    nested = item("CONTAINER", "deepest")
    for _ in range(100):
        nested = item("CONTAINER", "level", nested)
    assert len(to_text(report(nested)).splitlines()) < 60
    assert to_text(report()).startswith(b"Chest Report")
    assert b"Structured Report" in to_html(Dataset())
