"""Settings: every key parsed once at start from defaults, the file, the environment and the command line.

Precedence, lowest first: the defaults below, the TOML file of `--config`, `ISTHMUS_SECTION__KEY` in the environment,
command-line options. Settings are frozen; each part of the gateway gets the section it needs.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from gateway.errors import ConfigurationError

ENV_PREFIX = "ISTHMUS_"
#: Sections whose keys are names of the user's choice.
_TABLES = frozenset({"remotes"})
_ORIGIN = r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_PATH = r"(/[A-Za-z0-9._~-]+)*/?"
_AE_TITLE = r"(?! )[ -\[\]-~]{1,16}(?<! )"  # PS3.5 section 6.2: no backslash, no control characters
_REMOTE_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"  # names of environment variables tell no case apart


@dataclass(frozen=True, slots=True)
class Address:
    """Host and TCP port; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT` or `[IPV6]:PORT`."""
        host, separator, port = text.rpartition(":")
        if not separator or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError("expected HOST:PORT, for example 127.0.0.1:8042")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - a bind to all is checked in validate()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Remote:
    """A DICOM node that objects may be sent to."""

    ae_title: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> Remote:
        """Read `AET@HOST:PORT`."""
        title, separator, place = text.rpartition("@")
        address = Address.parse(place)
        if not separator or not re.fullmatch(_AE_TITLE, title) or not address.port or place.startswith(":"):
            raise ValueError("expected AET@HOST:PORT, for example PACS@10.1.2.3:104")
        return cls(title, address)

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.address}"


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where the gateway keeps its own state."""

    dir: Path = Path("data")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The web server."""

    bind: Address = Address("127.0.0.1", 8042)
    workers: int = 2
    public_url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    cors_origins: tuple[str, ...] = ()
    max_part_bytes: int = 8 << 30
    max_spool_bytes: int = 16 << 30
    spool_dir: Path | None = None

    @property
    def public_path(self) -> str:
        """The path before every path of ours as callers see it: empty, or such as `/isthmus` if a proxy strips that."""
        return urlsplit(self.public_url).path.rstrip("/")


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """The DICOM listener, which is as many processes as there are HTTP workers."""

    bind: Address = Address("127.0.0.1", 11112)
    ae_title: str = "ISTHMUS"
    max_associations: int = 64
    max_pdu_bytes: int = 1 << 20
    network_timeout_s: float = 60.0
    max_instance_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may use the gateway."""

    mode: Literal["token", "none", "oidc"] = "token"
    session_hours: int = 12


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """What happens to objects on their way in."""

    profile: str = "research"
    sources: Mapping[str, str] = field(default_factory=dict)
    max_header_bytes: int = 256 << 20
    max_uploads: int = 64
    max_upload_mb: int = 64
    max_cleaning_mb: int = 512


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Where a key is: here, in a file, or with a service that a command asks; one of them, or none."""

    key: str = field(default="", repr=False)
    key_file: Path | None = None
    key_command: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DeidSettings(KeySettings):
    """Key and profiles of the de-identification."""

    profiles_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class VaultSettings(KeySettings):
    """Keys that identity is sealed with."""

    previous_key_files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class QuarantineSettings:
    """Where what was refused is kept, sealed."""

    dir: Path | None = None
    max_mb: int = 10_240
    keep_days: int = 30


@dataclass(frozen=True, slots=True)
class MongoSettings:
    """The catalogue."""

    uri: str = field(default="", repr=False)
    database: str = "isthmus"
    binary: Path | None = None
    driver: Literal["pymongo", "motor"] = "pymongo"
    cache_mb: int = 256


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The S3 object store."""

    endpoint_url: str = ""
    bucket: str = ""
    prefix: str = ""
    region: str = "us-east-1"
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    max_connections: int = 64
    cache_mb: int = 4096


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where pixels are kept."""

    backend: Literal["filesystem", "s3"] = "filesystem"
    dir: Path | None = None
    shared: bool = False
    replace: bool = False
    s3: S3Settings = S3Settings()


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What can be searched, and how much at once."""

    extra_keys: tuple[str, ...] = ()
    max_results: int = 10_000
    default_results: int = 1_000
    max_parents: int = 10_000
    max_matches: int = 0


@dataclass(frozen=True, slots=True)
class RaySettings:
    """The cluster that runs plugins."""

    enabled: bool = True
    address: str = ""
    cpus: int = 0
    object_store_mb: int = 512
    max_runs: int = 2


@dataclass(frozen=True, slots=True)
class WorklistSettings:
    """The UPS-RS worklist."""

    keep_hours: int = 168


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, one section a field."""

    data: DataSettings = DataSettings()
    http: HttpSettings = HttpSettings()
    dicom: DicomSettings = DicomSettings()
    auth: AuthSettings = AuthSettings()
    ingest: IngestSettings = field(default_factory=IngestSettings)
    deid: DeidSettings = DeidSettings()
    vault: VaultSettings = VaultSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    remotes: Mapping[str, Remote] = field(default_factory=dict)
    mongodb: MongoSettings = MongoSettings()
    storage: StorageSettings = StorageSettings()
    search: SearchSettings = SearchSettings()
    ray: RaySettings = RaySettings()
    worklist: WorklistSettings = WorklistSettings()
    log: LogSettings = LogSettings()


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read, merge and check all settings.

    Parameters
    ----------
    file : the TOML file of `--config`.
    environ : the environment; `os.environ` by default.
    overrides : dotted key -> value, from the command line.

    Raises
    ------
    ConfigurationError : naming the key, where its value came from and what is allowed.
    """
    values: dict[str, tuple[Any, str]] = {}
    if file is not None:
        values |= {key: (value, str(file)) for key, value in _flatten(_read(file)).items()}
    values |= _from_environment(os.environ if environ is None else environ)
    values |= {key: (value, "the command line") for key, value in (overrides or {}).items() if value is not None}
    settings: Settings = _build(Settings, values, "")
    if values:
        key, (_, source) = next(iter(values.items()))
        raise ConfigurationError(f"Unknown setting {key} in {source}; conf/isthmus.toml lists all of them.")
    _validate(settings)
    return settings


def forget_secrets(environ: MutableMapping[str, str]) -> None:
    """Take settings that are secrets out of an environment, so that programs that are started do not inherit them."""
    for name in [name for name in environ if name.startswith(ENV_PREFIX) and "__" in name]:
        path = name.removeprefix(ENV_PREFIX).lower().split("__")
        if _is_secret(Settings, path):
            del environ[name]


def _is_secret(section: Any, path: list[str]) -> bool:
    """Whether a setting is left out where its section is shown."""
    found = next((item for item in dataclasses.fields(section) if item.name == path[0]), None)
    if found is None or len(path) == 1:
        return found is not None and not found.repr
    kind = get_type_hints(section)[found.name]
    return dataclasses.is_dataclass(kind) and _is_secret(kind, path[1:])


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"Cannot read the configuration {file}: {exc.strerror}.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{file} is not valid TOML: {exc}.") from exc


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name != "ingest.sources":
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and "__" in name:
            found[name.removeprefix(ENV_PREFIX).lower().replace("__", ".")] = (text, f"the environment ({name})")
    return found


def _build(section: Any, values: dict[str, tuple[Any, str]], prefix: str) -> Any:
    """Make a section from the values that belong to it, removing those from `values`."""
    hints = get_type_hints(section)
    given: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        key = prefix + item.name
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind) and kind is not Address:
            given[item.name] = _build(kind, values, f"{key}.")
        elif key in _TABLES:
            names = [name for name in values if name.startswith(f"{key}.")]
            given[item.name] = {name.removeprefix(f"{key}."): _take(values, name, get_args(kind)[1]) for name in names}
        elif key in values:
            given[item.name] = _take(values, key, kind)
    return section(**given)


def _take(values: dict[str, tuple[Any, str]], key: str, kind: Any) -> Any:
    value, source = values.pop(key)
    try:
        return _convert(value, kind)
    except (ValueError, TypeError) as exc:
        raise ConfigurationError(f"{key} in {source} is not valid: {exc}.") from exc


def _convert(value: Any, kind: Any) -> Any:
    """Turn a TOML value or an environment string into the type of a field."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"expected one of {', '.join(arguments)}")
        return value
    if type(None) in arguments:
        return None if value == "" else _convert(value, next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        members = value.split(",") if isinstance(value, str) else value
        return tuple(_convert(member, arguments[0]) for member in members) if value else ()
    if origin is not None:  # a mapping: a TOML table, or JSON in the environment
        table = json.loads(value) if isinstance(value, str) else value
        return {str(name): str(item) for name, item in table.items()}
    if kind is bool:
        return _boolean(value)
    if kind in (Address, Remote):
        return kind.parse(str(value))
    if kind in (int, float) and isinstance(value, bool):
        raise ValueError("expected a number")
    return kind(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(value).lower()]
    except KeyError:
        raise ValueError("expected true or false") from None


def _validate(settings: Settings) -> None:
    """Refuse combinations that are unsafe or cannot work."""
    http = settings.http
    if settings.auth.mode == "oidc":
        raise ConfigurationError('auth.mode = "oidc" is not implemented yet; use "token".')
    if settings.auth.mode == "none" and not http.bind.is_loopback:
        raise ConfigurationError('auth.mode = "none" is only allowed when http.bind is loopback; use "token".')
    if bool(http.tls_cert) != bool(http.tls_key):
        raise ConfigurationError("http.tls_cert and http.tls_key must be set together.")
    beyond = not http.bind.is_loopback
    declared_proxy = set(http.trusted_proxies) - {"127.0.0.1", "::1"}
    if beyond and http.tls_cert is None and not declared_proxy:
        raise ConfigurationError(
            f"http.bind = {http.bind} reaches beyond this machine: set http.tls_cert and http.tls_key, "
            "or name the proxy that ends TLS in http.trusted_proxies."
        )
    _check_networks(http.trusted_proxies)
    if http.public_url and not re.fullmatch(_ORIGIN + _PATH, http.public_url):
        raise ConfigurationError("http.public_url must be a URL such as https://pacs.example.org/isthmus/.")
    if not all(re.fullmatch(_ORIGIN, origin) for origin in http.cors_origins):
        raise ConfigurationError(
            "http.cors_origins must hold origins such as https://viewer.example.org, without a path."
        )
    if http.workers < 1:
        raise ConfigurationError("http.workers must be at least 1.")
    if settings.ingest.max_uploads < 1:
        raise ConfigurationError("ingest.max_uploads must be at least 1.")
    if settings.quarantine.max_mb < 1 or settings.quarantine.keep_days < 0:
        raise ConfigurationError("quarantine.max_mb must be at least 1, quarantine.keep_days 0 or more.")
    if not all(re.fullmatch(_REMOTE_NAME, name) for name in settings.remotes):
        raise ConfigurationError("remotes must have names of lower-case letters, digits, _ and -, such as pacs-1.")
    if settings.worklist.keep_hours < 0:
        raise ConfigurationError("worklist.keep_hours must be 0 or more.")
    if not 1 <= len(settings.dicom.ae_title.strip()) <= 16:
        raise ConfigurationError("dicom.ae_title must have 1 to 16 characters.")
    if settings.storage.backend == "s3" and not settings.storage.s3.bucket:
        raise ConfigurationError('storage.s3.bucket is needed with storage.backend = "s3".')
    if settings.ray.address and settings.storage.backend == "filesystem" and not settings.storage.shared:
        raise ConfigurationError(
            "ray.address names a cluster, which must reach the pixels: use S3, or set storage.shared = true "
            "if storage.dir is mounted at the same path on every node."
        )


def _check_networks(addresses: tuple[str, ...]) -> None:
    for address in addresses:
        try:
            ipaddress.ip_network(address.strip(), strict=False)
        except ValueError as exc:
            raise ConfigurationError(
                "http.trusted_proxies must hold IP addresses or networks such as 10.1.0.0/16."
            ) from exc
