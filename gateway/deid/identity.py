"""What an object says of the people and places behind it, so that it can be found wherever else it says it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.deid.text import MASK, without_accents

_MIN_ID_CHARACTERS: Final = 4
#: From this length an identifier is found with any separators in it; `2500` must not be found in `2.500`.
_MIN_SPELT_CHARACTERS: Final = 6
_MIN_PHRASE_CHARACTERS: Final = 4
_MIN_NAME_CHARACTERS: Final = 3
#: From this length a name is found inside words too: in `DOEJANE`, in `sdoejane2`.
_MIN_INNER_CHARACTERS: Final = 4
#: What stands for nobody: values of our own, and of software that had nothing to say.
_NOBODY: Final = frozenset(
    "anonymized anonymised anonymous anon anonym deidentified removed unknown unspecified undefined none null nos "
    "nobody patient phantom test name".split()
)
_SPELT: Final = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "å": "aa", "æ": "ae"}
_SEPARATORS: Final = r"[\W_]{0,3}"
_JOINED: Final = re.compile(r"[\W_]+")
_BETWEEN: Final = b"\0 \t\r\n-_./\\^,:;=()[]"
_LOWER: Final = bytes(range(256)).lower()
#: Those of bytes that nobody declares.
_CHARACTER_SETS: Final = ("utf-8", "latin-1", "utf-16-le", "utf-16-be")
_DIGITS: Final = re.compile(r"\d+", re.ASCII)
_NAME_PARTS: Final = re.compile(r"[^\W\d_]+")


class Identity:
    """The identifying values of one object.

    Attributes
    ----------
    names : parts of person names, in lower case.
    numbers : identifiers, letters and digits alone, in lower case.
    phrases : other values that were taken out, such as an institution or an address.
    days : its dates, as YYYYMMDD, that are moved or taken out. They are looked for in what leaves, and mask nothing.
    uids : its UIDs that are replaced; so, too.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.numbers: set[str] = set()
        self.phrases: set[str] = set()
        self.days: set[str] = set()
        self.uids: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._digits: frozenset[str] = frozenset()
        self._needles: tuple[bytes, ...] = ()
        self._long_needles: tuple[bytes, ...] = ()

    def add_name(self, text: str) -> None:
        """Learn a PN value: its parts in every spelling, of all component groups."""
        for part in {*_NAME_PARTS.findall(text), *_NAME_PARTS.findall(_plain(text))}:
            if len(part) >= (_MIN_NAME_CHARACTERS if part.isascii() else 2) and part.lower() not in _NOBODY:
                self.names.add(part.lower())

    def add_number(self, text: str) -> None:
        """Learn an identifier, such as a Patient ID; one with letters alone may be a name."""
        bare = _JOINED.sub("", text).lower()
        if bare.isalpha():
            self.add_name(text)
        if len(bare) >= _MIN_ID_CHARACTERS and bare not in _NOBODY:
            self.numbers.add(bare)

    def add_phrase(self, text: str) -> None:
        """Learn another value that the profile takes out."""
        bare = " ".join(_JOINED.sub(" ", text).lower().split())
        if len(bare) >= _MIN_PHRASE_CHARACTERS and bare not in _NOBODY and not set(bare) <= set("x0 "):
            self.phrases.add(bare)

    def add(self, other: Identity) -> None:
        """Learn what another one holds."""
        self.names |= other.names
        self.numbers |= other.numbers
        self.phrases |= other.phrases
        self.days |= other.days
        self.uids |= other.uids

    @property
    def known(self) -> tuple[frozenset[str], ...]:
        """All that objects of one patient and day share, to compare with others: UIDs are of one object."""
        return frozenset(self.names), frozenset(self.numbers), frozenset(self.phrases), frozenset(self.days)

    @property
    def size(self) -> int:
        """How many characters it has."""
        return sum(map(len, (*self.names, *self.numbers, *self.phrases, *self.days, *self.uids)))

    def take_uids(self) -> set[str]:
        """Take the UIDs out, for what is left to be shared with other objects."""
        taken, self.uids = self.uids, set()
        return taken

    def freeze(self) -> None:
        """Learn no more: from now on `mask` and `is_in` know all of it."""
        self._pattern = _compiled(self.names, self.numbers, self.phrases)
        self._digits = frozenset(run.lstrip("0") for one in (*self.numbers, *self.days) for run in _DIGITS.findall(one))
        self._needles = _needles({*self.names, *self.numbers, *self.phrases, *_days_spelt(self.days)})
        self._long_needles = tuple(needle for needle in self._needles if not _may_be_numbers(needle))

    def is_in(self, text: str) -> bool:
        """Whether `text` holds any of it, with accents or without."""
        if self._pattern is None:
            return False
        return self._pattern.search(text) is not None or (
            not text.isascii() and self._pattern.search(without_accents(text)) is not None
        )

    def is_number(self, digits: str) -> bool:
        """Whether `digits`, without leading zeros, are an identifier, the digits of one, or a date."""
        return digits in self._digits

    def is_in_bytes(self, value: bytes, *, is_table: bool) -> bool:
        """Whether bytes hold any of it, in whatever character set, case and punctuation.

        In a table of numbers, fewer than six characters in a row are no name, and digits in order are steps of a ramp.
        """
        needles = self._long_needles if is_table else self._needles
        if not needles or len(value) < len(needles[0]):
            return False
        bare = _bare(value)
        most = len(bare)
        for needle in needles:  # the shortest first
            if len(needle) > most:
                break
            if needle in bare:
                return True
        return False

    def mask(self, text: str) -> str:
        """Return `text` with every word that holds any of it masked whole."""
        if self._pattern is None:
            return text
        masked = self._pattern.sub(MASK, text)
        if masked.isascii() or self._pattern.search(bare := without_accents(masked)) is None:
            return masked
        return self._pattern.sub(MASK, bare)


