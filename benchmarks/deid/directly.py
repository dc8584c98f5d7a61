"""Objects taken in as an archive does it, bytes to bytes, without a catalogue or a look at pictures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

from dicomweb.errors import BadRequest, Refused
from gateway.deid.engine import Deidentifier
from gateway.deid.vault import Vault
from gateway.intake.elements import Elements
from gateway.intake.source import Buffer, ByteSource, Short
from gateway.intake.suspicion import Suspect
from gateway.intake.taking import IngestLimits, Taking, Treatment

_SECRET = bytes(range(32))


class Refusal(Exception):
    """An object is not taken; the message is what its sender would be told."""


def treatment(deidentifier: Deidentifier) -> Treatment:
    """How objects are taken in under a profile."""
    return Treatment(deidentifier, Elements(), _SECRET, IngestLimits(1 << 30, 1 << 28), Vault(_SECRET))


def taken(how: Treatment, data: bytes) -> bytes:
    """The file that one object becomes; raise Refusal."""
    source = ByteSource(_whole(data), max_bytes=1 << 30)
    taking, wanted = Taking(source, how, None), len(data) + 1
    made: list[Buffer] = []
    try:
        while not taking.done:
            _run(source.fill(wanted))
            try:
                made += taking.advance()
                wanted = source.held + len(data)
            except Short as short:
                wanted = short.needed
    except (BadRequest, Refused) as exc:
        raise Refusal(exc.message) from exc
    except Suspect as exc:
        raise Refusal("The picture is to be looked at.") from exc
    return b"".join(made)


def take(how: Treatment, source: Path, target: Path) -> None:
    """Every file of a folder; what became of each is told in `outcomes.json`."""
    outcomes = {}
    for path in sorted(source.glob("*.dcm")):
        try:
            (target / path.name).write_bytes(taken(how, path.read_bytes()))
            outcomes[path.name] = ""
        except Refusal as refusal:
            outcomes[path.name] = str(refusal)
    (target / "outcomes.json").write_text(json.dumps(outcomes, ensure_ascii=False))


def _run(work: Coroutine[None, None, object]) -> None:
    """Run what never waits, for all is there; without an event loop, in which nothing of this may run."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("the source waits")


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
