"""The environment is read once; production starts with real secrets or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from core import settings
from core.settings import SettingsRefused

GOOD = "k3Jx9Qw2Zr7Tn5Vb8Mc1Lp6Hs4Gd0FyAe"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "APP_ENV", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path / "data"))


def test_production_is_the_default_and_names_the_missing_secret() -> None:
    with pytest.raises(SettingsRefused, match="SECRET_KEY is missing"):
        settings.load()


@pytest.mark.parametrize(
    "weak",
    [
        "changeme",
        "a" * 64,
        "hunter2",
        "abcdefghi" * 4,
        "changeme" * 8,
        "0123456789abcdef" * 2,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "ab" * 16 + "cdefghijkl",
        "9876543210zyxwvutsrqponmlkjihgfe",
        "aaaaaaaaaaaaaaaaaaaaaaaaabcdefghijk",
        "please-change-this-key-in-production-1",
    ],
)
def test_production_refuses_a_weak_secret_without_repeating_it(
    weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", weak)
    with pytest.raises(SettingsRefused, match="SECRET_KEY is too short or a default") as refused:
        settings.load()
    assert weak not in str(refused.value)


def test_whatever_is_random_is_strong() -> None:
    for make in (secrets.token_hex, secrets.token_urlsafe):
        assert not any(settings._is_weak(make(32)) for _ in range(2_000))
    assert not any(settings._is_weak(secrets.token_hex(16)) for _ in range(2_000))


def test_encryption_keys_are_optional_and_real_when_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", GOOD)
    assert settings.load().encryption_keys is None
    monkeypatch.setenv("ENCRYPTION_KEYS", f"{GOOD},{'x' * 40}")
    with pytest.raises(SettingsRefused, match="ENCRYPTION_KEYS is too short or a default"):
        settings.load()


def test_proxies_and_hosts_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", GOOD)
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,fd00::/8")
    monkeypatch.setenv("ALLOWED_HOSTS", "Chat.example, 10.0.0.7,[fd00::1]")
    found = settings.load()
    assert [str(network) for network in found.proxies()] == [
        "10.0.0.0/8", "192.0.2.1/32", "fd00::/8"
    ]  # fmt: skip
    assert found.hosts() == {"chat.example", "10.0.0.7", "[fd00::1]"}


def test_production_starts_with_two_real_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", GOOD)
    monkeypatch.setenv("ENCRYPTION_KEYS", GOOD)
    assert settings.load().signing_key() == GOOD.encode()


def test_development_makes_its_keys_once_for_its_owner_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APP_ENV", "development")
    first = settings.load().signing_key()
    assert settings.load().signing_key() == first
    made = tmp_path / "data" / "keys" / "secret_key"
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "value"),
    [("APP_URL", "ftp://x"), ("APP_ENV", "staging"), ("LOG_LEVEL", "LOUD"),
     ("AI_MONTHLY_QUOTA_PER_TENANT", "-1"), ("DATABASE_POOLER", "session"),
     ("TRUSTED_PROXIES", "10.0.0.1/8"), ("TRUSTED_PROXIES", "nginx"), ("TRUSTED_PROXIES", "*"),
     ("ALLOWED_HOSTS", "https://chat.example"), ("ALLOWED_HOSTS", "*"), ("METRICS_TOKEN", "scraper")],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_named_and_its_value_is_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsRefused, match=name) as refused:
        settings.load()
    assert value not in str(refused.value).replace(name, "")


def test_the_management_key_is_optional_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENV", "development")
    monkeypatch.delenv("OPENROUTER_MANAGEMENT_KEY", raising=False)
    assert settings.load().openrouter_management_key is None
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", "sk-or-management")
    found = settings.load()
    assert found.openrouter_management_key is not None
    assert found.openrouter_management_key.get_secret_value() == "sk-or-management"
    assert "sk-or-management" not in repr(found)
