"""The stand-in's own tests also ask for what the product never asks for."""

from __future__ import annotations

import pytest

from tests.billing.conftest import Differences


@pytest.fixture
def differences() -> Differences:
    return Differences(is_ours=False)
