"""The secrets of de-identification and vault: where they come from, and what may be told of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import shlex
import stat
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.assignment import Keys
from gateway.config import KeySettings, Settings
from gateway.errors import ConfigurationError

KEY_BYTES = 32
#: A key drawn at random has about 30 distinct bytes of 32; fewer than 16 happens once in 10**13 keys.
_MIN_DISTINCT_BYTES = 16


#: Keys that are printed somewhere: the example of NIST SP 800-38A for AES-256, and hashes of what people type first.
_PUBLISHED: Final = frozenset(
    [bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")]
    + [
        hashlib.sha256(word.encode("ascii")).digest()
        for word in ("", "0", "admin", "changeme", "default", "isthmus", "key", "password", "secret", "test", "vault")
    ]
)
_COMMAND_TIMEOUT_S: Final = 30.0


def load_keys(settings: Settings, data_dir: Path) -> Keys:
    """Return the keys of de-identification and vault, each made once under `data_dir` if none is set.

    Raises
    ------
    ConfigurationError : as `load_or_create_key`, or if one key is to serve for both.
    """
    deid = load_or_create_key(settings.deid, data_dir)
    vault = load_or_create_key(settings.vault, data_dir, "vault")
    previous = tuple(_read(path) for path in settings.vault.previous_key_files)
    if deid in (vault, *previous):
        raise ConfigurationError("deid.key and vault.key must differ: who may pseudonymise must not be able to reveal.")
    return Keys(deid, vault, tuple(key for key in previous if key != vault))


def load_or_create_key(settings: KeySettings, data_dir: Path, section: str = "deid") -> bytes:
    """Return a 32-byte key: of `key`, of the file `key_file`, said by `key_command`, or made once under `data_dir`.

    Raises
    ------
    ConfigurationError : if the key is short, weak or unreadable, if others may read its file, or if it is set twice.
    """
    given = [name for name in ("key", "key_file", "key_command") if getattr(settings, name)]
    if len(given) > 1:
        raise ConfigurationError(f"Set one of {', '.join(f'{section}.{name}' for name in given)}, not several.")
    if settings.key:
        return _parse(settings.key, f"{section}.key")
    if settings.key_file is not None:
        return _read(settings.key_file)
    if settings.key_command:
        return _parse(_said(settings.key_command, f"{section}.key_command"), f"What {section}.key_command says")
    path = data_dir / "secrets" / f"{section}.key"
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
    if _is_known(checked(key, source)):
        raise ConfigurationError(f"{source} is one that others know; make one with: openssl rand -hex {KEY_BYTES}")
    return key


def _is_known(key: bytes) -> bool:
    """Whether a key was not drawn at random: bytes that repeat, or go on in equal steps as 00 01 02 does, or a word."""
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    is_text = key.isascii() and key.decode().isprintable()
    return len(steps) <= 2 or key[:16] == key[16:] or is_text or key in _PUBLISHED


def _said(command: str, source: str) -> str:
    """What a command of a key service prints. Nothing of it, nor of its errors, may be told on."""
    try:
        done = subprocess.run(  # noqa: S603 - the operator names the command; no shell sees it
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_TIMEOUT_S,
            check=True,
        )
        return done.stdout.decode("ascii")
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{source} did not end within {_COMMAND_TIMEOUT_S:.0f} seconds.") from None
    except subprocess.CalledProcessError as exc:
        raise ConfigurationError(f"{source} failed with exit code {exc.returncode}.") from None
    except (OSError, ValueError, IndexError):  # no such program or none at all, unbalanced quotes, no ASCII
        raise ConfigurationError(f"{source} cannot be run, or prints no key.") from None


def _read(path: Path) -> bytes:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigurationError(f"Others may read the key file {path}; run: chmod 600 {path}")
        return _parse(path.read_text(encoding="ascii"), f"The key file {path}")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"Cannot read the key file {path}.") from exc


def _create(path: Path) -> None:
    """Write a new key, all of it or nothing; of two processes that start at once, one wins and both read its key."""
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # others might put theirs in place
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
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
