import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deid.vault import OVERHEAD_BYTES, Vault
from gateway.errors import VaultError

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)


@given(plain=st.binary(max_size=300), context=st.binary(max_size=80))
def test_what_is_sealed_opens_in_its_place_alone(plain: bytes, context: bytes) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(plain, context)
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert vault.open(sealed, context) == plain
    with pytest.raises(VaultError):
        vault.open(sealed, context + b"x")


def test_a_seal_shows_nothing_and_no_two_are_alike() -> None:
    vault = Vault(KEY)
    seals = {vault.seal(b"DOE^JANE" * 10, b"instance:1") for _ in range(100)}
    assert len(seals) == 100
    assert not any(b"DOE" in sealed for sealed in seals)
    assert KEY not in b"".join(seals)


@pytest.mark.parametrize("at", [0, 1, 4, 5, 16, 17, -1])
def test_a_changed_seal_does_not_open(at: int) -> None:
    sealed = bytearray(Vault(KEY).seal(b"DOE^JANE", b"instance:1"))
    sealed[at] ^= 1
    with pytest.raises(VaultError) as failure:
        Vault(KEY).open(bytes(sealed), b"instance:1")
    assert "DOE" not in failure.value.message
    assert failure.value.__cause__ is None


@pytest.mark.parametrize("length", range(OVERHEAD_BYTES))
def test_what_was_cut_does_not_open(length: int) -> None:
    vault = Vault(KEY)
    with pytest.raises(VaultError):
        vault.open(vault.seal(b"", b"")[:length], b"")


def test_another_key_opens_only_if_it_is_among_the_previous() -> None:
    sealed = Vault(KEY).seal(b"DOE^JANE", b"x")
    with pytest.raises(VaultError):
        Vault(OTHER).open(sealed, b"x")
    rotated = Vault(OTHER, [KEY])
    assert rotated.open(sealed, b"x") == b"DOE^JANE"
    assert not rotated.is_current(sealed)
    again = rotated.seal(b"DOE^JANE", b"x")
    assert rotated.is_current(again)
    assert again.startswith(rotated.current)
    with pytest.raises(VaultError):
        Vault(KEY).open(again, b"x")


def test_threads_share_a_vault() -> None:
    vault = Vault(KEY)
    with ThreadPoolExecutor(8) as pool:
        seals = list(pool.map(lambda n: vault.seal(str(n).encode(), b"c"), range(500)))
    assert [vault.open(sealed, b"c") for sealed in seals] == [str(n).encode() for n in range(500)]
    assert repr(KEY)[2:-1] not in repr(vault)
