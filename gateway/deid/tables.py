"""The tables that de-identification goes by, read from files of facts beside this module; generate.py makes them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

HERE: Final = Path(__file__).parent
#: How an element says nothing of its VR.
UNDECLARED: Final = frozenset({None, "", "UN"})
#: Group, private creator, element within the block.
PrivateKey: TypeAlias = tuple[int, str, int]


class Safe(NamedTuple):
    """What a private element is that may stay: `disposition` is k (keep clean), h (UID) or o (date)."""

    disposition: str
    vrs: tuple[str, ...]

    def vr(self, declared: str | None) -> str | None:
        """The VR to read an element by; None if it is not what it should be, or nobody tells."""
        if declared in self.vrs:
            return declared
        return self.vrs[0] if declared in UNDECLARED and len(self.vrs) == 1 else None


@cache
def table() -> dict[str, tuple[str, dict[str, str]]]:
    """Table E.1-1 (2024b with the rows that 2026c adds): tag pattern -> action of the profile and of its options."""
    return {pattern: (basic, options) for pattern, basic, options in facts("e1_1.json")["rows"]}


@cache
def safe_private() -> dict[PrivateKey, Safe]:
    """Private elements that may stay, by group, private creator and element within the block.

    Those of Table E.3.10-1, whose disposition is `k`, and those of TCIA's knowledge base.
    """
    safe = {
        (int(group, 16), creator, int(element, 16)): Safe(disposition, tuple(vrs))
        for creator, group, elements in facts("tcia_private.json")["rows"]
        for element, (disposition, *vrs) in ((element, said.split()) for element, said in elements.items())
    }
    for group, creator, element, vr, _ in facts("safe_private.json")["rows"]:
        safe[int(group, 16), creator, int(element, 16)] = Safe("k", (vr,))
    return safe


@cache
def safe_creators() -> frozenset[str]:
    """The private creators of those elements: names of products, and no person's."""
    return frozenset(creator for _, creator, _ in safe_private())


def facts(name: str) -> dict[str, Any]:
    """Read a file of facts: its `rows`, and which table, edition or date, and sources they are of."""
    content: dict[str, Any] = json.loads((HERE / name).read_text(encoding="ascii"))
    return content
