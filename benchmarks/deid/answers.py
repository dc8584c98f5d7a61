"""The answer key: what must be true of an object once it is de-identified, in the terms of the MIDI-B challenge.

An action names what is checked of one attribute (Rutherford et al., Sci Data 8:183, and the MIDI-B challenge of 2024):
`tag_retained`, `text_notnull`, `text_retained`, `text_removed`, `date_shifted`, `uid_changed`, `uid_consistent`,
`patid_consistent`, `pixels_hidden`, `pixels_retained`. The rules by which a check passes are those of its validator.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

#: Whether the rule protects people or keeps data useful: they are scored apart.
PRIVACY = ("text_removed", "date_shifted", "uid_changed", "pixels_hidden")
UTILITY = ("tag_retained", "text_notnull", "text_retained", "pixels_retained")
CONSISTENCY = ("uid_consistent", "patid_consistent")
_STOP_WORDS = frozenset(
    "a an and are as at be but by for from had has have he her his i if in is it its me my no nor not of on or our s "
    "she so t than that the their them then there these they this to too up was we were what when where which who will "
    "with you your".split()
)
_TOKEN = re.compile(
    r"[^\s" + re.escape(string.punctuation) + r"“”‘’•]+(?:[.'-][^\s" + re.escape(string.punctuation) + "]+)*"
)

#: Shorter words are initials and numbers of days, which are in any text.
_MAX_INITIAL = 2

#: One step of a path: a tag, or group, private creator and element; and, but at its end, the number of an item.
Step = tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """One check: the `action`, the text it is about, where the attribute lies, what it held, and what sort it is of."""

    action: str
    text: str
    path: tuple[Step, ...]
    value: str
    category: str
    box: tuple[int, int, int, int] | None = None

    @property
    def tag_ds(self) -> str:
        """The path as MIDI writes it: <(0008,1140)[<0>](0008,1155)>."""
        return "<" + "".join(map(_written, self.path)) + ">"

    @property
    def tag(self) -> str:
        """The last step of the path."""
        return f"<{_written(self.path[-1][:1])}>"


@dataclass
class Entry:
    """One object of the corpus: its file, what it is, whom it is about, and its answers."""

    file: str
    kind: str
    person: int
    study: str = ""
    instance_uid: str = ""
    answers: list[Answer] = field(default_factory=list)
    #: Strings that no byte of the output may spell, by kind; and original UIDs.
    needles: dict[str, str] = field(default_factory=dict)
    uids: list[str] = field(default_factory=list)
    #: Instances that it refers to.
    references: list[str] = field(default_factory=list)


def save(entries: Iterable[Entry], file: Path) -> None:
    """Write the key, an object a line."""
    lines = [json.dumps(asdict(entry), ensure_ascii=False) for entry in entries]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def midi_rows(entry: Entry) -> dict[str, dict[str, str]]:
    """The answers of an object as MIDI's validator keeps them, by number."""
    return {
        str(number): {
            "tag": answer.tag,
            "tag_ds": answer.tag_ds,
            "tag_name": f"<{_name(answer.path)}>",
            "value": f"<{answer.value}>",
            "action": f"<{answer.action}>",
            "action_text": f"<{answer.text}>",
            "answer_category_v2": answer.category,
        }
        for number, answer in enumerate(entry.answers)
    }


def _written(step: Step) -> str:
    where, *item = step
    if isinstance(where, int):
        text = f"({where >> 16:04x},{where & 0xFFFF:04x})"
    else:
        text = f'({where[0]:04x},"{where[1]}",{where[2]:02x})'
    return text + (f"[<{item[0]}>]" if item else "")


def _name(path: Sequence[Step]) -> str:
    where = path[-1][0]
    try:
        return dictionary_description(where) if isinstance(where, int) else "Private"
    except KeyError:
        return "Unknown"


def value_at(ds: Dataset, path: Sequence[Step]) -> str | None:
    """The value of an attribute as text, several joined by backslashes; None if it is not there."""
    for step in path[:-1]:
        sequence = _element(ds, step[0])
        items = sequence.value if sequence is not None and sequence.VR == "SQ" else None
        if not items or len(items) <= step[1]:
            return None
        ds = items[step[1]]
    element = _element(ds, path[-1][0])
    return None if element is None else text_of(element.value)


def _element(ds: Dataset, where: Any) -> Any:
    if isinstance(where, int):
        return ds.get(where)
    group, creator, number = where
    try:
        return ds.private_block(group, creator)[number]
    except KeyError:
        return None


def text_of(value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").rstrip("\0 ")
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(map(text_of, value))
    return str(value)


def passes(answer: Answer, value: str | None) -> bool:
    """Whether the outcome of an attribute is right, by MIDI's rules; not for consistency and pixels."""
    if answer.action == "tag_retained":
        return value is not None
    if answer.action == "text_notnull":
        return bool(value)
    if answer.action == "text_retained":
        return bool(value) and _holds(answer.text, value or "", every=True)
    if not value:
        return True
    if answer.action == "text_removed":
        return not _holds(answer.text, value, every=False)
    return answer.value.replace("\\", "") not in value.replace("\\", "")  # date_shifted, uid_changed


def _holds(text: str, value: str, *, every: bool) -> bool:
    """Whether `value` holds `text` or, else, its words: every one of them, or any."""
    text, value = text.lower(), value.lower()
    if _as_number(text) is not None:
        return _as_number(text) == _as_number(value) or text in value
    if text in value:
        return True
    words = [word for word in _TOKEN.findall(text) if len(word) > _MAX_INITIAL and word not in _STOP_WORDS]
    found = [word in value for word in words]
    return bool(words) and (all(found) if every else any(found))


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
