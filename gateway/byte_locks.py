"""Locks on single bytes of an open file, by which a process has its place in shared memory for as long as it lives.

They belong to the open file, not to the process (F_OFD_SETLK of Linux), and go with it however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import struct

_LOCK = struct.Struct("hhqqi")  # fcntl.h: l_type, l_whence, l_start, l_len, l_pid


def lock(file: int, position: int, *, wait: bool = False) -> bool:
    """Lock a byte of an open file; False if another has it and this is not to `wait`."""
    try:
        _call(file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, fcntl.F_WRLCK, position)
    except BlockingIOError:
        return False
    return True


def unlock(file: int, position: int) -> None:
    """Let a byte go."""
    _call(file, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, position)


def is_anothers(file: int, position: int) -> bool:
    """Whether another has locked a byte."""
    kind: int = _LOCK.unpack(_call(file, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, position))[0]
    return kind != fcntl.F_UNLCK


def _call(file: int, command: int, kind: int, position: int) -> bytes:
    return fcntl.fcntl(file, command, _LOCK.pack(kind, os.SEEK_SET, position, 1, 0))
