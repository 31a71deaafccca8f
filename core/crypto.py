"""Secrets and what is stored of them: fresh tokens, their hashes, keyed hashes of what could be
guessed. Refuses to keep or compare a secret in clear."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache
from uuid import UUID

from core.settings import Settings, current

_TOKEN_BYTES = 32


def new_token() -> str:
    """A URL-safe secret of 256 random bits."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_hash(text: str) -> bytes:
    """SHA-256 of a high-entropy secret, as stored. Takes any text a stranger may present."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def keyed_hash(purpose: str, text: str) -> bytes:
    """HMAC-SHA-256 of something guessable (an e-mail, an address) under the signing key.

    Hashes of different purposes have different keys, so equal texts cannot be matched across them.
    """
    key = _key(current(), purpose)
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")


def end_user_hash(tenant_id: UUID, user_id: UUID) -> str:
    """What a provider sees as its `user`: stable per person and tenant, reversible by nobody."""
    return keyed_hash("end_user", f"{tenant_id}:{user_id}").hex()


@lru_cache(maxsize=16)
def _key(settings: Settings, purpose: str) -> bytes:
    return hmac.digest(settings.signing_key(), purpose.encode(), "sha256")
