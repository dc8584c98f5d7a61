"""DICOM associations of a gateway whose listener is several processes, which share them and their limit."""

import contextlib
import signal

import psutil
import pytest
from pynetdicom.sop_class import Verification

from tests.conftest import Gateway, running
from tests.e2e.test_processes import eventually, family, living
from tests.integration.dimse_support import Sender
from tests.integration.test_dimse_hostile import associated, store
from tests.samples import ct, part10

pytestmark = pytest.mark.e2e
_QUIET = {"ISTHMUS_RAY__ENABLED": "false"}
_FOUR = _QUIET | {"ISTHMUS_DICOM__MAX_ASSOCIATIONS": "4"}
ABORT = 7


def listeners(gateway: Gateway) -> list[psutil.Process]:
    return family(psutil.Process(gateway.process.pid)).get("isthmus dicom", [])


def served(gateway: Gateway, listener: psutil.Process) -> int:
    """How many connections a process has with peers of DICOM."""
    found = listener.net_connections("tcp")
    return sum(one.laddr.port == gateway.dicom_port and one.status == psutil.CONN_ESTABLISHED for one in found)


def associate(gateway: Gateway) -> Sender:
    return Sender(gateway.dicom_port, [(Verification, None)])


def test_processes_share_associations_and_their_limit_outlives_them(tmp_path):
    with running(tmp_path, "--workers", "2", "--auth", "none", **_FOUR) as gateway, contextlib.ExitStack() as stack:
        there = [stack.enter_context(associate(gateway)) for _ in range(4)]
        victim, survivor = listeners(gateway)
        left = served(gateway, survivor)
        assert left + served(gateway, victim) == 4
        assert 0 < left < 4
        fifth = associate(gateway).association
        assert fifth.is_rejected
        answer = fifth.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)  # PS3.8 Table 9-21

        victim.kill()
        assert eventually(lambda: not living([victim]))
        assert eventually(lambda: sum(one.association.is_established for one in there) == left)
        for one in there:
            assert not one.association.is_established or one.association.send_c_echo().Status == 0
        there += [stack.enter_context(associate(gateway)) for _ in range(4 - left)]
        assert associate(gateway).association.is_rejected
        assert eventually(lambda: len(listeners(gateway)) == 2)
        for one in there:
            one.__exit__()
        assert eventually(lambda: not any(served(gateway, one) for one in listeners(gateway)))
        there = [stack.enter_context(associate(gateway)) for _ in range(4)]
        assert associate(gateway).association.is_rejected
    assert gateway.process.returncode == 0


async def test_stopping_finishes_what_each_process_receives(tmp_path):
    sent = store(part10(ct(Rows=3072, Columns=4096, PixelData=bytes(24 << 20))), piece=1 << 19)
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running(tmp_path, "--workers", "2", "--auth", "none", **_QUIET))
        senders = [await stack.enter_async_context(associated(gateway.dicom_port)) for _ in range(4)]
        assert all(0 < served(gateway, listener) < 4 for listener in listeners(gateway))
        idle = [await stack.enter_async_context(associated(gateway.dicom_port)) for _ in range(2)]
        for peer in senders:
            await peer.send(*sent[:-1])
        gateway.process.send_signal(signal.SIGTERM)
        for peer in idle:
            assert (await peer.pdu())[0] == ABORT
        for peer in senders:
            await peer.send(sent[-1])
            assert await peer.status() == 0
            assert (await peer.pdu())[0] == ABORT
    assert gateway.process.returncode == 0
