"""The folder of a local Ray: short enough for its sockets, and rid of what a killed owner left running.

Measured with Ray 2.60 after kill -9 of the owner: GCS, raylet and monitors die at once (the kernel's parent-death
signal), idle workers within 3 s, the raylet's two agents up to a minute later. Ray's processes overwrite their command
line, so they are recognised by the log files that they hold open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_S = 3.0
#: Longest temporary folder for which Ray's sockets below it still fit in the 107 bytes of a UNIX socket's path.
MAX_FOLDER_BYTES = 40


def short_folder(wanted: Path) -> Path:
    """Give `wanted`, or if its path is too long a private folder that stands for it, the same one each time."""
    path = os.fsencode(wanted.absolute())
    if len(path) <= MAX_FOLDER_BYTES:
        return wanted.absolute()
    name = f"isthmus-{os.getuid()}-{hashlib.sha256(path).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to someone else; choose a shorter --data folder.")
    return folder


def end_leftovers(temp_dir: Path) -> list[int]:
    """End Ray's processes of sessions under `temp_dir`, then remove these sessions. Only of this user, only of Ray.

    Blocks up to `GRACE_S` seconds. Call it only while nothing in use runs there.

    Returns
    -------
    The processes that were ended.
    """
    root = temp_dir.resolve()
    found = list(ray_processes(root))
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + GRACE_S
    while time.monotonic() < deadline_s and any(True for _ in ray_processes(root)):
        time.sleep(0.02)
    for session in root.glob("session_*"):
        if session.is_symlink():
            session.unlink(missing_ok=True)
        else:
            shutil.rmtree(session, ignore_errors=True)
    return found


def ray_processes(temp_dir: Path) -> Iterator[int]:
    """Find Ray's processes, of this user and other than this one, whose sessions lie under `temp_dir`."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid() and _is_ray(entry) and _uses(entry, f"{temp_dir}/session_"):
                yield int(entry.name)


def is_whole(temp_dir: Path) -> bool:
    """Whether a local Ray still has both processes that it cannot live without."""
    running = b"".join((Path("/proc") / str(pid) / "cmdline").read_bytes() for pid in ray_processes(temp_dir))
    return b"gcs_server" in running and b"raylet" in running


def _is_ray(process: Path) -> bool:
    command = (process / "cmdline").read_bytes()
    return command.startswith(b"ray::") or b"/ray/" in command


def _uses(process: Path, prefix: str) -> bool:
    """Whether a process names files under `prefix` in its command line, or holds one open."""
    if prefix.encode() in (process / "cmdline").read_bytes():
        return True
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith(prefix):  # noqa: PTH115 - Path.readlink would make of "socket:[1]" a path
                return True
    return False
