"""Made-up patients, and every spelling of who they are that is planted in objects. None of them exists."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass, field
from datetime import date

COUNT = 30
_ONSETS = "v z k t br dr gr tr l m n r s f kv zl pr".split()
_VOWELS = "a e i o u au ei".split()
_CODAS = "k x rk lm nd sk rv z lt mp".split()
#: Names outside ASCII, with the Specific Character Set that they are written in (PS3.3 C.12.1.1.2): invented, too.
FOREIGN = (
    ("\\ISO 2022 IR 87", "Kurotsuru^Minemori", "黒鶴^峰森", "くろつる^みねもり"),
    ("\\ISO 2022 IR 149", "Nokbyeol^Haneuri", "綠별^하늬리", "녹별^하늬리"),
    ("GB18030", "Zhuoyun^Lingxue", "卓云^凌雪", ""),
    ("ISO_IR 144", "Вздорожкин^Евлогий", "", ""),
    ("ISO_IR 126", "Μαυρολύκης^Ζηνόδοτος", "", ""),
)
_ACCENTED = ("Grzyvöll^Sørlise", "Kröhnfäld^Zoémire")
_MONTHS = "January February March April May June July August September October November December".split()


@dataclass(frozen=True)
class Person:
    """One patient.

    Attributes
    ----------
    name : PN value with all of its component groups.
    charset : Specific Character Set in which objects about the patient are written.
    mrns : patient IDs; some patients have two.
    born : birth date.
    places : what else identifies: kind -> value.
    """

    number: int
    name: str
    charset: str
    mrns: tuple[str, ...]
    born: date
    places: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Family name, of the first component group."""
        return self.name.split("=")[0].split("^")[0]

    @property
    def given(self) -> str:
        """Given name, of the first component group."""
        return self.name.split("=")[0].split("^")[1]

    @property
    def is_old(self) -> bool:
        """Whether the patient was over 89 years old when examined."""
        return self.born.year < 1935

    def spellings(self) -> list[str]:
        """The name as people write it in free text: eight ways."""
        family, given = self.family, self.given
        groups = [group.replace("^", " ") for group in self.name.split("=")[1:] if group]
        return [
            f"{family}^{given}".upper(),
            f"{given} {family}",
            f"{given[0]}. {family.upper()}",
            f"{family}_{given}".upper(),
            f"{family}{given}".lower(),
            plain(f"{family} {given}"),
            *(groups or [f"{family}, {given}"]),
            f"{given}-{family}",
        ]

    def birth_dates(self) -> list[str]:
        """The birth date in six forms."""
        born = self.born
        month = _MONTHS[born.month - 1]
        return [
            f"{born:%Y%m%d}",
            f"{born:%Y-%m-%d}",
            f"{born:%d.%m.%Y}",
            f"{born:%m/%d/%Y}",
            f"{born.day} {month} {born.year}",
            f"{born.day:02d}{month[:3].upper()}{born:%y}",
        ]

    def needles(self) -> dict[str, str]:
        """What must be nowhere in an object about the patient, by kind: strings that stand for nothing else."""
        found = {"family name": self.family, "given name": self.given}
        found |= {"plain family name": plain(self.family), "plain given name": plain(self.given)}
        for number, group in enumerate(self.name.split("=")[1:]):
            found |= {f"name group {number}.{n}": part for n, part in enumerate(group.split("^")) if part}
        found |= {f"MRN {number}": digits(mrn) for number, mrn in enumerate(self.mrns)}
        found |= {f"birth date {number}": text for number, text in enumerate(self.birth_dates())}
        return found | {kind: digits(text) if kind in _BY_DIGITS else text for kind, text in self.places.items()}


_BY_DIGITS = {"accession", "serial", "insurance"}


def plain(text: str) -> str:
    """Text without accents."""
    bare = unicodedata.normalize("NFKD", text.replace("ø", "o"))
    return "".join(character for character in bare if not unicodedata.combining(character))


def digits(text: str) -> str:
    """The digits of an identifier: what others write around them differs."""
    return "".join(character for character in text if character.isdigit())


def people(seed: int = 1) -> list[Person]:
    """All patients; the same for the same seed."""
    rng = random.Random(seed)
    return [_person(number, rng) for number in range(COUNT)]


def _person(number: int, rng: random.Random) -> Person:
    name, charset = f"{_word(rng, 3)}^{_word(rng, 2)}", "ISO_IR 100"
    if number < len(FOREIGN):
        charset, *groups = FOREIGN[number]
        name = "=".join(groups).rstrip("=")
    elif number < len(FOREIGN) + len(_ACCENTED):
        name = _ACCENTED[number - len(FOREIGN)]
    is_old = 10 <= number < 14
    born = date(rng.randint(1918, 1922) if is_old else rng.randint(1941, 1979), rng.randint(1, 12), rng.randint(1, 28))
    mrns = tuple(f"MRN{_number(rng, 8)}" for _ in range(2 if 20 <= number < 23 else 1))
    return Person(number, name, charset, mrns, born, _places(rng))


def _places(rng: random.Random) -> dict[str, str]:
    area, street = _number(rng, 3), f"{rng.randint(11, 99)} {_word(rng, 3)} Street"
    town, physician, other = (_word(rng, 3) for _ in range(3))
    return {
        "accession": f"ACC{_number(rng, 7)}",
        "SSN": f"{_number(rng, 3)}-{_number(rng, 2)}-{_number(rng, 4)}",
        "phone": f"({area}) 555-{_number(rng, 4)}",
        "e-mail": f"{_word(rng, 2).lower()}.{_word(rng, 2).lower()}@{_word(rng, 2).lower()}.example",
        "address": street,
        "town": town,
        "ZIP": _number(rng, 5),
        "insurance": f"POL{_number(rng, 9)}",
        "physician": physician,
        "physician's given name": _word(rng, 2),
        "operator": other,
        "institution": f"{_word(rng, 3)} Memorial",
        "department": f"{_word(rng, 3)} Ward",
        "serial": f"SN{_number(rng, 7)}",
        "station": f"{_word(rng, 2).upper()}{rng.randint(2, 9)}",
        "URL": f"https://{_word(rng, 3).lower()}.example/p/{_number(rng, 6)}",
        "IP": f"10.{rng.randint(20, 250)}.{rng.randint(20, 250)}.{rng.randint(20, 250)}",
        "plate": f"{_word(rng, 1)[:2].upper()}-{_number(rng, 4)}-{_word(rng, 1)[:2].upper()}",
    }


def _word(rng: random.Random, syllables: int) -> str:
    word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_CODAS)
    return word.capitalize()


def _number(rng: random.Random, count: int) -> str:
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in range(count - 1))
