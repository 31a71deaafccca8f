"""The one tax of the stand-in: 8.25 percent on top, where the caller turned taxes on."""

from __future__ import annotations

_RATE_PER_10_000 = 825


def on(amount: int, *, is_taxed: bool) -> int:
    """The tax on so many cents, rounded half up; none on what is not positive."""
    if not is_taxed or amount <= 0:
        return 0
    return (amount * _RATE_PER_10_000 + 5_000) // 10_000
