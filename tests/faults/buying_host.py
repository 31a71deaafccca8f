"""A process that does one act of buying until it is killed in the middle of it.

python -m tests.faults.buying_host DATABASE_URL STRIPE_URL ACT JSON
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from uuid import UUID

from core import db, settings
from core.billing import checkout, refunds, stripe_api, subscriptions, topups
from core.billing.stripe_api import StripeApi
from core.db import Database
from core.identity.access import Principal, Role
from tests.factories import TESTS


def act(name: str, of: dict[str, Any]) -> None:
    """One of: buy, top_up, refund, upgrade."""
    if name == "buy":
        checkout.start_package(_who(of), "starter", click_key=of["click_key"])
    elif name == "top_up":
        topups.sweep()
    elif name == "refund":
        refunds.refund(
            TESTS, UUID(of["tenant_id"]), of["payment_intent_id"], of["amount_minor"],
            reason="killed", request_id=UUID(of["request_id"]),
        )  # fmt: skip
    elif name == "upgrade":
        subscriptions.change_plan(_who(of), "pro")
    else:
        raise ValueError(name)


def _who(of: dict[str, Any]) -> Principal:
    return Principal(
        tenant_id=UUID(of["tenant_id"]), user_id=UUID(of["user_id"]), role=Role.ADMIN,
        email=of["email"], name="Ada", tenant_name=of["tenant_name"], plan="free", mode="prepaid",
        time_zone="UTC",
    )  # fmt: skip


if __name__ == "__main__":
    os.environ["APP_ENV"] = "development"
    db.install(Database(settings.current(), sys.argv[1]))
    stripe_api.install(StripeApi("sk_test_x", base=sys.argv[2]))
    act(sys.argv[3], json.loads(sys.argv[4]))
