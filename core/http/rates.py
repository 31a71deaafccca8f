"""How often one of many may do something in a minute. Counted by this process, kept nowhere."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable

_REMEMBERED_MAX = 20_000


class Rates:
    """`per_minute` for each, up to `at_once` of them in one go; what was used comes back steadily."""

    def __init__(self, per_minute: int, at_once: int) -> None:
        self._each_s, self._at_once = 60 / per_minute, at_once
        self._used_until: dict[Hashable, float] = {}

    def wait_s(self, whose: Hashable) -> int:
        """Seconds until one more is allowed; 0: now. Takes none."""
        room_s = self._each_s * (self._at_once - 1)
        late_s = self._used_until.get(whose, 0.0) - time.monotonic() - room_s
        return max(0, math.ceil(late_s))

    def take(self, whose: Hashable) -> int:
        """Take one and return 0, or return the seconds until one more is allowed."""
        if wait_s := self.wait_s(whose):
            return wait_s
        now = time.monotonic()
        if len(self._used_until) >= _REMEMBERED_MAX:
            self._used_until = {one: at for one, at in self._used_until.items() if at > now}
        self._used_until[whose] = max(self._used_until.get(whose, 0.0), now) + self._each_s
        return 0
