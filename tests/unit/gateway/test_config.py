"""Settings: defaults, precedence, refusals, and conf/isthmus.toml telling the truth."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from gateway.config import Address, Remote, Settings, load
from gateway.errors import ConfigurationError

CONF = Path(__file__).resolve().parents[3] / "conf"


def keys(section: object, prefix: str = "") -> set[str]:
    found = set()
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, Address):
            found |= keys(value, f"{prefix}{item.name}.")
        else:
            found.add(prefix + item.name)
    return found


def documented(tree: dict, prefix: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        nested = isinstance(value, dict) and name not in ("sources", "remotes")
        found |= documented(value, f"{prefix}{name}.") if nested else {prefix + name}
    return found


def test_every_key_is_documented_with_its_default() -> None:
    text = (CONF / "isthmus.toml").read_text()
    assert documented(tomllib.loads(text)) == keys(Settings())
    assert load(CONF / "isthmus.toml", {}) == Settings()
    for line in text.splitlines():
        assert "=" not in line.split("#")[0] or "#" in line, f"no comment: {line}"


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[http]\nbind = "127.0.0.1:1"\nworkers = 3\n[ingest.sources]\nCT1 = "none"\n')
    settings = load(file, {"ISTHMUS_HTTP__BIND": "127.0.0.1:2"}, {"http.workers": 4, "data.dir": None})
    assert settings.http.bind == Address("127.0.0.1", 2)
    assert settings.http.workers == 4
    assert settings.ingest.sources == {"CT1": "none"}


def test_remotes_come_from_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[remotes]\npacs = "PACS@10.1.2.3:104"\nold = "OLD@old.example.org:104"\n')
    settings = load(file, {"ISTHMUS_REMOTES__OLD": "NEW ONE@[::1]:11112", "ISTHMUS_REMOTES__THIRD": "T@h:1"})
    assert settings.remotes == {
        "pacs": Remote("PACS", Address("10.1.2.3", 104)),
        "old": Remote("NEW ONE", Address("::1", 11112)),
        "third": Remote("T", Address("h", 1)),
    }
    assert [str(settings.remotes[name]) for name in ("pacs", "old")] == ["PACS@10.1.2.3:104", "NEW ONE@[::1]:11112"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ISTHMUS_HTTP__WORKERS": "many"}, "http.workers in the environment (ISTHMUS_HTTP__WORKERS)"),
        ({"ISTHMUS_HTTP__BIND": "8042"}, "HOST:PORT"),
        ({"ISTHMUS_HTTP__PORT": "1"}, "Unknown setting http.port"),
        ({"ISTHMUS_AUTH__MODE": "maybe"}, "token, none, oidc"),
        ({"ISTHMUS_AUTH__MODE": "none", "ISTHMUS_HTTP__BIND": "0.0.0.0:8042"}, "loopback"),
        ({"ISTHMUS_HTTP__BIND": "0.0.0.0:8042"}, "http.tls_cert"),
        ({"ISTHMUS_HTTP__TLS_CERT": "/x"}, "together"),
        ({"ISTHMUS_STORAGE__BACKEND": "s3"}, "storage.s3.bucket"),
        ({"ISTHMUS_RAY__ADDRESS": "10.0.0.1:6379"}, "storage.shared"),
        ({"ISTHMUS_DICOM__AE_TITLE": ""}, "ae_title"),
        ({"ISTHMUS_HTTP__PUBLIC_URL": "pacs.example.org"}, "http.public_url"),
        ({"ISTHMUS_HTTP__PUBLIC_URL": "https://pacs.example.org/?a=b"}, "http.public_url"),
        ({"ISTHMUS_HTTP__CORS_ORIGINS": "https://viewer.example.org/"}, "http.cors_origins"),
        ({"ISTHMUS_RAY__ENABLED": "perhaps"}, "true or false"),
        ({"ISTHMUS_QUARANTINE__MAX_MB": "0"}, "quarantine.max_mb"),
        ({"ISTHMUS_REMOTES__PACS": "PACS"}, "remotes.pacs in the environment (ISTHMUS_REMOTES__PACS)"),
        ({"ISTHMUS_REMOTES__PACS": "10.1.2.3:104"}, "AET@HOST:PORT"),
        ({"ISTHMUS_REMOTES__PACS": "PACS@:104"}, "AET@HOST:PORT"),
        ({"ISTHMUS_REMOTES__PACS": "PACS@10.1.2.3:0"}, "AET@HOST:PORT"),
        ({"ISTHMUS_REMOTES__PACS": "A\\B@10.1.2.3:104"}, "AET@HOST:PORT"),
        ({"ISTHMUS_REMOTES__PACS": "ABCDEFGHIJKLMNOPQ@10.1.2.3:104"}, "AET@HOST:PORT"),
        ({"ISTHMUS_REMOTES__MY PACS": "PACS@10.1.2.3:104"}, "remotes must have names"),
    ],
)
def test_refusals_say_what_to_do(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, environment)
    assert said in caught.value.message
    assert caught.value.message.endswith(".")


def test_secrets_do_not_print() -> None:
    settings = load(None, {"ISTHMUS_DEID__KEY": "hush-hush", "ISTHMUS_MONGODB__URI": "mongodb://u:hush@h/"})
    assert "hush" not in repr(settings)


def test_missing_file() -> None:
    with pytest.raises(ConfigurationError, match="Cannot read"):
        load(Path("/nowhere.toml"), {})
