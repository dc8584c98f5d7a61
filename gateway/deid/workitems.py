"""De-identification of workitems: as objects of the same source, but for what the work itself runs by.

A workitem names a patient as an object does, and besides when, where and with what urgency something is to be done. The
patient, visit and request attributes, texts, UIDs and the people who perform are treated by the profile. Scheduling
times stay as they are: they say when this server is to act, not when the patient was seen, and a shifted appointment is
none. Stations stay as codes, whose values and meanings are checked like all codes. A profile's own rules come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydicom.filereader import read_dataset

from dicomweb import dicom_encode, dicom_json
from dicomweb.worklist.attributes import items
from dicomweb.worklist.table import RULES, Rule
from gateway.deid.engine import Deidentifier
from gateway.deid.header import HeaderRun
from gateway.deid.policy import Refusal
from gateway.deid.profile import load_profile

#: What PS3.15 Table E.1-1 removes unless an option retains dates or devices, and a worklist runs by; and references
#: to where things are, which name hosts, titles and original UIDs.
_OPERATIONAL: Final = MappingProxyType(
    {
        0x00080201: "keep",  # Timezone Offset From UTC, of all these times
        0x00404005: "keep",  # Scheduled Procedure Step Start DateTime
        0x00404008: "keep",  # Scheduled Procedure Step Expiration DateTime
        0x00404010: "keep",  # Scheduled Procedure Step Modification DateTime
        0x00404011: "keep",  # Expected Completion DateTime
        0x00404050: "keep",  # Performed Procedure Step Start DateTime
        0x00404051: "keep",  # Performed Procedure Step End DateTime
        0x00404052: "keep",  # Procedure Step Cancellation DateTime
        0x00404025: "keep",  # Scheduled Station Name Code Sequence
        0x00404027: "keep",  # Scheduled Station Geographic Location Code Sequence
        0x00404028: "keep",  # Performed Station Name Code Sequence
        0x00404030: "keep",  # Performed Station Geographic Location Code Sequence
        0x0040E021: "remove",  # DICOM Retrieval Sequence
        0x0040E022: "remove",  # DICOM Media Retrieval Sequence
        0x0040E023: "remove",  # WADO Retrieval Sequence
        0x0040E024: "remove",  # XDS Retrieval Sequence
        0x0040E025: "remove",  # WADO-RS Retrieval Sequence
    }
)
_PATIENT: Final = ("00100010", "00100020")


class WorkitemDeidentifier:
    """Treats workitems under one profile. Thread-safe and pure CPU: call it in a worker thread."""

    def __init__(self, deidentifier: Deidentifier) -> None:
        self._deid = deidentifier

    @classmethod
    def load(cls, profile_name: str, key: bytes, directory: Path | None = None) -> WorkitemDeidentifier | None:
        """The de-identifier of a profile of `directory`, or of those that ship; None for one that keeps everything."""
        profile = load_profile(profile_name, directory)
        if not profile.deidentify:
            return None
        return cls(Deidentifier(replace(profile, rules=_OPERATIONAL | dict(profile.rules)), key))

    def uid(self, uid: str) -> str:
        """The UID that stands for one of the caller's; one that was issued, or is registered, stays."""
        return uid if "retain-uids" in self._deid.profile.options else self._deid.uid(uid)

    def text(self, text: str) -> str:
        """Free text without what may identify."""
        return self._deid.cleaner(text)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """De-identify the attributes of a workitem, some or all; none is added, and those of type 2 stay, empty.

        Raises
        ------
        Refused : it cannot be done safely. The message holds no value.
        """
        pieces = [piece for pieces in dicom_encode.encode(dict(item)).values() for piece in pieces]
        encoded = b"".join(piece for piece in pieces if isinstance(piece, bytes))
        ds = read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)
        try:
            _Run(self._deid, ds).run()
            result = dicom_json.encode(ds)
        except Refusal:
            raise
        except Exception as exc:  # noqa: BLE001 - fail closed; `from None`, for the cause may quote values
            raise Refusal(f"The workitem could not be de-identified ({type(exc).__name__}).") from None
        kept = {tag: element for tag, element in result.items() if tag in item}
        kept = _with_empty(kept, item, RULES)
        for tag in _PATIENT:  # of nobody, nobody is made
            if tag in kept and not (item[tag].get("Value") or [None])[0]:
                kept[tag] = {"vr": kept[tag]["vr"]}
        return kept


def _with_empty(kept: Mapping[str, Any], item: Mapping[str, Any], rules: Sequence[Rule]) -> dict[str, Any]:
    """A data set in which what was taken out stays, empty, where its type is 2 (PS3.4 Table CC.2.5-3)."""
    found = dict(kept)
    for rule in rules:
        if rule.create == "2" and rule.tag in item:
            found.setdefault(rule.tag, {"vr": item[rule.tag]["vr"]})
        if rule.items and "Value" in found.get(rule.tag, {}):
            pairs = zip(items(found, rule.tag), items(item, rule.tag), strict=True)
            found[rule.tag] = {"vr": "SQ", "Value": [_with_empty(*pair, rule.items) for pair in pairs]}
    return dict(sorted(found.items()))


class _Run(HeaderRun):
    """A run over a workitem, which has neither pixels nor a storage class."""

    def _check(self) -> None:
        """Nothing to check: what a workitem may hold was checked before."""
