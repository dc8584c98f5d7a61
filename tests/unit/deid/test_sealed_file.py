"""Sealed files: what is written comes back, and nothing else does."""

import os
import stat
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.deid.sealed_file import SealedReader, SealedWriter
from gateway.deid.vault import Vault
from gateway.errors import VaultError

VAULT = Vault(bytes(range(32)))
PIECE = 1 << 20
HEAD = 24


def sealed(path, *parts, vault=VAULT, **description):
    writer = SealedWriter(path, vault)
    for part in parts:
        writer.write(part)
    writer.finish(description)
    assert writer.size == path.stat().st_size
    assert writer.content_size == sum(map(len, parts))
    return path


def opened(path, vault=VAULT):
    with SealedReader(path, vault) as reader:
        return b"".join(reader.pieces())


def frames(content):
    """The pieces of a file as they lie there, and what follows them."""
    length, count = struct.unpack(">LQ", content[-12:])
    at, found = HEAD, []
    for _ in range(count):
        end = at + 4 + struct.unpack(">L", content[at : at + 4])[0]
        found.append(content[at:end])
        at = end
    assert at == len(content) - 12 - length
    return found, content[at:]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.sampled_from([0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3]), max_size=4))
def test_whatever_way_the_bytes_come(tmp_path_factory, sizes):
    parts = [os.urandom(size) for size in sizes]
    path = sealed(tmp_path_factory.mktemp("sealed") / "file", *parts, reason="why")
    assert opened(path) == b"".join(parts)
    with SealedReader(path, VAULT) as reader:
        assert reader.description == {"reason": "why"}


def test_nothing_of_it_can_be_read_and_only_its_owner_has_it(tmp_path):
    path = sealed(tmp_path / "file", b"Quixote^Alonso" * 1000, reason="Quixote")
    assert b"Quixote" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        SealedWriter(path, VAULT)


def test_keys(tmp_path):
    path, other = sealed(tmp_path / "file", b"content"), bytes(range(1, 33))
    with pytest.raises(VaultError):
        opened(path, Vault(other))
    assert opened(path, Vault(other, [bytes(range(32))])) == b"content"


def test_every_changed_byte_is_found(tmp_path):
    path = sealed(tmp_path / "file", b"content", reason="why")
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(VaultError):
            opened(path)
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(VaultError):
            opened(path)


def test_pieces_that_were_moved_left_out_or_come_from_elsewhere_are_found(tmp_path):
    parts = [bytes([n]) * PIECE for n in range(3)]
    first, second = (sealed(tmp_path / name, *parts).read_bytes() for name in ("first", "second"))
    (a, b, c), rest = frames(first)
    (x, _, _), other_rest = frames(second)
    path = tmp_path / "forged"
    for forged in (
        [b, a, c, rest],
        [a, b, rest],
        [a, b, c, c, rest],
        [x, b, c, rest],
        [a, b, c, other_rest],
        [a, b, rest[:-8] + struct.pack(">Q", 2)],
    ):
        path.write_bytes(first[:HEAD] + b"".join(forged))
        with pytest.raises(VaultError):
            opened(path)
    path.write_bytes(second[:HEAD] + first[HEAD:])
    with pytest.raises(VaultError):
        opened(path)


def test_a_length_beyond_any_is_not_believed(tmp_path):
    path = sealed(tmp_path / "file", b"content")
    content = path.read_bytes()
    for forged in (
        content[:HEAD] + b"\xff\xff\xff\xff" + content[HEAD + 4 :],
        content[:-12] + b"\xff\xff\xff\xff" + content[-8:],
        content[:-8] + b"\xff" * 8,
    ):
        path.write_bytes(forged)
        with pytest.raises(VaultError):
            opened(path)
