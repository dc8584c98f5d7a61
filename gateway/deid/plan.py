"""What a profile does with each attribute: PS3.15 Table E.1-1 with its options, and a rule by VR for all the rest.

An attribute that no rule knows does not pass: unknown tags, private ones and binary values outside the modules that
need them are removed, text is cleaned, dates, UIDs and names are replaced.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid import graphics
from gateway.deid.profile import Profile
from gateway.deid.tables import safe_private, table
from gateway.deid.values import read


class Action(StrEnum):
    """What is done with the value of an attribute."""

    __hash__ = str.__hash__  # that of Enum is a Python function, called for each element and set of actions

    KEEP = "kept"
    TRANSCODE = "kept as it is"
    CLEAN = "cleaned"
    CODE_STRING = "checked term"
    CODE = "checked code"
    NUMBER = "checked number"
    DATE = "date moved"
    TIME = "checked time"
    OFFSET = "checked offset"
    AGE = "age capped"
    UID = "UID replaced"
    RECURSE = "items de-identified"
    EMPTY = "emptied"
    DUMMY = "replaced"
    REMOVE = "removed"


#: Actions after which nothing of the value is left.
REMOVALS: Final = frozenset({Action.REMOVE, Action.EMPTY, Action.DUMMY})
#: VRs whose values are text.
STRINGS: Final = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_TEXT: Final = ("LO", "SH", "ST", "LT", "UT", "UC")
_NUMERIC: Final = ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "US or SS")
#: The rule for attributes that the standard's table leaves alone or says to keep clean.
_BY_VR: Final = {
    **dict.fromkeys(_TEXT, Action.CLEAN),
    **dict.fromkeys(_NUMERIC, Action.KEEP),
    **dict.fromkeys(("DS", "IS"), Action.NUMBER),
    **dict.fromkeys(("DA", "DT"), Action.DATE),
    **dict.fromkeys(("PN", "AE", "UR"), Action.EMPTY),
    "CS": Action.CODE_STRING,
    "TM": Action.TIME,
    "AS": Action.AGE,
    "UI": Action.UID,
    "SQ": Action.RECURSE,
}
#: Groups whose binary attributes are pixels, waveforms, surfaces, spectra, vectors and look-up tables.
_BINARY_GROUPS: Final = {
    *(0x0018, 0x0022, 0x0028, 0x003A, 0x0064, 0x0066, 0x006A, 0x0070, 0x0080, 0x300A, 0x5400, 0x5600, 0x7FE0)
}
#: What the compound actions come to. A dummy is valid whatever the attribute's type, and so is a zero length where the
#: table offers Z (PS3.15 E.1.1: the type decides; PS3.5 7.4: type 3 may be empty).
_BASIC: Final = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "X/Z": Action.EMPTY,
    "D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "U": Action.UID,
    "X/Z/U*": Action.RECURSE,
}
#: Sequences that the table replaces: their items are rebuilt from what is safe in them, or they go.
_SEQUENCES: Final = {
    0x00081110: Action.RECURSE,  # Referenced Study Sequence: UIDs alone; empty it would be invalid
    0x00081111: Action.RECURSE,  # Referenced Performed Procedure Step Sequence: UIDs alone
    0x00340001: Action.REMOVE,  # Flow Identifier Sequence
    0x0040A073: Action.RECURSE,  # Verifying Observer Sequence
    0x0040A730: Action.RECURSE,  # Content Sequence
    0x00700001: Action.RECURSE,  # Graphic Annotation Sequence
    0x00401101: Action.DUMMY,  # Person Identification Code Sequence
}
#: What the table forgets: a length of old that no longer holds, envelopes of other de-identifiers, and parameters of
#: signatures that went.
_FORGOTTEN: Final = {0x00080001: Action.REMOVE, 0x04000500: Action.REMOVE, 0x4FFE0001: Action.REMOVE}
#: Clinical Trial Protocol Ethics Committee Name may stand beside its approval number alone, which the table removes.
_ORPHANS: Final = {0x00120081}
_CODE_TAGS: Final = {0x00080100, 0x00080102, 0x00080104, 0x00080119, 0x00080120}
_TEXT_VALUE: Final = 0x0040A160
_TIMEZONE_OFFSET: Final = 0x00080201
_CHARACTER_SET: Final = 0x00080005


#: Overlay planes are removed unless they are cleaned; what stays of one then.
_OVERLAYS: Final = {
    group << 16 | element: vr for group in graphics.GROUPS for element, vr in graphics.ATTRIBUTES.items()
}


def listed_vr(tag: int) -> str | None:
    """The VR of an attribute in PS3.6, overlay planes that stay included; None if there is no such attribute."""
    entry = DicomDictionary.get(tag)
    return entry[0] if entry else _OVERLAYS.get(tag)


class Plan:
    """The action of one profile for every attribute."""

    def __init__(self, profile: Profile) -> None:
        self._options = profile.options
        self._keeps_dates = bool(profile.options & {"modified-dates", "retain-full-dates"})
        self._actions = {tag: self._decide(tag) for tag in DicomDictionary}
        if "clean-graphics" in profile.options:
            self._actions |= {tag: self.by_vr(tag, vr) for tag, vr in _OVERLAYS.items()}
        self._actions |= {tag: self._ruled(tag, action) for tag, action in profile.rules.items()}
        self._resolved: dict[tuple[int, str | None], tuple[Action, str]] = {}
        self.keeps_safe_private = "retain-safe-private" in profile.options

    def action(self, tag: int) -> Action:
        """Return what to do with a standard attribute; one that PS3.6 does not list is removed."""
        return self._actions.get(tag, Action.REMOVE)

    def resolve(self, tag: int, declared: str | None) -> tuple[Action, str]:
        """Return the action for an element and the VR to read it by, given the VR that the element declares."""
        resolved = self._resolved.get((tag, declared))
        if resolved is None:
            resolved = self._resolve(tag, declared)
            if tag in self._actions:  # so that what is remembered is bounded
                self._resolved[tag, declared] = resolved
        return resolved

    def rule(self, ds: Dataset, tag: BaseTag, declared: str | None) -> tuple[Action, str]:
        """Return the action for an element of a data set and the VR to read it by.

        A private element stays if the profile says so and its creator and number are on the safe list; creators stay
        or go with what they created.
        """
        if not tag & 0x10000:
            return self.resolve(int(tag), declared)  # to compare two of pydicom's tags is to call Python
        if self.keeps_safe_private:
            if tag & 0xFFFF < 0x1000:
                return Action.KEEP, "LO"
            creator = read(ds, (tag & 0xFFFF0000) | (tag & 0xFF00) >> 8).strip()
            safe = safe_private().get((tag >> 16, creator, tag & 0xFF))
            vr = safe.vr(declared) if safe is not None else None
            if safe is not None and vr is not None:
                return Action.UID if safe.disposition == "h" else self.by_vr(tag, vr), vr
        return Action.REMOVE, "UN"

    def _resolve(self, tag: int, declared: str | None) -> tuple[Action, str]:
        """Reconcile the declared VR with that of PS3.6; where they cannot both be true, the stricter rule holds."""
        action = self.action(tag)
        vr = listed_vr(tag)
        if vr is None:
            return action, declared or "UN"
        if not declared or declared in {"UN", vr} or action is Action.REMOVE:
            return action, vr
        if vr in STRINGS and declared in STRINGS:
            return action, vr
        if vr in STRINGS or "SQ" in {vr, declared}:
            return Action.REMOVE, vr  # text in disguise, or items that are none
        if declared in STRINGS:
            return self.by_vr(tag, declared), declared
        if declared in _NUMERIC or vr not in _NUMERIC:
            return action, declared
        return Action.REMOVE, vr  # bytes in place of numbers

    def by_vr(self, tag: int, vr: str) -> Action:
        """Return what to do with an attribute about which nothing is known but its VR."""
        if not self._keeps_dates and vr in {"DA", "DT", "TM"}:
            return Action.EMPTY
        if vr not in _BY_VR:  # OB, OW and the like
            is_table = tag >> 16 in _BINARY_GROUPS or tag in _OVERLAYS
            return Action.KEEP if is_table and vr not in {"UN", "NONE"} else Action.REMOVE
        return _BY_VR[vr]

    def _decide(self, tag: int) -> Action:
        group, element, vr = tag >> 16, tag & 0xFFFF, DicomDictionary[tag][0]
        if group < 0x0008 or element == 0 or tag == _CHARACTER_SET or not DicomDictionary[tag][4]:
            return Action.REMOVE  # group lengths, other layers' groups, blanked entries; the character set is made anew
        if tag in _CODE_TAGS:
            return Action.CODE
        basic, options = table().get(f"{tag:08X}", ("", {}))
        chosen = [(option, options[option]) for option in sorted(options) if option in self._options]
        if chosen:
            return self._optional(tag, vr, *min(chosen, key=lambda choice: choice[1] == "K"))
        if tag == _TEXT_VALUE and "clean-structured-content" not in self._options:
            return Action.DUMMY
        if not basic:
            return _FORGOTTEN.get(tag) or self.by_vr(tag, vr)
        if tag in _ORPHANS:
            return Action.REMOVE
        if vr == "SQ" and ("D" in basic or tag in _SEQUENCES):
            return _SEQUENCES.get(tag, Action.REMOVE)
        return Action.UID if vr == "UI" and "D" in basic else _BASIC[basic]

    def _optional(self, tag: int, vr: str, option: str, action: str) -> Action:
        """Resolve K and C of an option column; where both are asked for, C comes first."""
        if tag == _TIMEZONE_OFFSET:
            return Action.OFFSET
        if option in {"modified-dates", "retain-full-dates"} and vr not in {"DA", "DT", "TM"}:
            return Action.REMOVE  # time stamps signed or counted by machines, OB
        if action == "K" and option != "retain-patient-characteristics" and vr in {*_TEXT, "UI", "AE", "PN", "CS"}:
            return Action.TRANSCODE
        if action == "K" and vr in {"DA", "DT", "TM"}:
            return _BY_VR[vr]  # moved only if the profile moves dates: then C of that option came first
        return self.by_vr(tag, vr)

    def _ruled(self, tag: int, action: str) -> Action:
        vr = DicomDictionary[tag][0] if tag in DicomDictionary else "UN"
        if action == "keep":
            return Action.RECURSE if vr == "SQ" else Action.TRANSCODE
        return {
            "clean": self.by_vr(tag, vr),
            "empty": Action.EMPTY,
            "remove": Action.REMOVE,
            "dummy": Action.REMOVE if vr == "SQ" else Action.DUMMY,
        }[action]
