"""Form parameters in Stripe's bracket notation, and how a verb reads them.

Values stay text until a verb says what it wants; what cannot be read is refused, never guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

from core.billing.sandbox.refusals import Obj, Refused, wrong

_DEPTH_MAX = 8


def decode(raw: str) -> Obj:
    """`a[b]=1&c[0][d]=2&e[]=3` as nested objects and lists. Raises Refused."""
    tree: Obj = {}
    for name, value in parse_qsl(raw, keep_blank_values=True):
        head, *rest = name.replace("]", "").split("[")
        if not head or len(rest) > _DEPTH_MAX:
            raise wrong(name, f"Invalid parameter name: {name[:80]}")
        _put(tree, [head, *rest], value)
    return {name: _listed(value) for name, value in tree.items()}


def text(params: Mapping[str, Any], name: str) -> str | None:
    """The value; None when it is absent or empty (empty text unsets)."""
    value = params.get(name)
    if value is not None and not isinstance(value, str):
        raise wrong(name, f"Invalid string: {name}", "parameter_invalid_string")
    return value or None


def needed(params: Mapping[str, Any], name: str) -> str:
    """The value. Raises Refused when it is missing."""
    value = text(params, name)
    if value is None:
        raise wrong(name, f"Missing required param: {name}.", "parameter_missing")
    return value


def whole(params: Mapping[str, Any], name: str) -> int | None:
    """A whole number, or None."""
    value = text(params, name)
    if value is None:
        return None
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise wrong(name, f"Invalid integer: {value[:40]}", "parameter_invalid_integer")
    return int(value)


def decimal(params: Mapping[str, Any], name: str) -> Decimal | None:
    """An exact decimal, or None."""
    value = text(params, name)
    try:
        return None if value is None else Decimal(value)
    except InvalidOperation:
        raise wrong(name, f"Invalid decimal: {name}", "parameter_invalid_decimal") from None


def flag(params: Mapping[str, Any], name: str) -> bool | None:
    """True, false, or None when it is not given."""
    value = text(params, name)
    if value not in {None, "true", "false"}:
        raise wrong(name, f"Invalid boolean: {name}")
    return None if value is None else value == "true"


def group(params: Mapping[str, Any], name: str) -> Obj:
    """A nested object; empty when it is absent."""
    value = params.get(name)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise wrong(name, f"Invalid object: {name}", "parameter_invalid_object")
    return value


def rows(params: Mapping[str, Any], name: str) -> list[Any]:
    """A list; empty when it is absent."""
    value = params.get(name)
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise wrong(name, f"Invalid array: {name}", "parameter_invalid_array")
    return value


def metadata(params: Mapping[str, Any], before: Mapping[str, str] | None = None) -> Obj:
    """What was there, with what is given put over it; an empty value takes a key away."""
    merged: Obj = dict(before or {})
    for name, value in group(params, "metadata").items():
        if len(name) > 40 or len(str(value)) > 500:
            raise wrong(f"metadata[{name[:40]}]", "Metadata keys have at most 40, values 500.")
        merged[name] = str(value)
    return {name: value for name, value in merged.items() if value != ""}


def refuse_payment_method_types(params: Mapping[str, Any]) -> None:
    """The parameter that the pinned API version took away."""
    if "payment_method_types" in params:
        raise Refused(
            400, "payment_method_types is no longer supported on create.",
            code="payment_method_types_no_longer_supported", param="payment_method_types",
        )  # fmt: skip


def _put(tree: Obj, path: list[str], value: str) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise wrong(path[0], f"Invalid parameter: {path[0][:80]}")
    last = path[-1]
    if last == "":
        last = str(len(tree))
    tree[last] = value


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        return [_listed(value[name]) for name in sorted(value, key=int)]
    return {name: _listed(inner) for name, inner in value.items()}
