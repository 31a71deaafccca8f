"""Plans as subscriptions at Stripe: how they stand, and what buyers change about them."""

from __future__ import annotations

from core.billing.subscriptions.changes import cancel, change_plan, resume
from core.billing.subscriptions.standing import (
    ENDED,
    FREE,
    LIVE,
    WITHDRAWN,
    Asked,
    ask,
    current,
    on_subscription,
    owner,
    read_again,
    write,
)

__all__ = [
    "ENDED", "FREE", "LIVE", "WITHDRAWN", "Asked", "ask", "cancel", "change_plan", "current",
    "on_subscription", "owner", "read_again", "resume", "write",
]  # fmt: skip
