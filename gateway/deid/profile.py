"""Profiles: TOML files that name options of PS3.15 Annex E and extra rules, read once and frozen."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydicom.datadict import tag_for_keyword

from gateway.errors import ConfigurationError

SHIPPED = Path(__file__).parent / "profiles"

#: Options of PS3.15 Annex E that a profile may name, with their code of CID 7050 and its meaning.
OPTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "clean-pixel-data": ("113101", "Clean Pixel Data Option"),
        "clean-recognizable-visual-features": ("113102", "Clean Recognizable Visual Features Option"),
        "clean-graphics": ("113103", "Clean Graphics Option"),
        "clean-structured-content": ("113104", "Clean Structured Content Option"),
        "clean-descriptors": ("113105", "Clean Descriptors Option"),
        "retain-full-dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
        "modified-dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
        "retain-patient-characteristics": ("113108", "Retain Patient Characteristics Option"),
        "retain-device-identity": ("113109", "Retain Device Identity Option"),
        "retain-uids": ("113110", "Retain UIDs Option"),
        "retain-safe-private": ("113111", "Retain Safe Private Option"),
        "retain-institution-identity": ("113112", "Retain Institution Identity Option"),
    }
)
#: Options that are stated of an object only where they were carried out on it: not all have pixels to look at.
PIXEL_OPTIONS = frozenset({"clean-pixel-data", "clean-recognizable-visual-features"})
#: What is done with encapsulated documents.
DOCUMENTS = ("refuse", "replace")
ACTIONS = ("keep", "clean", "empty", "remove", "dummy")
_KEYS = {"title": str, "deidentify": bool, "options": list, "documents": str, "rules": dict}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
#: Attributes that always carry the pseudonym.
_PATIENT = {0x00100010: "PatientName", 0x00100020: "PatientID"}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile asks for. `rules` maps tags to one of ACTIONS; `documents` is one of DOCUMENTS."""

    name: str
    title: str
    deidentify: bool = True
    options: frozenset[str] = frozenset()
    documents: str = "refuse"
    rules: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


def load_profile(name: str, directory: Path | None = None) -> Profile:
    """Read the profile `name` from `directory` if it is there, else the one that ships.

    Raises
    ------
    ConfigurationError : naming the file and the key.
    """
    file = _find(name, directory)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"Cannot read the profile {file}: {exc.strerror}.") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{file} is not valid TOML: {exc}.") from exc
    return _parse(name, content, file)


def _find(name: str, directory: Path | None) -> Path:
    folders = [folder for folder in (directory, SHIPPED) if folder is not None]
    if _NAME.fullmatch(name):
        for folder in folders:
            if (folder / f"{name}.toml").is_file():
                return folder / f"{name}.toml"
    known = sorted({file.stem for folder in folders for file in folder.glob("*.toml")})
    raise ConfigurationError(f"There is no de-identification profile {name!r}; there are: {', '.join(known)}.")


def _parse(name: str, content: Mapping[str, Any], file: Path) -> Profile:
    for key, value in content.items():
        if key not in _KEYS:
            raise ConfigurationError(f"Unknown key {key} in {file}; it may hold {', '.join(_KEYS)}.")
        if not isinstance(value, _KEYS[key]):
            raise ConfigurationError(f"{key} in {file} must be a {_KEYS[key].__name__}.")
    options = content.get("options", [])
    for option in options:
        if option not in OPTIONS:
            raise ConfigurationError(f"options in {file}: {option!r} is not one of {', '.join(OPTIONS)}.")
    if {"modified-dates", "retain-full-dates"} <= set(options):
        raise ConfigurationError(f"options in {file}: choose one of modified-dates and retain-full-dates.")
    documents = content.get("documents", "refuse")
    if documents not in DOCUMENTS:
        raise ConfigurationError(f"documents in {file} must be one of {', '.join(DOCUMENTS)}.")
    return Profile(
        name=name,
        title=content.get("title", name),
        deidentify=content.get("deidentify", True),
        options=frozenset(options),
        documents=documents,
        rules=MappingProxyType(_rules(content.get("rules", {}), file)),
    )


def _rules(table: Mapping[str, Any], file: Path) -> dict[int, str]:
    rules: dict[int, str] = {}
    for attribute, action in table.items():
        tag = int(attribute, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", attribute) else tag_for_keyword(attribute)
        if tag is None or tag >> 16 & 1:
            raise ConfigurationError(
                f"rules.{attribute} in {file} is neither a keyword of PS3.6 nor a tag like 00081030."
            )
        if tag in _PATIENT:
            raise ConfigurationError(f"rules.{attribute} in {file}: {_PATIENT[tag]} always carries the pseudonym.")
        if action not in ACTIONS:
            raise ConfigurationError(f"rules.{attribute} in {file} must be one of {', '.join(ACTIONS)}.")
        rules[tag] = action
    return rules
