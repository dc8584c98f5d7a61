"""The secret of the de-identification: where it comes from, and what may be told of it."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import stat
from pathlib import Path

from gateway.config import DeidSettings
from gateway.errors import ConfigurationError

KEY_BYTES = 32
KEY_NAME = "deid.key"
#: A key drawn at random has about 30 distinct bytes of 32; fewer than 16 happens once in 10**13 keys.
_MIN_DISTINCT_BYTES = 16


def load_or_create_key(settings: DeidSettings, data_dir: Path) -> bytes:
    """Return the 32-byte key: of `deid.key`, of the file `deid.key_file`, or made once under `data_dir`.

    Raises
    ------
    ConfigurationError : if the key is short, weak or unreadable, or if others may read its file.
    """
    if settings.key:
        return _parse(settings.key, "deid.key")
    if settings.key_file is not None:
        return _read(settings.key_file)
    path = data_dir / "secrets" / KEY_NAME
    if not path.exists():
        _create(path)
    return _read(path)


def check_value(key: bytes) -> str:
    """Return 16 hexadecimal digits that tell keys apart and reveal nothing of them."""
    return derive(key, "check")[:8].hex()


def derive(key: bytes, purpose: str) -> bytes:
    """Derive the 32-byte sub-key of one purpose, so that no two uses of the secret share a domain."""
    return hmac.digest(key, b"isthmus/deid/1/" + purpose.encode("ascii"), "sha256")


def checked(key: bytes, source: str) -> bytes:
    """Return `key` if it can be one: 32 bytes that look random."""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{source} must hold {KEY_BYTES} bytes as hexadecimal or base64 digits.")
    if len(set(key)) < _MIN_DISTINCT_BYTES:
        raise ConfigurationError(f"{source} is not random enough; make one with: openssl rand -hex {KEY_BYTES}")
    return key


def _parse(text: str, source: str) -> bytes:
    digits = "".join(text.split())
    try:
        key = bytes.fromhex(digits) if len(digits) == 2 * KEY_BYTES else base64.b64decode(digits, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    return checked(key, source)


def _read(path: Path) -> bytes:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigurationError(f"Others may read the key file {path}; run: chmod 600 {path}")
        return _parse(path.read_text(encoding="ascii"), f"The key file {path}")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot read the key file {path}.") from exc


def _create(path: Path) -> None:
    """Write a new key, all of it or nothing; of two processes that start at once, one wins and both read its key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    draft = path.with_name(f"{KEY_NAME}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
