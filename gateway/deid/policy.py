"""Which objects de-identification can answer for, and which it must turn away."""

from __future__ import annotations

from typing import Final

from pydicom._uid_dict import UID_dictionary

from dicomweb.errors import Refused

_MAX_DEPTH: Final = 64
_MAX_ELEMENTS: Final = 4_000_000
_RAW_DATA: Final = "1.2.840.10008.5.1.4.1.1.66"
_INVENTORY: Final = "1.2.840.10008.5.1.4.1.1.201.1"
#: Basic Voice Audio, General Audio, and the trial's Audio SR.
_SOUNDS: Final = frozenset(
    {"1.2.840.10008.5.1.4.1.1.9.4.1", "1.2.840.10008.5.1.4.1.1.9.4.2", "1.2.840.10008.5.1.4.1.1.88.2"}
)
#: Label Map and Height Map Segmentation Storage, which the registry of pydicom 3.0 does not have yet.
_RECENT: Final = frozenset({"1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.66.8"})


_NO: Final = frozenset({"", "NO"})
_LABELS: Final = frozenset({"LABEL", "OVERVIEW"})


class Refusal(Refused):
    """De-identification refuses this object."""


def check_class(sop_class_uid: str, *, has_directory: bool) -> None:
    """Raise Refusal for classes that hold directories, voices, or bytes that nobody can look into."""
    if has_directory:
        raise Refusal("A DICOMDIR names patients and files; send the files themselves.")
    if sop_class_uid == _INVENTORY:
        raise Refusal("An inventory names patients and files; send the files themselves.")
    if sop_class_uid in _SOUNDS:
        raise Refusal("A recording of sound may hold a voice, which nobody here listens to.")
    if sop_class_uid == _RAW_DATA or sop_class_uid not in _STORAGE:
        raise Refusal("The SOP class is not a storage class that can be de-identified.")


def check_pixels(*, burned_in: str, image_type: str, label_in_image: str, hidden_overlay: bool) -> None:
    """Raise Refusal if the object says that its pixels show identity, or may hide it; what is not NO may be YES."""
    if burned_in not in _NO and _terms(burned_in) - _NO:
        raise Refusal("The object says that identity is burned into its pixels, which the profile does not clean.")
    if (label_in_image not in _NO and _terms(label_in_image) - _NO) or _LABELS & _terms(image_type):
        raise Refusal("The image shows the label of a slide.")
    if hidden_overlay:
        raise Refusal("An overlay lies in unused bits of the pixel data.")


def _terms(text: str) -> set[str]:
    """The terms of a Code String, however they are written."""
    return {term for value in text.upper().split("\\") if (term := value.strip(" \0"))}


def check_limits(*, depth: int, elements: int) -> None:
    """Raise Refusal if a header is nested too deep or has too many elements to be gone through safely."""
    if depth > _MAX_DEPTH:
        raise Refusal(f"Sequences are nested more than {_MAX_DEPTH} deep.")
    if elements > _MAX_ELEMENTS:
        raise Refusal(f"The header has more than {_MAX_ELEMENTS} elements.")


def _storage_classes() -> frozenset[str]:
    """Storage classes of PS3.4 Annexes B.5 and GG.3 as PS3.6 registers them, with the retired ones."""
    return _RECENT | frozenset(
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith("1.2.840.10008.5.1.4.")
    )


_STORAGE: Final = _storage_classes()
