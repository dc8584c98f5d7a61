"""What a child process of a gateway is to do. The parent hands it over in memory: no key is in an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.config import Settings

#: `setup` is done once, before the others begin.
Role = Literal["setup", "http", "dicom", "jobs"]


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of a gateway, 32 bytes each: one to pseudonymise, one to seal, and what was sealed with before."""

    deid: bytes = field(repr=False)
    vault: bytes = field(repr=False)
    previous: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One role, and what it takes.

    `listener` is the socket to serve, -1 for roles that have none; what is written to `ready` is for the parent: a byte
    says that the child serves, of `setup` a JSON object tells what came of it.
    """

    role: Role
    settings: Settings
    uri: str = field(repr=False)
    keys: Keys = field(repr=False)
    dicom_address: str
    demo: bool
    listener: int = -1
    ready: int = -1
