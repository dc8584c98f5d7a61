"""The first look at a file: which is the first, and what is read past the page cache."""

import os

import pytest

from gateway.store import first_look

SIZE = 1_000_000  # ends within a block


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(SIZE))
    if first_look.read(str(tmp_path / "file"), 0, 1) is None:
        pytest.skip("the file system reads nothing directly")
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, SIZE), (0, 1), (0, 4096), (1, 4096), (4096, 4096), (4095, 2), (SIZE - 1, 1), (SIZE - 5000, 5000), (SIZE, 0)],
)
def test_any_range_is_read(path, offset, length):
    data = first_look.read(str(path), offset, length)
    assert data == path.read_bytes()[offset : offset + length]
    assert data.readonly


@pytest.mark.parametrize(("offset", "length"), [(0, SIZE + 1), (SIZE - 1, 2), (SIZE, 1), (2 * SIZE, 1)])
def test_what_the_file_does_not_have_is_left_to_others(path, offset, length):
    assert first_look.read(str(path), offset, length) is None


def test_a_file_shorter_than_a_block(tmp_path, path):
    path.write_bytes(b"short")
    assert first_look.read(str(path), 1, 3) == b"hor"


def test_what_was_read_stays_as_it_was(path):
    first, content = first_look.read(str(path), 0, SIZE), path.read_bytes()
    path.write_bytes(bytes(SIZE))
    assert first_look.read(str(path), 0, SIZE) == bytes(SIZE)
    assert first == content


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        first_look.read(str(tmp_path / "gone"), 0, 10)


@pytest.mark.parametrize("name", ["open", "preadv"])
def test_a_file_system_that_reads_nothing_directly(path, name, monkeypatch):
    def refused(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, name, refused)
    assert first_look.read(str(path), 0, 10) is None


def test_a_disk_that_fails_is_said(path, monkeypatch):
    def failed(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", failed)
    with pytest.raises(OSError, match="Input/output"):
        first_look.read(str(path), 0, 10)


def test_only_the_first_look_is_the_first():
    seen = first_look.Seen()
    assert [seen.is_first(name) for name in ("a", "b", "a", "b")] == [True, True, False, False]


def test_files_looked_at_long_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr(first_look, "_MAX_SEEN", 2)
    seen = first_look.Seen()
    assert [seen.is_first(name) for name in ("a", "b", "c", "c", "b", "a")] == [True, True, True, False, False, True]
