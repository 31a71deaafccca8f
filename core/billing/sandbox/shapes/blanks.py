"""What every shape starts with: the fields that are null unless something is known."""

from __future__ import annotations

from core.billing.sandbox.refusals import Obj


def nulls(names: str) -> Obj:
    """An object with these fields, all null."""
    return dict.fromkeys(names.split())


def address() -> Obj:
    """The one address of the stand-in: every buyer lives there."""
    return {
        "city": "Austin", "country": "US", "line1": "500 Congress Ave", "line2": None,
        "postal_code": "78701", "state": "TX",
    }  # fmt: skip
