"""The security headers of every answer, and the content policy of the pages.

The policy allows the page's own inline script by its hash and connections to this host alone, so
that a picture or a script smuggled into an answer reaches nobody.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from core.settings import Settings

Headers = list[tuple[bytes, bytes]]

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_HOST = re.compile(rb"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), payment=(), usb=()"),
]
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_NOTHING = b"default-src 'none'; frame-ancestors 'none'"


class SecurityHeaders:
    """What is added to answers; made once, from the page that is served and the settings."""

    def __init__(self, page_html: str, settings: Settings) -> None:
        self._script_hashes = " ".join(f"'sha256-{h}'" for h in _script_hashes(page_html))
        self._is_https = settings.app_url.startswith("https://")
        self._for_pages = lru_cache(maxsize=64)(self._of_pages)

    def of_page(self, host: bytes, scheme: str) -> Headers:
        """For the pages and what belongs to them."""
        return self._for_pages(host if _HOST.fullmatch(host) else b"", scheme)

    def of_api(self, scheme: str) -> Headers:
        """For answers to programs: nothing in them may run anywhere."""
        return [*_ALWAYS, (b"content-security-policy", _NOTHING), *self._transport(scheme)]

    def _of_pages(self, host: bytes, scheme: str) -> Headers:
        policy = self._policy(host.decode("ascii")).encode()
        return [*_ALWAYS, (b"content-security-policy", policy), *self._transport(scheme)]

    def _transport(self, scheme: str) -> Headers:
        return [_HSTS] if self._is_https or scheme == "https" else []

    def _policy(self, host: str) -> str:
        sockets = f" ws://{host} wss://{host}" if host else ""
        # blob: lets components that bring their code inline load it.
        scripts = f"'self' 'wasm-unsafe-eval' {self._script_hashes} blob:"
        return "; ".join((
            "default-src 'self'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            f"connect-src 'self'{sockets} data: blob:",
            "worker-src 'self' blob:",
            "frame-src 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ))  # fmt: skip


def _script_hashes(page_html: str) -> list[str]:
    return [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in _INLINE_SCRIPT.findall(page_html)
    ]