def _bare(value: bytes) -> bytes:
    """Bytes without what stands between characters, the NUL of UTF-16 among it, and without capitals."""
    return value.translate(_LOWER, _BETWEEN)


def _needles(texts: Iterable[str]) -> tuple[bytes, ...]:
    """What to look for in bare bytes."""
    spelt = {form for text in texts for form in (text, text.upper(), text.title())}
    needles = {_bare(form.encode(name, "ignore")) for form in spelt for name in _CHARACTER_SETS}
    return tuple(sorted((needle for needle in needles if len(needle) >= _MIN_ID_CHARACTERS), key=len))


def _days_spelt(days: Iterable[str]) -> Iterator[str]:
    for day in days:
        year, month, number = day[:4], day[4:6], day[6:]
        yield from (day, number + month + year, month + number + year)


def _may_be_numbers(needle: bytes) -> bool:
    ordered = bytes(sorted(needle))
    return len(needle) < _MIN_SPELT_CHARACTERS or needle in (ordered, ordered[::-1])


def _compiled(names: set[str], numbers: set[str], phrases: set[str]) -> re.Pattern[str] | None:
    """One pattern for all values."""
    inner = [re.escape(name) for name in names if len(name) >= _MIN_INNER_CHARACTERS or not name.isascii()]
    whole = [re.escape(name) for name in names if len(name) < _MIN_INNER_CHARACTERS and name.isascii()]
    spelt = [_SEPARATORS.join(number) for number in numbers if len(number) >= _MIN_SPELT_CHARACTERS]
    whole += [number for number in numbers if len(number) < _MIN_SPELT_CHARACTERS]
    phrase = [_SEPARATORS.join(map(re.escape, words.split())) for words in phrases]
    choices = [rf"(?<![^\W_])[^\W_]*(?:{_either(inner)})[^\W_]*"] if inner else []
    choices += [rf"(?<![^\W_])(?:{_either(whole + phrase)})(?![^\W_])"] if whole or phrase else []
    choices += [rf"(?<![^\W_])[^\W_]*(?:{_either(spelt)})[^\W_]*"] if spelt else []
    return re.compile("|".join(choices), re.IGNORECASE) if choices else None


def _either(patterns: Iterable[str]) -> str:
    return "|".join(sorted(patterns, key=lambda pattern: (-len(pattern), pattern)))


def _plain(text: str) -> str:
    """Return `text` without accents, and with the umlauts that German spells out."""
    spelt = "".join(_SPELT.get(character, character) for character in text.lower())
    return f"{spelt} {without_accents(text)} {unicodedata.normalize('NFKC', text)}"
