"""Clean Recognizable Visual Features (PS3.15 section E.3.2): volumes that show a head do not pass with their face.

Nobody looks at the pixels here: what is shown is told by what the object says, rules as data, `faces.toml`. One word
for a head outweighs all others, and what says nothing of what it shows may show a head. A face is taken off by a
plugin, or by whoever sent the object: it then says so in Recognizable Visual Features (0028,0302).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from gateway.deid.policy import Refusal
from gateway.deid.values import DEFAULT_ENCODINGS, encodings_of, read

OPTION: Final = "clean-recognizable-visual-features"
_RULES: Final = Path(__file__).parent / "faces.toml"
_CLASS_UID: Final = 0x00080016
_RECOGNIZABLE: Final = 0x00280302
_BODY_PART: Final = 0x00180015
#: Study and Series Description, Protocol Name, descriptions of the requested, performed and scheduled procedures.
_DESCRIPTIONS: Final = (0x00081030, 0x0008103E, 0x00181030, 0x00321060, 0x00400254, 0x00400007)
_REGION: Final = 0x00082218
_CODE_VALUE: Final = 0x00080100
#: Where multi-frame images keep the region: shared and per-frame groups, in Frame Anatomy.
_FUNCTIONAL_GROUPS: Final = (0x52009229, 0x52009230)
_FRAME_ANATOMY: Final = 0x00209071

_UNCLEAN: Final = (
    "run the plugin `deface` on a copy, or send one that says NO in Recognizable Visual Features (0028,0302)."
)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The content of faces.toml."""

    volumes: frozenset[str]
    faces: frozenset[str]
    codes: frozenset[str]
    head: re.Pattern[str]
    head_parts: tuple[str, ...]
    other: re.Pattern[str]


def check_face(ds: Dataset) -> bool:
    """Return whether an object says itself that it shows no face any more.

    Raises
    ------
    Refusal : if it shows a head, or may, and does not say that its face was taken off.
    """
    stated = read(ds, _RECOGNIZABLE).strip()
    if stated == "NO":
        return True
    rules = _rules()
    sop_class = read(ds, _CLASS_UID).strip()
    if stated == "YES" or sop_class in rules.faces:
        raise Refusal(f"The object shows a face: {_UNCLEAN}")
    if sop_class in rules.volumes and (reason := _may_show_head(ds, rules)):
        raise Refusal(f"{reason}: {_UNCLEAN}")
    return False


def _may_show_head(ds: Dataset, rules: _Rules) -> str:
    """Why a volume may show a head; empty if it says that it shows something else."""
    codes = {code for code in _region_codes(ds) if code}
    encodings = encodings_of(ds, DEFAULT_ENCODINGS)
    body_part = read(ds, _BODY_PART, encodings).lower()
    texts = [body_part, *(read(ds, tag, encodings).lower() for tag in _DESCRIPTIONS)]
    said = " ".join(" ".join(texts).replace("_", " ").split())
    if codes & rules.codes or rules.head.search(said) or any(part in body_part for part in rules.head_parts):
        return "The object shows a head, whose face can be rendered from it"
    if codes or rules.other.search(said):
        return ""
    return "The object does not say what part of the body it shows, which may be a head"


def _region_codes(ds: Dataset) -> Iterator[str]:
    """Codes of the anatomic regions of an object and of its frames."""
    yield from _codes(ds)
    for groups in _FUNCTIONAL_GROUPS:
        for frame in _items(ds, groups):
            for anatomy in _items(frame, _FRAME_ANATOMY):
                yield from _codes(anatomy)


def _codes(ds: Dataset) -> Iterator[str]:
    for region in _items(ds, _REGION):
        yield read(region, _CODE_VALUE).strip()


def _items(ds: Dataset, tag: int) -> list[Dataset]:
    """The items of a sequence; none if there is no such sequence."""
    if tag not in ds:
        return []
    element = ds[tag]
    return list(element.value or ()) if element.VR == "SQ" else []


@cache
def _rules() -> _Rules:
    content = tomllib.loads(_RULES.read_text(encoding="utf-8"))
    return _Rules(
        volumes=frozenset(content["volumes"]),
        faces=frozenset(content["faces"]),
        codes=frozenset(content["head_codes"]),
        head=_words(content["head_words"], content["head_whole"]),
        head_parts=tuple(content["head_words"]),
        other=_words(content["other_words"], content["other_whole"]),
    )


def _words(beginnings: list[str], whole: list[str]) -> re.Pattern[str]:
    """A pattern of words that begin in some ways, or are some; letters and digits need no space between them."""
    begin, be = ("|".join(map(re.escape, words)) for words in (beginnings, whole))
    return re.compile(rf"(?<![^\W\d_])(?:{begin}|(?:{be})(?![^\W\d_]))")
