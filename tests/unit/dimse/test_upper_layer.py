"""What the states of an association allow, and that nobody waits for ever; on a transport that keeps what is sent."""

import asyncio

import pytest

from gateway.config import DicomSettings
from gateway.dimse.association import Association, Host
from gateway.dimse.messages import Memory, Message
from gateway.dimse.negotiation import Accepted, Context
from gateway.dimse.upper_layer import State, UpperLayer
from tests.unit.dimse.conversations import CT, EXPLICIT, fragment, pdu, store_rq

RELEASE_RQ = pdu(5, bytes(4))
ABORT = 7


class Wire:
    """A transport without a network."""

    def __init__(self):
        self.sent = b""
        self.reads = True

    def write(self, data):
        self.sent += data

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    def is_reading(self):
        return self.reads

    def abort(self):
        return


@pytest.fixture
async def peer():
    """An association that was agreed, with little memory; what its peer sends goes through `send`."""
    buffer = memoryview(bytearray(8 << 20))
    upper = UpperLayer(
        buffer, Memory(0), max_pdu_bytes=8 << 20, timeout_s=60, on_stall=lambda: None, on_state=lambda: None
    )
    upper._transport = Wire()
    upper._timer = upper._loop.call_later(60, lambda: None)

    def send(data):
        upper.get_buffer(-1)[: len(data)] = data
        upper.buffer_updated(len(data))

    send(pdu(1, bytes(68)))
    await upper.next()
    upper.answer(Accepted(b"", "PEER", {1: Context(1, CT.decode(), EXPLICIT.decode())}, 0))
    yield upper, send
    upper.close()
    upper._timer.cancel()


@pytest.mark.parametrize("further", [RELEASE_RQ, pdu(4, fragment(store_rq(), command=True, last=True))])
async def test_nothing_may_follow_a_request_for_release(peer, further):
    upper, send = peer
    send(RELEASE_RQ)
    assert upper.state is State.ESTABLISHED
    send(further)
    assert upper.state is State.CLOSING
    assert upper._transport.sent[0] == ABORT


async def test_who_waits_for_a_message_has_it_read_to_its_end(peer):
    upper, send = peer
    upper._memory._max_bytes = 1 << 30
    send(pdu(4, fragment(store_rq(data_set_type=0x0101), command=True, last=True)))
    send(pdu(4, fragment(store_rq(), command=True, last=True)))
    send(pdu(4, fragment(bytes(2 << 20))))  # less than its share, so it is not handed on
    upper._memory._max_bytes = 0  # memory gets short
    assert isinstance(await upper.next(), Message)
    assert not upper._transport.reads
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await upper.next()
    assert upper._transport.reads


async def test_an_association_can_be_ended_before_it_is_connected():
    host = Host(DicomSettings(), lambda _: {}, lambda: False, lambda: None, memoryview(bytearray(16)), Memory(0))
    association = Association(host, "127.0.0.1")
    association.end(at_once=False)
    association.end(at_once=True)
    assert association._ending


async def test_a_request_may_take_longer_while_pictures_are_looked_at() -> None:
    looking = [True]
    host = Host(
        DicomSettings(),
        lambda _: {},
        lambda: False,
        lambda: None,
        memoryview(bytearray(16)),
        Memory(0),
        lambda: looking[0],
    )
    association = Association(host, "peer")
    async with asyncio.timeout(None) as limit:
        association._limit = limit
        association._upper.state = State.ESTABLISHED
        association._give_up()
        assert limit.when() is None
        association._upper.state = State.CLOSING  # nobody waits any more
        association._give_up()
        assert limit.when() is not None
        limit.reschedule(None)
        association._upper.state, looking[0] = State.ESTABLISHED, False
        association._give_up()
        assert limit.when() is not None
        limit.reschedule(None)
        await asyncio.sleep(0)
