"""The folder of copies: what is complete is kept, what is abandoned or too much goes, and a deletion wins."""

import os
import stat

import pytest

from gateway.store.copies import Copies
from gateway.store.objects import new_key

MAX_BYTES = 64_000


@pytest.fixture
def root(tmp_path):
    return tmp_path / "copies"


@pytest.fixture
def copies(root):
    copies = Copies(root, MAX_BYTES)
    copies.prepare()
    return copies


def add(copies, key, data=b"data"):
    incoming = copies.begin(key)
    incoming.write(data)
    copies.add(incoming)
    incoming.close()


def kept(root):
    return {str(path.relative_to(root)) for path in root.glob("[0-9]*/*/*")}


def test_a_copy_is_there_when_it_is_complete_and_nobody_else_may_read_it(copies, root):
    key = new_key()
    incoming = copies.begin(key)
    incoming.write(b"da")
    assert not kept(root)
    incoming.write(b"ta")
    copies.add(incoming)
    incoming.close()
    assert (root / key).read_bytes() == b"data"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (root, root / "incoming", root / "gone", root / key)}
    assert modes == {0o700, 0o600}
    assert not list((root / "incoming").iterdir())


def test_what_is_given_up_leaves_nothing(copies, root):
    incoming = copies.begin(new_key())
    incoming.write(b"da")
    incoming.close()
    assert not kept(root)
    assert not list((root / "incoming").iterdir())


def test_a_dead_process_leaves_nothing_and_a_living_one_goes_on(copies, root):
    abandoned = root / "incoming" / "0123"
    abandoned.write_bytes(b"half")
    key = new_key()
    incoming = copies.begin(key)
    incoming.write(b"data")
    Copies(root, MAX_BYTES).prepare()
    assert not abandoned.exists()
    copies.add(incoming)
    incoming.close()
    assert kept(root) == {key}


def test_what_was_not_used_for_longest_goes_first(copies, root):
    keys = [new_key() for _ in range(30)]
    for age, key in enumerate(keys):
        add(copies, key, bytes(2_000))
        os.utime(root / key, (1_000_000 + age, 1_000_000 + age))
    copies.touch(keys[0])
    later = [new_key() for _ in range(5)]
    for key in later:
        add(copies, key, bytes(2_000))
    copies.trim()
    assert kept(root) == {keys[0], *keys[6:], *later}


def test_the_bound_holds_without_being_asked(copies, root):
    for _ in range(200):
        add(copies, new_key(), bytes(1_000))
        assert sum((root / key).stat().st_size for key in kept(root)) <= MAX_BYTES


def test_a_reader_of_what_is_removed_reads_on(copies, root):
    key = new_key()
    add(copies, key)
    with (root / key).open("rb") as file:
        copies.drop(key)
        assert not kept(root)
        assert file.read() == b"data"


def test_what_was_deleted_meanwhile_does_not_come_back(copies, root):
    key = new_key()
    incoming = copies.begin(key)
    incoming.write(b"data")
    Copies(root, MAX_BYTES).drop(key)
    copies.add(incoming)
    incoming.close()
    assert not kept(root)


def test_marks_of_deletions_do_not_stay_for_ever(copies, root):
    copies.drop(new_key())
    (mark,) = (root / "gone").iterdir()
    copies.trim()
    assert mark.exists()
    os.utime(mark, (1_000_000, 1_000_000))
    copies.trim()
    assert not mark.exists()
