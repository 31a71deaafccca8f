"""The environment, read once into one frozen object. Refuses a missing or default secret in production."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Networks: TypeAlias = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

_SECRET_LENGTH_MIN = 32
_DISTINCT_MIN = 9
_DEFAULT_WORDS = ("change", "secret", "password", "example", "default", "purser")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")


class SettingsRefused(Exception):
    """The environment cannot be used; the message names the setting and what to do."""


class Settings(BaseSettings):
    """Every setting of the product; names are the environment variables in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = None
    database_owner_url: SecretStr | None = None
    database_jobs_url: SecretStr | None = None
    database_pooler: Literal["", "transaction"] = ""
    purser_data_dir: Path = Path(".data")
    app_url: str = "http://localhost:8501"
    app_env: Literal["development", "production"] = "production"
    secret_key: SecretStr | None = None
    encryption_keys: SecretStr | None = None
    openrouter_api_key: SecretStr | None = None
    openrouter_base_url: str = "https://openrouter.ai/api/v1"
    openrouter_management_key: SecretStr | None = None
    openrouter_default_model: str = "openai/gpt-6-luna"
    stripe_secret_key: SecretStr | None = None
    stripe_webhook_secrets: SecretStr | None = None
    stripe_api_base: str | None = None
    ai_monthly_quota_per_tenant: Decimal = Field(default=Decimal(100), ge=0, le=1_000_000_000)
    trusted_proxies: str = ""
    allowed_hosts: str = ""
    metrics_token: SecretStr | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    run_worker: bool = True

    @field_validator("app_url", "openrouter_base_url", "stripe_api_base")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/") if value is not None else None

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            _parsed(value)
        except ValueError:
            raise ValueError("must be addresses or networks, as 10.0.0.0/8") from None
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        if not all(_HOST.fullmatch(part) for part in _parts(value.lower())):
            raise ValueError("must be names or addresses without scheme and port")
        return value.lower()

    @field_validator("metrics_token")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and _is_weak(value.get_secret_value()):
            raise ValueError(f"needs at least {_SECRET_LENGTH_MIN} random characters")
        return value

    def proxies(self) -> Networks:
        """Where proxies stand whose X-Forwarded headers are believed; none by default."""
        return _parsed(self.trusted_proxies)

    def hosts(self) -> frozenset[str]:
        """The names besides APP_URL's under which this server may be asked for."""
        return frozenset(_parts(self.allowed_hosts))

    @property
    def development(self) -> bool:
        """True only when APP_ENV=development: demo provider, demo sign-in, generated keys."""
        return self.app_env == "development"

    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets Stripe may sign with, newest first; none means that its route is closed."""
        given = self.stripe_webhook_secrets
        return _parts(given.get_secret_value()) if given else ()

    def sandbox_secret(self) -> str:
        """What the stand-in for Stripe signs with in development; kept in the data folder."""
        return _generated(self.purser_data_dir / "keys" / "stripe_sandbox")

    def signing_key(self) -> bytes:
        """The SECRET_KEY in use. Raises SettingsRefused when production has none worth the name."""
        return _secret(self, "secret_key", self.secret_key).encode()


def load() -> Settings:
    """Read the environment anew (tests); everything else calls `current`."""
    try:
        settings = Settings()
    except ValueError as error:
        raise SettingsRefused(_sentence(error)) from None
    if not settings.development:
        settings.signing_key()
        # Nothing is encrypted yet, so none is needed; one that is given must be worth the name.
        if settings.encryption_keys is not None:
            for key in _parts(settings.encryption_keys.get_secret_value()):
                _require_strong("encryption_keys", key)
    return settings


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings of this process, read on first use."""
    return load()


def _secret(settings: Settings, name: str, given: SecretStr | None) -> str:
    """A secret from the environment, or (development) one generated once into the data folder."""
    value = given.get_secret_value() if given else ""
    if not settings.development:
        _require_strong(name, value)
    return value or _generated(settings.purser_data_dir / "keys" / name)


def _require_strong(name: str, value: str) -> None:
    if _is_weak(value):
        state = "is missing" if not value else "is too short or a default"
        raise SettingsRefused(
            f"{name.upper()} {state}: production needs at least {_SECRET_LENGTH_MIN} random"
            " characters (python -c 'import secrets; print(secrets.token_urlsafe(48))')"
        )


def _is_weak(secret: str) -> bool:
    """Whether a secret is too short, repeats itself, counts up, or says that it is to be changed.

    Random text has hardly one group of three characters twice; less than half of its steps go to
    the same or the next character.
    """
    groups = {secret[at : at + 3] for at in range(len(secret) - 2)}
    steps = sum(abs(ord(a) - ord(b)) <= 1 for a, b in pairwise(secret))
    return (
        len(secret) < _SECRET_LENGTH_MIN
        or len(set(secret)) < _DISTINCT_MIN
        or len(groups) < (len(secret) - 2) * 3 // 4
        or steps > len(secret) // 2
        or any(word in secret.lower() for word in _DEFAULT_WORDS)
    )


@lru_cache(maxsize=8)
def _parsed(listed: str) -> Networks:
    return tuple(ipaddress.ip_network(part) for part in _parts(listed))


@lru_cache(maxsize=64)
def _parts(listed: str) -> tuple[str, ...]:
    """What a comma separated list names."""
    return tuple(part.strip() for part in listed.split(",") if part.strip())


def _generated(path: Path) -> str:
    """The development secret in `path`, made on first use, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


def _sentence(error: ValueError) -> str:
    """The names and reasons of a validation error, without the values (they may be secrets)."""
    details = getattr(error, "errors", None)
    if details is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in details())
