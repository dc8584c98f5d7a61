"""Files that are written past the page cache: every size, and file systems that do not allow it."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.new_file import NewFile

BLOCK, ROOM = 4096, 1 << 20
SIZES = st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM + BLOCK + 7])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "20260101" / "0000" / "file"


def written(path: Path, calls: list[list[bytes]]) -> bytes:
    file = NewFile(path)
    for buffers in calls[:-1]:
        file.write(buffers)
    file.finish(calls[-1])
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(cut=st.lists(st.lists(SIZES, max_size=3), min_size=1, max_size=4))
def test_whatever_way_the_bytes_come(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("new") / "day" / "minute" / "file"
    calls = [[os.urandom(size) for size in sizes] for sizes in cut]
    assert written(path, calls) == b"".join(map(b"".join, calls))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_where_no_file_can_be_opened_for_direct_writing(path, monkeypatch, code):
    real = os.open

    def refusing(name, flags, *mode):
        descriptor = real(name, flags & ~os.O_DIRECT, *mode)
        if flags & os.O_DIRECT:  # the kernel says so after it has made the file
            os.close(descriptor)
            raise OSError(code, os.strerror(code))
        return descriptor

    monkeypatch.setattr(os, "open", refusing)
    data = os.urandom(3 * BLOCK + 5)
    assert written(path, [[data]]) == data


def test_where_direct_writing_is_refused_later(path, monkeypatch):
    real = os.write
    refused = []

    def refusing(descriptor, data):
        if not refused:
            refused.append(descriptor)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", refusing)
    data = os.urandom(3 * BLOCK + 5)
    assert written(path, [[data], [data]]) == 2 * data
    assert refused


@pytest.mark.parametrize("most", [BLOCK, 1000])
def test_a_write_that_takes_only_a_part_goes_on(path, monkeypatch, most):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:most])))
    data = os.urandom(5 * BLOCK + 5)
    assert written(path, [[data]]) == data


def test_another_error_is_an_error(path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="Input/output"):
        written(path, [[bytes(BLOCK)]])


def test_a_file_that_is_there_stays(path):
    assert written(path, [[b"first"]]) == b"first"
    second = NewFile(path)
    with pytest.raises(FileExistsError):
        second.finish([b"second"])
    second.discard()
    assert path.read_bytes() == b"first"


def test_nothing_is_written_after_it_was_discarded(path):
    file = NewFile(path)
    file.write([bytes(BLOCK)])
    file.discard()
    assert not path.exists()
    with pytest.raises(ValueError, match="closed"):
        file.write([b"more"])
    assert not path.exists()
