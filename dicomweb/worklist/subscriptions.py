"""Who is told of which workitem: subscription states as a table (PS3.4 Table CC.2.3-2), and subscribers' names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicomweb.errors import BadRequest

#: Well-known instances that stand for all workitems, and for those that match a filter (PS3.4 section CC.3.1.2).
GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"
WELL_KNOWN = frozenset([GLOBAL, FILTERED])

# PS3.5 Table 6.2-1, AE: 16 characters without backslash and control characters, not only spaces.
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")


class Subscription(StrEnum):
    """How an application entity is subscribed to one workitem."""

    NONE = "not subscribed"
    LOCKED = "with deletion lock"
    UNLOCKED = "without deletion lock"


class Action(StrEnum):
    """What changes that."""

    CREATED_GLOBAL_LOCKED = "created while subscribed globally with lock"
    CREATED_GLOBAL = "created while subscribed globally without lock"
    SUBSCRIBE_GLOBAL_LOCKED = "subscribes globally with lock"
    SUBSCRIBE_GLOBAL = "subscribes globally without lock"
    SUBSCRIBE_LOCKED = "subscribes with lock"
    SUBSCRIBE = "subscribes without lock"
    UNSUBSCRIBE = "unsubscribes"
    UNSUBSCRIBE_GLOBAL = "unsubscribes globally"
    SUSPEND_GLOBAL = "suspends its global subscription"


@dataclass(frozen=True, slots=True)
class Step:
    """The state that follows; whether the subscriber is told how the workitem stands."""

    state: Subscription
    tells: bool = False


_NONE, _LOCKED, _UNLOCKED = Subscription.NONE, Subscription.LOCKED, Subscription.UNLOCKED
_SAME = {state: Step(state) for state in Subscription}

#: Action -> present state -> what follows.
STEPS: Mapping[Action, Mapping[Subscription, Step]] = {
    Action.CREATED_GLOBAL_LOCKED: {_NONE: Step(_LOCKED, tells=True)},
    Action.CREATED_GLOBAL: {_NONE: Step(_UNLOCKED, tells=True)},
    Action.SUBSCRIBE_GLOBAL_LOCKED: _SAME | {_NONE: Step(_LOCKED, tells=True)},
    Action.SUBSCRIBE_GLOBAL: _SAME | {_NONE: Step(_UNLOCKED)},
    Action.SUBSCRIBE_LOCKED: dict.fromkeys(Subscription, Step(_LOCKED, tells=True)),
    Action.SUBSCRIBE: dict.fromkeys(Subscription, Step(_UNLOCKED, tells=True)),
    Action.UNSUBSCRIBE: dict.fromkeys(Subscription, Step(_NONE)),
    Action.UNSUBSCRIBE_GLOBAL: dict.fromkeys(Subscription, Step(_NONE)),
    Action.SUSPEND_GLOBAL: _SAME,
}


def checked_ae_title(text: str) -> str:
    """Return an application entity title, or raise BadRequest (never quoting it)."""
    title = text.strip(" ")
    if not _AE_TITLE.fullmatch(title):
        raise BadRequest("The AE title must have 1 to 16 printable ASCII characters without a backslash.")
    return title
