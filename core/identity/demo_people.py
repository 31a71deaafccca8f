"""The people of the demo data: made by the seed, shown by the sign-in page, in development alone.
They are never made, and their password never shown, anywhere else."""

from __future__ import annotations

MEMBER_EMAIL = "demo@purser.example"
OPERATOR_EMAIL = "operator@purser.example"
PASSWORD = "try-purser-today"  # noqa: S105 - public on purpose: accounts of the demo data
