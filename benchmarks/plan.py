"""How much is measured: the sizes and durations of a full and of a quick run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Every row is measured once a round, on each server in turn; what is reported is the median over the rounds."""

    name: str
    max_rounds: int
    table_minutes: float  # after which a table begins no further round
    batch: int  # instances that each row of the store table stores
    studies: int  # that a search finds
    seconds: float  # that each row of the read table is loaded for
    downloads: int  # of the whole study, by each row that retrieves it
    gigabytes: float  # of the one instance whose storing shows how much memory that takes
    series: int = 100  # instances of 0.5 MB in the study that is read
    connections: int = 8

    def rounds(self) -> Iterator[int]:
        """Numbers of the rounds; the first is always run, another only if there is time for it."""
        begin = time.monotonic()
        for number in range(self.max_rounds):
            passed = time.monotonic() - begin
            if number and passed * (number + 1) / number > 60 * self.table_minutes:
                return
            yield number


FULL = Plan("full", max_rounds=3, table_minutes=15, batch=200, studies=1000, seconds=2, downloads=8, gigabytes=3)
QUICK = Plan("quick", max_rounds=1, table_minutes=2, batch=40, studies=200, seconds=1, downloads=3, gigabytes=0.5)
