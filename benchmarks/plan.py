"""How much is measured: the sizes and durations of a full and of a quick run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """Every row is measured once a round, on each server in turn; what is reported is the median over the rounds."""

    name: str
    max_rounds: int
    store_minutes: float  # after which no further round begins
    read_minutes: float
    store_s: float  # that each prepared row stores for, after a third of that to warm up
    storescu: int  # instances that each storescu sends
    read_s: float  # that each row that reads is loaded for
    downloads: int  # of a whole study, by each row that retrieves one
    growth: tuple[int, ...]  # instances in the catalogue
    growth_s: float  # that each kind of request is sent for
    viewers_s: float
    adversity_s: float  # of each kind of it
    idle: int  # connections
    gigabytes: float  # of the one instance whose storing shows how much memory that takes
    studies: int = 1000  # that a search finds
    series: int = 100  # instances of 0.5 MB in the study that is read
    pictures: int = 400  # that are rendered for the first time, a quarter of them over one connection
    connections: int = 8
    viewers: int = 200

    def rounds(self, minutes: float) -> Iterator[int]:
        """Numbers of the rounds; the first is always run, another only if there is time for it."""
        begin = time.monotonic()
        for number in range(self.max_rounds):
            passed = time.monotonic() - begin
            if number and passed * (number + 1) / number > 60 * minutes:
                return
            yield number


FULL = Plan(
    "full",
    max_rounds=3,
    store_minutes=5.5,
    read_minutes=7,
    store_s=3,
    storescu=300,
    read_s=1,
    downloads=8,
    growth=(1_000, 10_000, 100_000, 1_000_000),
    growth_s=2,
    viewers_s=60,
    adversity_s=8,
    idle=10_000,
    gigabytes=3,
)
QUICK = Plan(
    "quick",
    max_rounds=1,
    store_minutes=1,
    read_minutes=1,
    store_s=1,
    storescu=60,
    read_s=1,
    downloads=3,
    growth=(1_000, 10_000),
    growth_s=0.5,
    viewers_s=10,
    adversity_s=3,
    idle=2_000,
    gigabytes=0.5,
)
#: Only to see that everything works; its numbers mean nothing.
TINY = replace(
    QUICK,
    name="tiny",
    store_minutes=0.1,
    read_minutes=0.1,
    store_s=0.3,
    storescu=8,
    downloads=2,
    growth=(1_000, 2_000),
    growth_s=0.2,
    viewers_s=2,
    adversity_s=1,
    idle=200,
    gigabytes=0.05,
    studies=50,
    series=20,
    pictures=40,
    viewers=20,
)
PLANS = {plan.name: plan for plan in (FULL, QUICK, TINY)}
