"""Messages are put together from their fragments, and what nobody reads is bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dimse.messages import Assembler, DataSet, Memory
from gateway.dimse.negotiation import Context
from gateway.dimse.pdu import COMMAND, LAST, ProtocolError
from tests.unit.dimse.conversations import store_rq

CONTEXTS = {1: Context(1, "1.2", "1.2.840.10008.1.2.1"), 3: Context(3, "1.2", "1.2.840.10008.1.2")}
MIB = 1 << 20


class Association:
    """An assembler, what it delivers, and how much of it is unread."""

    def __init__(self, max_bytes=192 * MIB):
        self.memory = Memory(max_bytes)
        self.messages = []
        self.assembler = Assembler(CONTEXTS, self.memory, self.messages.append, self._account)

    def _account(self, change):
        self.memory.used += change

    def send(self, data, control, context=1, *, whole=True):
        self.assembler.fragment(context, control, memoryview(data), whole=whole)


async def all_of(data_set):
    return [bytes(piece) async for piece in data_set.read()]


async def test_a_small_message_comes_as_a_whole_and_in_one_piece():
    association = Association()
    command = store_rq()
    association.send(command[:10], COMMAND)
    association.send(command[10:], COMMAND | LAST)
    association.send(b"first ", 0)
    association.send(b"se", 0, whole=False)
    association.send(b"cond ", 0)
    assert association.messages == []
    association.send(b"la", LAST, whole=False)
    assert association.messages == []
    assert association.assembler.within
    association.send(b"st", LAST)
    (message,) = association.messages
    assert message.context is CONTEXTS[1]
    assert not association.assembler.within
    assert await all_of(message.data) == [b"first second last"]
    assert association.memory.used == 0


async def test_a_large_message_comes_when_its_share_has():
    association = Association()
    association.send(store_rq(), COMMAND | LAST)
    for _ in range(3):
        association.send(bytes(MIB), 0)
    assert association.messages == []
    association.send(bytes(MIB), 0)
    (message,) = association.messages
    association.send(b"end", LAST)
    assert association.messages == [message]
    assert sum(map(len, await all_of(message.data))) == 4 * MIB + 3


async def test_where_memory_is_short_the_share_is_a_piece():
    association = Association(max_bytes=MIB)
    association.send(store_rq(), COMMAND | LAST)
    association.send(bytes(MIB), 0)
    assert len(association.messages) == 1
    association.messages[0].data.drop()
    assert association.memory.used == 0
    assert association.memory.share == 4 * MIB


async def test_a_command_without_a_data_set():
    association = Association()
    association.send(store_rq(data_set_type=0x0101), COMMAND | LAST)
    assert association.messages[0].data is None


async def test_reserved_bits_of_the_control_header_do_not_count():
    """PS3.8 section E.2: they are not checked."""
    association = Association()
    association.send(store_rq(), 0xFC | COMMAND | LAST)
    association.send(b"data", 0xFC | LAST)
    assert await all_of(association.messages[0].data) == [b"data"]


@pytest.mark.parametrize(
    "fragments",
    [
        [(b"data", LAST, 1)],
        [(store_rq(), COMMAND | LAST, 5)],
        [(store_rq(), COMMAND | LAST, 1), (b"data", LAST, 3)],
        [(store_rq(), COMMAND | LAST, 1), (b"data", 0, 1), (store_rq(), COMMAND | LAST, 1)],
        [(store_rq(data_set_type=0x0101), COMMAND | LAST, 1), (b"data", LAST, 1)],
        [(b"", COMMAND | LAST, 1)],
        [(bytes(40_000), COMMAND, 1), (bytes(40_000), COMMAND, 1)],
    ],
    ids=[
        "data without a command",
        "a context that was not accepted",
        "data in another context",
        "a command within data",
        "data that was not announced",
        "an empty command",
        "an endless command",
    ],
)
async def test_what_may_not_come_is_refused(fragments):
    association = Association()
    *before, last = fragments
    for fragment in before:
        association.send(*fragment)
    with pytest.raises(ProtocolError):
        association.send(*last)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(store_rq()), st.binary(max_size=20)), st.integers(0, 3), st.sampled_from([1, 3, 5])
        ),
        max_size=12,
    )
)
def test_any_fragments_are_taken_or_refused_and_nothing_stays(fragments):
    async def send():
        association = Association()
        try:
            for fragment in fragments:
                association.send(*fragment)
        except ProtocolError:
            pass
        association.assembler.end(ConnectionError())
        for message in association.messages:
            if message.data is not None:
                await all_of(message.data)
        assert association.memory.used == 0

    asyncio.run(send())


async def test_an_end_in_the_middle_reaches_the_reader_after_what_came():
    association = Association()
    association.send(store_rq(), COMMAND | LAST)
    association.send(bytes(4 * MIB), 0)
    association.assembler.end(ConnectionError("cut"))
    reading = association.messages[0].data.read()
    assert len(await anext(reading)) == 4 * MIB
    with pytest.raises(ConnectionError, match="cut"):
        await anext(reading)


async def test_a_reader_waits_for_large_pieces():
    data_set = DataSet(lambda _: None)
    reading = asyncio.create_task(all_of(data_set))
    for _ in range(10):
        data_set.write(memoryview(bytes(MIB // 4)))
        await asyncio.sleep(0)
    assert not reading.done()
    data_set.end()
    assert [len(piece) for piece in await reading] == [MIB, MIB, MIB // 2]


async def test_what_is_not_wanted_is_not_kept():
    changes = []
    data_set = DataSet(changes.append)
    data_set.write(memoryview(b"first"))
    data_set.drop()
    data_set.write(memoryview(b"second"))
    waiting = asyncio.create_task(data_set.ended())
    await asyncio.sleep(0)
    assert not waiting.done()
    data_set.end()
    await waiting
    assert (data_set.unread, sum(changes)) == (0, 0)
