"""What applies to one frame: its functional groups, the shared ones, then the image itself (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset


class Frame:
    """One frame of an image, numbered from 1, with the attributes that hold for it."""

    def __init__(self, header: Dataset, number: int) -> None:
        self.header = header
        self.number = number
        per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
        self._groups = [per_frame[number - 1]] if 0 < number <= len(per_frame) else []
        self._groups += list(header.get("SharedFunctionalGroupsSequence") or [])[:1]

    def group(self, sequence: str) -> Dataset:
        """The item of a functional group sequence; the image itself if it has none."""
        return next((item for groups in self._groups if (item := first(groups.get(sequence)))), self.header)

    def numbers(self, sequence: str, keyword: str) -> list[float]:
        """The values of an attribute of a functional group; empty if it is missing or malformed."""
        return list(numbers(self.group(sequence).get(keyword)))


def first(sequence: Any) -> Dataset | None:
    """The first item of a sequence, if there is one."""
    return sequence[0] if sequence else None


def number(value: Any, default: float) -> float:
    """The first value of an attribute as a number; the default if it is missing or not one."""
    return next(numbers(value), default)


def numbers(value: Any) -> Iterator[float]:
    """The values of an attribute as numbers, up to the first that is none."""
    if value is None:
        return
    for one in [value] if isinstance(value, str | int | float) else value:
        try:
            yield float(one)
        except (TypeError, ValueError):
            return
