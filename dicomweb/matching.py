"""Values in the form in which they are compared (PS3.4 section C.2.2.2), and names as words for fuzzy matching.

Stored values and the values of a search go through the same functions, so two that mean the same are the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone

from doublemetaphone import doublemetaphone
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword

#: Longer values are compared by their beginning: index entries stay small.
MAX_CHARACTERS = 512
#: VRs whose values are numbers, however written.
NUMBERS = frozenset("DS FD FL IS SL SS SV UL US UV".split())

# Letters that carry a stroke or are joined, which Unicode does not decompose.
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_WORD = re.compile(r"[^\W_]+")
_MAX_WORDS = 32
#: Sounds of shorter words say too little.
_MIN_SOUNDED = 3
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})$")
_DATE_TIME = ("%Y", "%Y%m", "%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S")


def vr_of(path: Sequence[str]) -> str:
    """The VR that an attribute is compared by; LO for private and unknown ones, whose values are plain text."""
    tag = int(path[-1], 16)
    return dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO"


def time_of(date: str) -> str | None:
    """The tag of the time that belongs to a date, as StudyTime does to StudyDate; None if there is none."""
    keyword = keyword_for_tag(int(date, 16))
    time = tag_for_keyword(keyword.removesuffix("Date") + "Time") if keyword.endswith("Date") else None
    return f"{time:08X}" if time is not None and vr_of([date]) == "DA" and dictionary_VR(time) == "TM" else None


def canonical(vr: str, text: str) -> str:
    """A value, or a pattern, as it is compared.

    Person names are compared without regard to case and compatible forms (half-width katakana, full-width Latin), with
    padding around components and empty components at the end left out. Numbers are compared by value, dates and times
    without the separators of old, date-times in UTC where they have an offset. All other text counts as it is.
    """
    text = text.strip(" \0")[:MAX_CHARACTERS]
    if vr == "PN":
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        return "^".join(component.strip() for component in folded.split("^")).rstrip("^")
    if vr in NUMBERS:
        return _number(text)
    if vr == "DA":
        return text.replace(".", "").replace("-", "")
    if vr == "TM":
        return _fraction(text.replace(":", ""))
    if vr == "DT":
        return _fraction(_utc(text))
    return unicodedata.normalize("NFC", text)


def words(names: Iterable[str]) -> list[str]:
    """The words of person names without case and accents, and how they sound, each code after a tilde.

    Sounds are Double Metaphone codes (L. Philips, C/C++ Users Journal 18(6), 2000) of words in Latin script. One word
    has up to two, since many spellings may be spoken in two ways: Schmidt and Smith share one.
    """
    found = [word for name in names for word in _WORD.findall(folded(name))][:_MAX_WORDS]
    return list(dict.fromkeys([*found, *("~" + code for word in found for code in sounds(word))]))


def sounds(word: str) -> list[str]:
    """The codes of a folded word; none if it is short or not in Latin script."""
    if len(word) < _MIN_SOUNDED or not (word.isascii() and word.isalpha()):
        return []
    return [code for code in dict.fromkeys(doublemetaphone(word[:64])) if code]


def folded(text: str) -> str:
    """Text without case, accents and other marks."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold())
    return "".join(one for one in plain.translate(_LETTERS) if not unicodedata.combining(one))


def _number(text: str) -> str:
    """A number in one spelling: `7` for `+7`, `007` and `7.0` (PS3.4 leaves this open since CP-2305)."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(text)) if re.fullmatch(r"[+-]?\d+", text) else f"{number:.15g}"


def _fraction(text: str) -> str:
    """Without zeros that end a fraction of a second."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(text: str) -> str:
    """A date-time with an offset from UTC as one without, in UTC and as precise; others as they are."""
    found = _OFFSET.search(text)
    if found is None:
        return text
    moment, dot, fraction = text[: found.start()].partition(".")
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (1 if sign == "+" else -1)
    try:
        shape = _DATE_TIME[len(moment) // 2 - 2]
        local = datetime.strptime(moment, shape).replace(tzinfo=timezone(offset))
        return local.astimezone(UTC).strftime(shape) + dot + fraction
    except (ValueError, IndexError, OverflowError):
        return text
