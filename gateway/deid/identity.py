"""What an object says of the people and places behind it, so that it can be found wherever else it says it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from gateway.deid.text import MASK

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
_NAME_PARTS: Final = re.compile(r"[^\W\d_]+")


class Identity:
    """The identifying values of one object.

    Attributes
    ----------
    names : parts of person names, in lower case.
    numbers : identifiers, letters and digits alone, in lower case.
    phrases : other values that were taken out, such as an institution or an address.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.numbers: set[str] = set()
        self.phrases: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

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

    @property
    def known(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """All of it, to compare with others."""
        return frozenset(self.names), frozenset(self.numbers), frozenset(self.phrases)

    @property
    def size(self) -> int:
        """How many characters it has."""
        return sum(map(len, (*self.names, *self.numbers, *self.phrases)))

    def freeze(self) -> None:
        """Learn no more: from now on `mask` and `is_in` know all of it."""
        self._pattern = _compiled(self.names, self.numbers, self.phrases)

    def is_in(self, text: str) -> bool:
        """Whether `text` holds any of it."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def mask(self, text: str) -> str:
        """Return `text` with every word that holds any of it masked whole."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text


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
    bare = unicodedata.normalize("NFKD", text)
    return f"{spelt} {''.join(character for character in bare if not unicodedata.combining(character))}"
