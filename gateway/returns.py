"""Results go back to where their images came from: re-identified in memory, sent by C-STORE, each step audited before.

Nothing of what is sent touches a disk, a log or the database. One object is made at a time, its pixel data read while
they are sent.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicomweb.errors import Conflict, IsthmusError, NotFound, TooLarge, Unavailable
from dicomweb.pixels import transcode
from dicomweb.ports import StoredInstance
from dicomweb.resource import Resource
from gateway.archive import Archive
from gateway.audit import Audit, Caller, What
from gateway.config import Remote, Settings
from gateway.deid.reidentify import NotInVault, issued_uids, reidentified
from gateway.dimse.scu import Offer, Peer, associated
from gateway.errors import RemoteUnavailable, VaultError
from gateway.identities import Identities
from gateway.workers import Workers

logger = logging.getLogger(__name__)

#: Of one call, and as many as one record of the audit names.
MAX_INSTANCES: Final = 100
_AT_ONCE: Final = 2
_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
#: What is made from images (PS3.4 Annex B.5): secondary captures, presentation states, parametric maps, segmentations
#: and registrations, real world values, SR and key objects, encapsulated objects, radiotherapy.
_RESULTS: Final = tuple(f"{_ROOT}{branch}." for branch in ("7", "11", "30", "66", "67", "88", "104", "481"))
_WARNINGS: Final = frozenset({0xB000, 0xB006, 0xB007})  # PS3.4 Table B.2-1
_UNDEFINED: Final = 0xFFFFFFFF


class NoResult(Conflict):
    """The object came in with its identity: it is no result, and who sent it has it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to go where: all results of a study, or what belongs to some series or is some instances of it."""

    study_uid: str
    to: str
    series_uids: Collection[str] = ()
    instance_uids: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of one instance; `status` is the remote's (PS3.4 Table B.2-1), if it was asked."""

    instance: StoredInstance
    outcome: Literal["sent", "refused", "failed"]
    status: int | None = None
    reason: str = ""


