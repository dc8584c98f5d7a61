"""Search results that were encoded when they were stored: an answer is their texts, joined.

The only thing that is not known before somebody asks is how the caller reaches the server, with which Retrieve URLs
(0008,1190) begin. A NUL byte stands for it: JSON text holds none, as control characters are escaped in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import overload

from dicomweb import dicom_json
from dicomweb.ports import JsonDataSet

RETRIEVE_URL = "00081190"
_ROOT = b"\0"


def ready_text(item: JsonDataSet, path: str) -> bytes:
    """The text of an item without Retrieve URL, ascending by tag, that is retrieved at `path` below the root."""
    before = {tag: element for tag, element in item.items() if tag < RETRIEVE_URL}
    after = {tag: element for tag, element in item.items() if tag > RETRIEVE_URL}
    url = b'"%s":{"vr":"UR","Value":["%s/%s"]}' % (RETRIEVE_URL.encode(), _ROOT, path.encode())
    parts = (dicom_json.dumps(before)[1:-1], url, dicom_json.dumps(after)[1:-1])
    return b"{" + b",".join(part for part in parts if part) + b"}"


class ReadyItems(Sequence[JsonDataSet]):
    """Items as `ready_text` made them, in the order of the answer. Without a root they have no Retrieve URL."""

    def __init__(self, texts: Sequence[bytes], root: str | None = None) -> None:
        self._texts = texts
        self._root = root

    def at(self, root: str) -> ReadyItems:
        """The same for a caller who reaches the DICOMweb root at this URL."""
        return ReadyItems(self._texts, root)

    def json(self) -> bytes:
        """The JSON array of all items, once the root is known."""
        return self._known(b"[" + b",".join(self._texts) + b"]")

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> JsonDataSet: ...
    @overload
    def __getitem__(self, index: slice) -> ReadyItems: ...
    def __getitem__(self, index: int | slice) -> JsonDataSet | ReadyItems:
        if isinstance(index, slice):
            return ReadyItems(self._texts[index], self._root)
        item: JsonDataSet = json.loads(self._known(self._texts[index]))
        if self._root is None:
            del item[RETRIEVE_URL]
        return item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _known(self, text: bytes) -> bytes:
        return text.replace(_ROOT, json.dumps(self._root or "").encode()[1:-1])
