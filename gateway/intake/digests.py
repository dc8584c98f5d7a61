"""Digests of stored files and of what makes two objects the same, in BLAKE3: 0.5 MB take it 0.07 ms, SHA-256 0.3 ms."""

from __future__ import annotations

from blake3 import blake3

from gateway.intake.source import Buffer

#: Bytes of the header of a pixel element as it is stored; its value follows.
_PIXEL_HEAD_BYTES = 12


class FileDigest:
    """The digest of a stored file: of the digest of what comes before its pixel value, and of that of the rest."""

    def __init__(self, pixel_offset: int) -> None:
        """Take where the pixel element starts, or 0 if there is none."""
        self._head_left = pixel_offset + _PIXEL_HEAD_BYTES if pixel_offset else -1
        self._head, self._rest = blake3(), blake3()

    def update(self, data: Buffer) -> None:
        """Go on with these bytes of the file."""
        if self._head_left < 0:
            self._head.update(data)
            return
        head = data[: self._head_left]
        self._head_left -= len(head)
        self._head.update(head)
        self._rest.update(data[len(head) :])

    def rest(self) -> bytes:
        """The digest of what has come after the head by now."""
        return self._rest.digest()

    def digest(self) -> bytes:
        """The digest of the file, 32 bytes."""
        return blake3(self._head.digest() + self._rest.digest()).digest()


class InstanceDigests:
    """The `checksum` of an instance's file and the sameness of what was `received` and of what is `stored`.

    Sameness is a keyed digest of a data set's elements before the pixel value, the digest of that value, and what
    follows it: the bytes of pixels are hashed once for all. What of them was blanked, if anything was, is hashed apart.
    """

    def __init__(self, key: bytes, received: Buffer, stored: Buffer, pixel_offset: int) -> None:
        """Take the elements before the pixel value, as they came and as they are kept."""
        self._file = FileDigest(pixel_offset)
        self._received, self._stored = blake3(received, key=key), blake3(stored, key=key)
        self._removed = blake3()
        self._has_removed = False
        self.checksum = self.received = self.stored = b""

    def remove(self, data: Buffer) -> None:
        """Note bytes of the pixel value that are zeros in the file; if they came as zeros, nothing is removed."""
        self._removed.update(data)
        self._has_removed = self._has_removed or bool(bytes(data).strip(b"\0"))

    def update(self, data: Buffer) -> None:
        """Go on with these bytes of the file, up to the end of the pixel value."""
        self._file.update(data)

    def end(self, received: Buffer, kept: Buffer) -> None:
        """Take what followed the pixel value and what of it is kept."""
        value = self._file.rest()
        if self._has_removed:
            self._received.update(self._removed.digest())
        self.received = self._received.update(value).update(received).digest()
        self.stored = self._stored.update(value).update(kept).digest()
        self._file.update(kept)
        self.checksum = self._file.digest()