class Returns:
    """Sends results to remotes."""

    def __init__(
        self, settings: Settings, archive: Archive, identities: Identities, audit: Audit, workers: Workers
    ) -> None:
        self._remotes = settings.remotes
        self._title = settings.dicom.ae_title
        self._timeout_s = settings.dicom.network_timeout_s
        self._archive = archive
        self._identities = identities
        self._audit = audit
        self._workers = workers
        self._running = 0

    async def send(self, order: Order, caller: Caller) -> Sequence[Returned]:
        """Send results for a caller who has the right, and say what became of each.

        Raises
        ------
        NotFound : there is no such remote, study, series, instance or result.
        NotInVault : none could be sent, as the archive does not hold the originals that they refer to.
        RemoteUnavailable : none could be sent.
        TooLarge, Unavailable : that is too much at once.
        """
        remote = self._remotes.get(order.to)
        if remote is None:
            raise NotFound("There is no remote of this name; the setting remotes names them.")
        chosen = await self._chosen(order)
        if self._running >= _AT_ONCE:
            raise Unavailable("Too many results are on their way back already; try again shortly.")
        self._running += 1
        try:
            return await self._audited(order, remote, chosen, caller)
        finally:
            self._running -= 1

    async def _chosen(self, order: Order) -> Sequence[StoredInstance]:
        """The instances of an order, each of which exists."""
        there = await self._archive.instances(Resource(order.study_uid))
        if order.instance_uids:
            chosen = [one for one in there if one.instance_uid in order.instance_uids]
            missing = len(chosen) < len(set(order.instance_uids))
        elif order.series_uids:
            chosen = [one for one in there if one.series_uid in order.series_uids]
            missing = len({one.series_uid for one in chosen}) < len(set(order.series_uids))
        else:
            chosen = [one for one in there if f"{one.sop_class_uid}.".startswith(_RESULTS)]
            missing = not chosen
        if missing:
            raise NotFound("The study is not here, or has not all of what is to be returned.")
        if len(chosen) > MAX_INSTANCES:
            raise TooLarge(f"At most {MAX_INSTANCES} instances are returned at once; name series or instances.")
        return chosen

    async def _audited(
        self, order: Order, remote: Remote, chosen: Sequence[StoredInstance], caller: Caller
    ) -> Sequence[Returned]:
        """Record what is about to be done, do it, and record what was sent, however it ends."""
        await self._audit.record("return", "begun", caller, self._what(order, instances=chosen))
        done: list[Returned] = []
        outcome = "broken off"
        try:
            await self._send_all(remote, chosen, caller, done)
            outcome = "done"
        finally:
            sent = [one.instance for one in done if one.outcome == "sent"]
            record = self._audit.record("return", outcome, caller, self._what(order, sent=sent))
            await asyncio.shield(asyncio.ensure_future(record))
        if all(one.outcome == "refused" and one.reason == NotInVault().message for one in done):
            raise NotInVault
        return done

    async def _send_all(
        self, remote: Remote, chosen: Sequence[StoredInstance], caller: Caller, done: list[Returned]
    ) -> None:
        """Send one after the other; when the connection is lost, the others have failed."""
        offers = [Offer(one.sop_class_uid, one.transfer_syntax_uid) for one in chosen]
        try:
            async with associated(remote, self._title, offers, self._workers, timeout_s=self._timeout_s) as peer:
                for instance, offer in zip(chosen, offers, strict=True):
                    done.append(await self._send(peer, instance, offer, caller))
        except RemoteUnavailable as exc:
            if not any(one.status is not None for one in done):
                raise
            done += [Returned(instance, "failed", None, exc.message) for instance in chosen[len(done) :]]

    async def _send(self, peer: Peer, instance: StoredInstance, offer: Offer, caller: Caller) -> Returned:
        syntax = peer.syntax_for(offer)
        if syntax is None:
            return Returned(instance, "refused", None, "The remote does not take this class in its transfer syntax.")
        stored = self._archive.open(instance)
        try:
            content = await stored.read(0, instance.pixel_offset or None)
            result = await self._original(await self._workers.run(transcode.read_header, content), caller)
            head = await self._workers.run(_encoded, result, syntax == ImplicitVRLittleEndian)
        except (Conflict, NotFound, VaultError) as exc:
            return Returned(instance, "refused", None, exc.message)
        async with aclosing(self._data_set(head, instance, implicit=syntax == ImplicitVRLittleEndian)) as pieces:
            status = await peer.store(offer, str(result.SOPInstanceUID), pieces)
        said = f"The remote answered with status {status:04X}." if status else ""
        return Returned(instance, "sent" if not status or status in _WARNINGS else "failed", status, said)

    async def _original(self, header: Dataset, caller: Caller) -> Dataset:
        """A result as the hospital knows it; raise NotInVault or NoResult."""
        is_issued = self._identities.uids.is_issued
        issued = await self._workers.run(issued_uids, header, is_issued)
        truth = await self._identities.truth_of(header, caller, issued)
        if truth.is_own:
            raise NoResult
        return await self._workers.run(reidentified, header, truth, is_issued)

    async def _data_set(self, head: bytes, instance: StoredInstance, *, implicit: bool) -> AsyncGenerator[bytes]:
        """The data set as it is sent: what was made anew, and the pixel data as they are stored."""
        yield head
        if not instance.pixel_offset:
            return
        stored = self._archive.open(instance)
        start = await stored.read(instance.pixel_offset, 12)
        length = struct.unpack_from("<L", start, 8)[0]
        yield start[:4] + start[8:] if implicit else start
        async for piece in stored.stream(instance.pixel_offset + 12, None if length == _UNDEFINED else length):
            yield bytes(piece)

    def _what(self, order: Order, **named: Sequence[StoredInstance]) -> What:
        uids = self._identities.uids
        what: Mapping[str, str | list[str]] = {"study_uid": uids(order.study_uid), "to": order.to}
        return {**what, **{name: [uids(one.instance_uid) for one in found] for name, found in named.items()}}


def _encoded(ds: Dataset, implicit: bool) -> bytes:
    """A data set in Little Endian, without file meta information."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, implicit
    try:
        write_dataset(out, ds)
    except IsthmusError:
        raise
    except Exception as exc:  # noqa: BLE001 - what pydicom says may quote values
        raise Conflict(f"The object could not be encoded ({type(exc).__name__}).") from None
    return out.getvalue()
