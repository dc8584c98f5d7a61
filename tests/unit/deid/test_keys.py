import base64
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.config import DeidSettings
from gateway.deid.keys import check_value, load_or_create_key
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
