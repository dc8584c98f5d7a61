import base64
import hashlib
import logging
import secrets
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.assignment import Assignment, Keys
from gateway.config import DeidSettings, Settings, VaultSettings, load
from gateway.deid.keys import check_value, load_keys, load_or_create_key
from gateway.errors import ConfigurationError


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key = load_or_create_key(DeidSettings(), tmp_path)
    assert len(key) == 32
    assert load_or_create_key(DeidSettings(), tmp_path) == key
    folder = tmp_path / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_or_create_key(DeidSettings(), tmp_path), range(8)))
    assert len(keys) == 1
    assert len(list((tmp_path / "secrets").iterdir())) == 1


def test_a_configured_key_may_be_hexadecimal_or_base64(tmp_path: Path) -> None:
    key = secrets.token_bytes(32)
    for text in (key.hex(), base64.b64encode(key).decode()):
        assert load_or_create_key(DeidSettings(key=text), tmp_path) == key
    assert not (tmp_path / "secrets").exists()


def test_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    key = secrets.token_bytes(32)
    file.write_text(key.hex() + "\n")
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_or_create_key(DeidSettings(key_file=file), tmp_path)
    file.chmod(0o600)
    assert load_or_create_key(DeidSettings(key_file=file), tmp_path) == key


@pytest.mark.parametrize("text", ["secret", "00" * 32, "ab" * 31, "zz" * 32, base64.b64encode(b"x" * 32).decode()])
def test_short_and_weak_keys_are_refused_without_quoting_them(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        load_or_create_key(DeidSettings(key=text), tmp_path)
    assert text not in failure.value.message
    assert "deid.key" in failure.value.message


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Cannot read"):
        load_or_create_key(DeidSettings(key_file=tmp_path / "none"), tmp_path)


def test_check_values_tell_keys_apart_and_reveal_nothing() -> None:
    key = bytes(range(32))
    assert len(check_value(key)) == 16
    assert check_value(key) != check_value(bytes(range(1, 33)))
    assert check_value(key) not in key.hex()


@pytest.mark.parametrize(
    "key",
    [
        bytes(range(32)),
        bytes(range(255, 223, -1)),
        bytes(range(0, 96, 3)),
        hashlib.sha256(b"half").digest()[:16] * 2,
        b"correct horse battery staple 123",
        hashlib.sha256(b"password").digest(),
        hashlib.sha256(b"").digest(),
        bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
    ],
)
def test_keys_that_others_know_are_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"vault\.key|key file"):
        load_or_create_key(VaultSettings(key=key.hex()), tmp_path, "vault")
    file = tmp_path / "key"
    file.write_bytes(base64.b64encode(key))
    file.chmod(0o600)
    with pytest.raises(ConfigurationError) as failure:
        load_or_create_key(VaultSettings(key_file=file), tmp_path, "vault")
    assert key.hex() not in failure.value.message


def said(text: str) -> str:
    """A command that prints a text."""
    return f"{sys.executable} -c \"print('{text}')\""


def test_a_command_says_the_key(tmp_path: Path) -> None:
    key = secrets.token_bytes(32)
    for text in (key.hex(), base64.b64encode(key).decode()):
        assert load_or_create_key(DeidSettings(key_command=said(text)), tmp_path) == key
    assert not (tmp_path / "secrets").exists()


@pytest.mark.parametrize(
    "command",
    [
        said("00" * 32),
        said("hush"),
        f"{sys.executable} -c \"import sys; sys.stderr.write('hush'); sys.exit('hush')\"",
        f"{sys.executable} -c \"import os; os.write(1, b'hush' + bytes([255]))\"",
        "/no/such/hush",
        "'hush",
        " ",
    ],
)
def test_a_command_that_says_no_key(
    tmp_path: Path, command: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError, match=r"vault\.key_command") as failure:
        load_or_create_key(VaultSettings(key_command=command), tmp_path, "vault")
    assert "hush" not in failure.value.message + caplog.text + "".join(capfd.readouterr())
    assert failure.value.__cause__ is None
    assert not (tmp_path / "secrets").exists()


def test_no_shell_sees_a_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        load_or_create_key(DeidSettings(key_command=f"{said('x')} > {tmp_path}/made; touch {tmp_path}/made"), tmp_path)
    assert not (tmp_path / "made").exists()


def test_a_command_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.deid.keys._COMMAND_TIMEOUT_S", 0.2)
    with pytest.raises(ConfigurationError, match="did not end"):
        load_or_create_key(DeidSettings(key_command=f"{sys.executable} -c 'import time; time.sleep(60)'"), tmp_path)


def test_a_key_is_set_in_one_way(tmp_path: Path) -> None:
    key = secrets.token_hex(32)
    for several in ({"key_file": tmp_path / "k"}, {"key_command": said(key)}):
        with pytest.raises(ConfigurationError, match=r"Set one of vault\.key, vault\.key_") as failure:
            load_or_create_key(VaultSettings(key=key, **several), tmp_path, "vault")
        assert key not in failure.value.message


def settings(**environment: str) -> Settings:
    return load(None, {f"ISTHMUS_{name}": value for name, value in environment.items()})


def test_each_purpose_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = load_keys(settings(), tmp_path)
    assert len({keys.deid, keys.vault}) == 2
    assert keys == load_keys(settings(), tmp_path)
    assert {file.name for file in (tmp_path / "secrets").iterdir()} == {"deid.key", "vault.key"}
    for same in ({"DEID__KEY": keys.vault.hex()}, {"VAULT__KEY": keys.deid.hex()}):
        with pytest.raises(ConfigurationError, match="must differ"):
            load_keys(settings(**same), tmp_path)


def test_keys_of_before(tmp_path: Path) -> None:
    former = [secrets.token_bytes(32) for _ in range(2)]
    for number, key in enumerate(former):
        (tmp_path / f"{number}.key").write_text(key.hex())
        (tmp_path / f"{number}.key").chmod(0o600)
    files = ",".join(str(tmp_path / f"{number}.key") for number in range(2))
    assert load_keys(settings(VAULT__PREVIOUS_KEY_FILES=files), tmp_path).previous == tuple(former)
    (tmp_path / "1.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_keys(settings(VAULT__PREVIOUS_KEY_FILES=files), tmp_path)


def test_nothing_that_is_passed_on_shows_a_key() -> None:
    keys = Keys(*(secrets.token_bytes(32) for _ in range(2)), (secrets.token_bytes(32),))
    given = settings(VAULT__KEY=keys.vault.hex(), DEID__KEY_COMMAND="kms get hush")
    shown = repr(Assignment("jobs", given, "mongodb://hush", keys, "", demo=False)) + repr(keys)
    assert "hush" not in shown
    for key in (keys.deid, keys.vault, *keys.previous):
        assert key.hex() not in shown
        assert repr(key)[2:-1] not in shown
