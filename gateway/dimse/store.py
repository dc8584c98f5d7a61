"""C-STORE (PS3.4 Annex B): hands instances to the archive while they arrive, small ones in one piece."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from dicomweb.errors import BadRequest, TooLarge
from dicomweb.ports import Archive
from gateway.dimse.command import Tag
from gateway.dimse.messages import DataSet
from gateway.dimse.services import SUCCESS, Request
from gateway.intake.file_meta import file_start

logger = logging.getLogger(__name__)

#: Statuses with which an instance was stored: success and the warnings of PS3.4 Table B.2-1.
STORED = frozenset({SUCCESS, 0xB000, 0xB006, 0xB007})
_MAX_UID_BYTES = 64


class Store:
    """The service of one association: what its peer may store in the archive, and how large that may be."""

    def __init__(self, archive: Archive, max_bytes: int) -> None:
        self._archive = archive
        self._max_bytes = max_bytes

    async def __call__(self, request: Request) -> int:
        """Store one instance; the status is not a success before it is durable."""
        if request.data is None:
            raise BadRequest("A C-STORE request came without a data set.")
        head = file_head(
            request.command.uid(Tag.AFFECTED_SOP_CLASS_UID),
            request.command.uid(Tag.AFFECTED_SOP_INSTANCE_UID),
            request.context.transfer_syntax.encode("ascii"),
        )
        async with aclosing(self._part(head, request.data)) as part:
            outcome = await self._archive.store(part)
        if outcome.failure is not None:
            logger.warning("an instance was not stored: %s", outcome.reason)
            return outcome.failure
        return outcome.warning if outcome.warning in STORED else SUCCESS

    async def _part(self, head: bytes, data: DataSet) -> AsyncGenerator[bytes]:
        left = self._max_bytes
        yield head
        async with aclosing(data.read()) as pieces:
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise TooLarge("The instance is larger than dicom.max_instance_bytes.")
                yield piece


def file_head(sop_class_uid: bytes, instance_uid: bytes, transfer_syntax_uid: bytes) -> bytes:
    """The start of the file that a request stands for; raise BadRequest if it does not name one."""
    for uid in (sop_class_uid, instance_uid):
        if not 0 < len(uid) <= _MAX_UID_BYTES:
            raise BadRequest("A C-STORE request came without a valid SOP class or instance UID.")
    return file_start(sop_class_uid, instance_uid, transfer_syntax_uid)
