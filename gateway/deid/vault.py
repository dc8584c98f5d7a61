"""The vault: seals what names people, so that who reads the catalogue or a folder alone learns nothing.

A seal is AES-256-GCM (NIST SP 800-38D) under a random nonce. What it belongs to, such as `instance:UID`, is
authenticated with it: a seal that was moved to another place does not open there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.deid.keys import derive
from gateway.errors import VaultError

#: A seal is: version, id of the key, nonce, cipher text with its tag of 16 bytes.
_VERSION: Final = b"\x01"
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 4, 12, 16
_HEAD_BYTES: Final = 1 + _ID_BYTES
#: What a seal takes besides what is sealed.
OVERHEAD_BYTES: Final = _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES


class Vault:
    """Seals with one key, and opens what was sealed with it or with one of those before it. Thread-safe."""

    def __init__(self, key: bytes, previous: Sequence[bytes] = ()) -> None:
        """Take 32-byte keys. Random nonces allow 2**32 seals a key (SP 800-38D section 8.3)."""
        self._current = _head(key)
        #: The beginning of a seal -> the cipher that opens it.
        self._ciphers = {_head(one): AESGCM(derive(one, "vault")) for one in (*previous, key)}
        self._cipher = self._ciphers[self._current]

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt `plain`; it opens with the same context alone."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._current + nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt what `seal` made; raise VaultError if the key or the context is another, or the seal was changed."""
        cipher = self._ciphers.get(sealed[:_HEAD_BYTES])
        if cipher is None or len(sealed) < OVERHEAD_BYTES:
            raise VaultError
        start = _HEAD_BYTES + _NONCE_BYTES
        try:
            return cipher.decrypt(sealed[_HEAD_BYTES:start], sealed[start:], context)
        except InvalidTag:
            raise VaultError from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the key of today."""
        return sealed.startswith(self._current)

    @property
    def current(self) -> bytes:
        """What every seal of the key of today begins with."""
        return self._current


def _head(key: bytes) -> bytes:
    return _VERSION + derive(key, "vault-id")[:_ID_BYTES]
