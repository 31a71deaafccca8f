"""core/crypto.py"""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from core import crypto, settings

TENANT, USER = UUID(int=1), UUID(int=2)


@pytest.fixture(autouse=True)
def _development_keys(data_dir: Path) -> None:
    """The keyed hashes read the signing key of the data folder."""


def test_new_tokens_differ_and_carry_256_bits() -> None:
    tokens = {crypto.new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 for token in tokens)


def test_token_hash_is_the_sha256_of_the_text() -> None:
    assert crypto.token_hash("abc") == hashlib.sha256(b"abc").digest()


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "é" * 1000, "x" * 1_000_000])
def test_any_text_can_be_hashed(text: str) -> None:
    assert len(crypto.token_hash(text)) == len(crypto.keyed_hash("test", text)) == 32


def test_end_user_hash_is_stable_and_differs_by_tenant_and_person() -> None:
    first = crypto.end_user_hash(TENANT, USER)
    assert first == crypto.end_user_hash(TENANT, USER)
    assert (
        len({first, crypto.end_user_hash(TENANT, uuid4()), crypto.end_user_hash(uuid4(), USER)})
        == 3
    )
    assert str(USER) not in first


def test_equal_texts_of_different_purposes_do_not_match() -> None:
    assert crypto.keyed_hash("name", "ada") != crypto.keyed_hash("address", "ada")


def test_keyed_hashes_depend_on_the_signing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = crypto.keyed_hash("name", "ada")
    monkeypatch.setenv("SECRET_KEY", "another key of more than thirty-two characters")
    settings.current.cache_clear()
    try:
        assert crypto.keyed_hash("name", "ada") != before
    finally:
        monkeypatch.undo()
        settings.current.cache_clear()
