"""Clean Descriptors (PS3.15 E.3.5): free text keeps the words of radiology and loses everything else.

An allow-list, because nobody can list all names: a word stays if DICOM's dictionaries or terms.txt know it, a number if
it is too short to identify, a word with digits only if all its letters are known and its digits few. What remains of a
masked stretch is `***`. Cleaning what is clean changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

MASK: Final = "***"
HERE: Final = Path(__file__).parent
_CACHED: Final = 16_384
_MAX_CACHED_CHARACTERS: Final = 256
#: A bound on the time that one value can take; LT ends at 10,240 characters.
_MAX_CHARACTERS: Final = 16_384

_MONTH: Final = r"(?:jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-zä]{0,6}\.?"
_UID: Final = re.compile(r"(?<![\w.])(?:[0-2](?:\.\d+){5,}|2\.25\.\d{20,39})(?!\.?\w)", re.ASCII)
_PATTERNS: Final = re.compile(
    rf"""
      \b(?:https?|ftp|file)://\S+ | \bwww\.\S+                             # addresses on the web
    | (?<![\w.+-])[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}})+        # electronic mail
    | (?<!\d)\d{{1,4}}\s?[-/.]\s?\d{{1,2}}\s?[-/.]\s?\d{{2,4}}(?!\d)       # 12/03/47, 3.12.1947
    | (?<!\w)\d{{1,2}}(?:st|nd|rd|th|\.)?[\s-]*{_MONTH}[\s,-]*\d{{2,4}}(?!\w)     # 12 March 1947, 12MAR47
    | (?<!\w){_MONTH}[\s-]*\d{{1,2}}(?:st|nd|rd|th)?[\s,-]+\d{{2,4}}(?!\w)        # March 12th, 1947
    | (?<!\w)(?:[0-9a-f]{{2}}[:-]){{5}}[0-9a-f]{{2}}(?!\w)                  # the address of a network card
    | (?:&\#x?[0-9a-f]{{1,7}};?)+ | (?:%[0-9a-f]{{2}}){{2,}}                 # letters as HTML and URLs escape them
    | (?<!\w)[a-z](?:[\W_]{{1,3}}[a-z](?![a-z\d])){{3,}}                    # letters that spell a word
    | (?<!\w)\d(?:[\W_]{{1,3}}\d(?!\w)){{5,}}                               # digits that spell a number
    | (?<![\d.])\d{{1,3}}(?:\.\d{{1,3}}){{2}}\.\d{{2,3}}(?![\d.])          # an IPv4 address, not a version
    | (?P<run>\+?\(?\d{{2,4}}\)?(?:[\s./-]{{1,2}}\(?\d{{2,4}}\)?){{2,}})       # telephone and social security numbers
    | (?<![\w-])[a-z]{{1,3}}-\d{{3,4}}-[a-z]{{1,3}}(?![\w-])                    # the plate of a car
    | (?<!\w)(?:9\d|1[0-2]\d)[\s-]*(?:y/o|yo|yrs?|years?|jahre?|y)(?!\w)   # ages over 89
    | (?<!\w)(?:aged?|alter)[\W_]{{1,3}}(?:9\d|1[0-2]\d)
      (?!\.?\d|[\s-]*(?:m|mo|mths?|months?|w|wks?|weeks?|d|days?)(?!\w))
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
#: Fewer digits than this in a row of numbers are no telephone number but, say, a matrix.
_MIN_RUN_DIGITS: Final = 7
_CHUNK: Final = re.compile(r"[^\s\\^=,;|\"<>/()\[\]]+")
_PART: Final = re.compile(r"[^\W_]+")
_PRODUCT: Final = re.compile(r"\d{1,4}(?:[xX]\d{1,4}){1,2}", re.ASCII)
_RUN: Final = re.compile(r"[^\W\d_]+|\d+")
_CAMEL: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
#: 2000 passes: it is a b-value, and JPEG's.
_YEAR: Final = re.compile(r"19\d\d|20(?!00)[0-4]\d", re.ASCII)
_MASKS: Final = re.compile(r"\*{3}(?:[\s^.,;:/_=()-]*\*{3})+|\*{4,}")
#: Read forwards and backwards: initials stand before and behind names.
_INITIALS: Final = re.compile(r"\*{3}(?:[\s,.^]{1,3}[^\W\d_]\b\.?)+")
_SIGNS: Final = frozenset("°±×÷§©®€£¥≤≥≈≠→←Ω")
_MAX_DIGITS: Final = 4
_MAX_DIGITS_MIXED: Final = 3
_MIN_WORD_CHARACTERS: Final = 4
_MAX_DIGITS_DECIMAL: Final = 6


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that descriptors may keep, in lower case without accents."""
    lines = (HERE / "terms.txt").read_text(encoding="utf-8").splitlines()
    kept = {word for line in lines if not line.startswith("#") for word in line.split()}
    return frozenset(kept | set((HERE / "vocabulary.txt").read_text(encoding="ascii").split()))


@cache
def _eponyms() -> str:
    """A pattern of the terms of eponyms.txt."""
    lines = (HERE / "eponyms.txt").read_text(encoding="ascii").splitlines()
    pairs = (line.split(":") for line in lines if line and not line.startswith("#"))
    terms = (rf"{names.replace(' ', '[ -]')}(?:'?s)?[ -](?:{'|'.join(nouns.split())})" for names, nouns in pairs)
    return rf"(?<!\w)(?i:{'|'.join(terms)})(?!\w)"


class Cleaner:
    """Cleans descriptors. `map_uid` replaces the UIDs that occur in text, so that references in it still hold."""

    def __init__(self, map_uid: Callable[[str], str]) -> None:
        self._map_uid = map_uid
        self._words = vocabulary()
        self._kept = re.compile(rf"(?P<uid>{_UID.pattern})|{_eponyms()}", re.ASCII)
        self._cached = lru_cache(_CACHED)(self._clean)

    def __call__(self, text: str) -> str:
        """Return `text` with everything that is not vocabulary masked; of very long text nothing is kept."""
        if len(text) > _MAX_CHARACTERS:
            return MASK
        return self._cached(text) if len(text) <= _MAX_CACHED_CHARACTERS else self._clean(text)

    def with_mapped_uids(self, text: str) -> str:
        """Return `text` with its UIDs replaced and the rest as it is."""
        return _UID.sub(lambda match: self._map_uid(match.group()), text) if text.count(".") > 1 else text

    def knows(self, text: str) -> bool:
        """Whether nothing in `text` would be masked."""
        return MASK not in text and self(text) == text

    def _clean(self, text: str) -> str:
        """Clean until nothing changes: a mask may leave a neighbour that only now stands out."""
        while (cleaned := self._pass(text)) != text:
            text = cleaned
        return text

    def _pass(self, text: str) -> str:
        pieces, start = [], 0
        for match in self._kept.finditer(text):  # a mapped UID is a long number: it must not meet the patterns
            kept = match.group() if match["uid"] is None else self._map_uid(match["uid"])
            pieces += [self._clean_around(text[start : match.start()]), kept]
            start = match.end()
        return tidy("".join([*pieces, self._clean_around(text[start:])]))

    def _clean_around(self, text: str) -> str:
        return _CHUNK.sub(self._chunk, _PATTERNS.sub(_mask_pattern, text)) if text else text

    def _chunk(self, match: re.Match[str]) -> str:
        """Mask a stretch without separators whole if one word or number of it is unknown: identifiers have parts."""
        chunk = match.group()
        plain = without_accents(chunk)
        if (
            MASK not in chunk
            and all(self._is_known(part, plain) for part in _PART.finditer(plain))
            and (chunk.isascii() or not any(map(_is_strange, plain)))
        ):
            return chunk
        return MASK

    def _is_known(self, part: re.Match[str], chunk: str) -> bool:
        token = part.group()
        if token.isalpha():
            return (len(token) == 1 and token.isascii()) or self._is_word(token)
        if not token.isascii():
            return False
        if token.lower() in self._words:
            return True
        return _is_harmless_number(part, chunk) if token.isdigit() else self._is_harmless_mixture(token)

    def _is_harmless_mixture(self, token: str) -> bool:
        """Whether a word with digits is one of physics, such as b1000, T2W, TE120, 512x512 or Image0001."""
        if _PRODUCT.fullmatch(token):
            return True
        runs = _RUN.findall(token)
        letters, numbers = [run for run in runs if not run.isdigit()], [run for run in runs if run.isdigit()]
        if not all(len(run) == 1 or self._is_word(run) for run in letters):
            return False
        shortest = min(map(len, letters))
        if shortest < _MIN_WORD_CHARACTERS and any(len(run) > 2 and run.startswith("0") for run in numbers):
            return False
        most = _MAX_DIGITS if shortest > 1 or letters in (["b"], ["B"]) else _MAX_DIGITS_MIXED
        return sum(map(len, numbers)) <= most and not any(map(_YEAR.fullmatch, numbers))

    def _is_word(self, token: str) -> bool:
        if token.lower() in self._words:
            return True
        humps = _CAMEL.findall(token)
        return (
            len(humps) > 1 and "".join(humps) == token and all(len(h) > 2 and h.lower() in self._words for h in humps)
        )


def tidy(text: str) -> str:
    """Join neighbouring masks, and take in the initials beside them."""
    if MASK not in text:
        return text
    text = _INITIALS.sub(MASK, _INITIALS.sub(MASK, text)[::-1])[::-1]
    return _MASKS.sub(MASK, text)


def _is_harmless_number(part: re.Match[str], chunk: str) -> bool:
    """Whether a number is too short to identify anyone and no year."""
    before, after = chunk[: part.start()], chunk[part.end() :]
    if re.search(r"\d\.\Z", before) or re.match(r"\.\d", after):  # one side of a decimal point
        digits = sum(character.isdigit() for character in chunk)
        return len(part.group()) <= _MAX_DIGITS and digits <= _MAX_DIGITS_DECIMAL
    return len(part.group()) <= _MAX_DIGITS and not _YEAR.fullmatch(part.group())


def _mask_pattern(match: re.Match[str]) -> str:
    run = match["run"]
    if run and sum(character.isdigit() for character in run) < _MIN_RUN_DIGITS:
        return run
    return MASK


def without_accents(text: str) -> str:
    """Return `text` with plain letters: without accents, ligatures and other forms of them."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("µ", "u"))
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", bare)


def _is_strange(character: str) -> bool:
    """Whether a character is neither letter, digit nor punctuation: emblems may stand for letters."""
    return not character.isascii() and character not in _SIGNS and unicodedata.category(character)[0] in "MSC"
