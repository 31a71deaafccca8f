"""Time zones for properties: awkward ones, and any other that a tenant may have on this machine."""

from __future__ import annotations

import zoneinfo
from functools import lru_cache

from hypothesis import strategies as st

from core import db, errors
from core.identity import zones
from tests.factories import TESTS

AWKWARD = (
    "America/Havana", "Africa/Cairo", "Pacific/Kiritimati", "Pacific/Niue", "Australia/Lord_Howe",
    "America/Nuuk", "Antarctica/Casey", "Antarctica/Vostok", "Asia/Kathmandu", "UTC",
)  # fmt: skip


@lru_cache(maxsize=1_000)
def is_taken(time_zone: str) -> bool:
    """Whether a tenant may have this zone."""
    with db.transaction(TESTS) as session:
        try:
            zones.require_zone(session, time_zone)
        except errors.BadInput:
            return False
    return True


zone_names = (
    st.sampled_from(AWKWARD) | st.sampled_from(sorted(zoneinfo.available_timezones()))
).filter(is_taken)
