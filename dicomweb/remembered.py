"""What was last read or made, kept for the next who asks: bounded, and given again only while it is still true."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """What was last read, up to a total weight; each with the number that was current before it was read."""

    def __init__(self, max_weight: int) -> None:
        self._entries: OrderedDict[Hashable, tuple[int, int, Value]] = OrderedDict()
        self._max_weight = max_weight
        self._weight = 0

    def get(self, key: Hashable, generation: int | None) -> Value | None:
        """What was remembered, if it is still true."""
        found = self._entries.get(key)
        if found is None or found[0] != generation:
            return None
        self._entries.move_to_end(key)
        return found[2]

    def put(self, key: Hashable, generation: int | None, value: Value, weight: int) -> None:
        """Remember a value; what was not asked for longest goes."""
        if generation is None or weight > self._max_weight // 4:
            return
        self._weight += weight - self._entries.pop(key, (0, 0, value))[1]
        self._entries[key] = (generation, weight, value)
        while self._weight > self._max_weight:
            _, (_, freed, _) = self._entries.popitem(last=False)
            self._weight -= freed
