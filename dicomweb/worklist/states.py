"""States of a workitem and what each request does to them, as tables (PS3.4 Tables CC.1.1-1 and CC.1.1-2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dicomweb.errors import BadRequest, Conflict, IsthmusError


class State(StrEnum):
    """Values of Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self in (State.COMPLETED, State.CANCELED)


# PS3.18 sections 11.6.3.2, 11.7.3.2 and 11.8.3.2: the texts of the Warning header.
ALREADY_CANCELED = "The UPS is already in the requested state of CANCELED."
ALREADY_COMPLETED = "The UPS is already in the requested state of COMPLETED."
UID_MISSING = "The Transaction UID is missing."
UID_INCORRECT = "The Transaction UID is incorrect."
STATE_INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
UPDATE_INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."
NOT_CLAIMED = "The target URI did not reference a claimed Workitem."
CREATED_MODIFIED = "The Workitem was created with modifications."
UPDATED_MODIFIED = "The Workitem was updated with modifications."


class Told(IsthmusError):
    """The workitem does not allow this."""

    #: The base URI of the service, which begins the text of a Warning header; the handler sets it.
    service = ""

    def __init__(self, message: str, warning: str | None = None) -> None:
        """Say a sentence, and the text of the standard for the Warning header if it is another one."""
        super().__init__(message)
        self._warning = warning or message

    @property
    def headers(self) -> Mapping[str, str]:
        """The Warning header that the standard asks for."""
        return MappingProxyType({"Warning": f"299 {self.service}: {self._warning}"})


class Inconsistent(Told, Conflict):
    """The request is inconsistent with the state of the workitem."""


class Unfit(Told, BadRequest):
    """The request cannot be performed on this workitem as it was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a request: the DIMSE status of Table CC.1.1-2 and the texts that go with it.

    `changes` : the state is set. A `warning` without an error answers success.
    """

    status: int
    changes: bool = False
    warning: str = ""
    error: type[Told] | None = None
    message: str = ""

    def raise_failure(self) -> None:
        """Raise the error of a refused request."""
        if self.error is not None:
            raise self.error(self.message or self.warning, self.warning)


_DONE = Answer(0x0000, changes=True)
_FINAL = Answer(
    0xC300, error=Inconsistent, warning=STATE_INCONSISTENT, message="The workitem may no longer be changed."
)
_MISSING = Answer(0xC301, error=Unfit, warning=UID_MISSING)
_INCORRECT = Answer(0xC301, error=Unfit, warning=UID_INCORRECT)
_CLAIMED = Answer(
    0xC302, error=Inconsistent, warning=STATE_INCONSISTENT, message="The workitem is already IN PROGRESS."
)
_NO_RETURN = Answer(
    0xC303, error=Inconsistent, warning=STATE_INCONSISTENT, message="A workitem becomes SCHEDULED when it is created."
)
_NOT_YET = Answer(
    0xC310, error=Inconsistent, warning=STATE_INCONSISTENT, message="The workitem is not yet IN PROGRESS."
)
_IS_CANCELED = Answer(0xB304, warning=ALREADY_CANCELED)
_IS_COMPLETED = Answer(0xB306, warning=ALREADY_COMPLETED)

#: Requested state -> present state -> what happens if the Transaction UID is the right one.
TRANSITIONS: Mapping[State, Mapping[State, Answer]] = {
    State.SCHEDULED: dict.fromkeys(State, _NO_RETURN),
    State.IN_PROGRESS: {
        State.SCHEDULED: _DONE,
        State.IN_PROGRESS: _CLAIMED,
        State.COMPLETED: _FINAL,
        State.CANCELED: _FINAL,
    },
    State.COMPLETED: {
        State.SCHEDULED: _NOT_YET,
        State.IN_PROGRESS: _DONE,
        State.COMPLETED: _IS_COMPLETED,
        State.CANCELED: _FINAL,
    },
    State.CANCELED: {
        State.SCHEDULED: _NOT_YET,
        State.IN_PROGRESS: _DONE,
        State.COMPLETED: _FINAL,
        State.CANCELED: _IS_CANCELED,
    },
}


def answer(present: State, requested: State, lock: str, given: str) -> Answer:
    """What a request to change the state does (N-ACTION Change UPS State).

    Parameters
    ----------
    lock : digest of the Transaction UID under which the workitem was claimed, empty while it is not.
    given : digest of the one in the request, empty if there is none.
    """
    if requested is State.SCHEDULED:
        return _NO_RETURN
    if not given:
        return _MISSING
    if present is not State.SCHEDULED and given != lock:
        return _INCORRECT
    return TRANSITIONS[requested][present]


def check_update(present: State, lock: str, given: str) -> None:
    """Raise Told unless a caller with this Transaction UID may change attributes (PS3.4 section CC.2.6, N-SET)."""
    if present.is_final:
        raise Unfit("The workitem may no longer be changed.", UPDATE_INCONSISTENT)
    if present is State.SCHEDULED and given:
        raise Inconsistent("The workitem is not claimed: leave the Transaction UID out.", NOT_CLAIMED)
    if present is State.IN_PROGRESS and not given:
        raise Unfit(UID_MISSING, UPDATE_INCONSISTENT)
    if present is State.IN_PROGRESS and given != lock:
        raise Unfit(UID_INCORRECT, UPDATE_INCONSISTENT)
