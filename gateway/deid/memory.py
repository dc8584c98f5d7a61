"""What de-identifying one object found out that holds for the next: nine in ten elements of a series repeat.

What becomes of an element depends on the key and profile (a memory belongs to one de-identifier), on the patient and
all that was learnt of identity (its `Context`), and on its own tag, VR and bytes. This makes no dictionary of original
values: what is changed or taken out is known by a keyed digest, and only what leaves as it came by its bytes. Of the
original stays what was learnt, without which no text can be cleaned: of a few patients, for as long as they fit.

Everything is bounded in bytes and forgotten whole when full: to keep the oldest apart costs more than to start again.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from typing import Final, Generic, TypeAlias, TypeVar

from blake3 import blake3

from gateway.deid.identity import Identity
from gateway.deid.values import Element

_MAX_KEPT_BYTES: Final = 1024
_MAX_FACTS_BYTES: Final = 1 << 17
_MAX_CONTEXT_BYTES: Final = 1 << 20
_MAX_CONTEXTS: Final = 16
_MAX_IDENTITY_CHARACTERS: Final = 4096
#: What an entry takes besides its value: key, digest, element.
_ENTRY_BYTES: Final = 300

Mark: TypeAlias = tuple[int, str | None, bytes | None]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Bounded(Generic[Key, Value]):
    """A dictionary that is emptied when it holds too much. Threads may share it: at worst they do work twice."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self.entries: dict[Key, Value] = {}

    def put(self, key: Key, value: Value, size: int) -> None:
        self._bytes += size + _ENTRY_BYTES
        if self._bytes > self._max_bytes:
            self.entries.clear()
            self._bytes = size + _ENTRY_BYTES
        self.entries[key] = value


class Context:
    """What became of elements of objects about one patient of whom the same was learnt.

    Attributes
    ----------
    identity : what was learnt, complete.
    kept : elements that leave as they came.
    changed : what became of others, by their mark; None for those that were taken out.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._kept: _Bounded[Mark, None] = _Bounded(_MAX_CONTEXT_BYTES)
        self._changed: _Bounded[Mark, Element | None] = _Bounded(_MAX_CONTEXT_BYTES)
        self.kept = self._kept.entries
        self.changed = self._changed.entries

    def keep(self, element: Mark) -> None:
        """Remember that an element leaves as it came."""
        if len(element[2] or b"") <= _MAX_KEPT_BYTES:
            self._kept.put(element, None, len(element[2] or b""))

    def change(self, mark: Mark, outcome: Element | None) -> None:
        """Remember what an element became, if that can be shared between data sets."""
        self._changed.put(mark, outcome, len(outcome.value or b"") if outcome is not None else 0)


class Memory:
    """The memory of one de-identifier; `remembers` is off where each object is to be gone through from scratch."""

    def __init__(self, *, remembers: bool = True) -> None:
        self.remembers = remembers
        self._secret = secrets.token_bytes(32)
        self._facts: _Bounded[Hashable, Identity] = _Bounded(_MAX_FACTS_BYTES)
        self.contexts: dict[Hashable, Context] = {}
        self.facts = self._facts.entries

    def digest(self, value: bytes | None) -> bytes:
        """A digest that means nothing to another process; half a microsecond."""
        return blake3(value or b"", key=self._secret).digest(16)

    def learnt(self, mark: Hashable, facts: Identity) -> None:
        """Remember what is learnt from an element."""
        if self.remembers:
            self._facts.put(mark, facts, facts.size)

    def context(self, circumstances: Hashable, identity: Identity) -> Context:
        """The context of objects in the same circumstances, of which the same is learnt as `identity`."""
        key = (circumstances, identity.known)
        context = self.contexts.get(key)
        if context is None:
            identity.freeze()
            context = Context(identity)
            if self.remembers and identity.size <= _MAX_IDENTITY_CHARACTERS:
                if len(self.contexts) >= _MAX_CONTEXTS:
                    self.contexts.clear()
                self.contexts[key] = context
        return context
