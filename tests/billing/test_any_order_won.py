"""All of Stripe's events together, in any order and any number of copies, end in one state: here
the dispute among them is won."""

from __future__ import annotations

import pytest

from tests.billing import shuffles

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize("part", range(shuffles.PARTS))
def test_any_order_with_any_copies_ends_in_one_state(part: int) -> None:
    """Fifty seeds in parts; a hundred with the other ending of the dispute."""
    shuffles.assert_one_end(part, won=True)
