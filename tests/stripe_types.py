"""What Stripe's pinned library says about requests and objects, made into two validators for tests.

A stand-in can be wrong in the same way as the code it stands in for; these two know neither. Requests
are held against the library's parameter types, objects against the annotations of its resources. Enums
that the library leaves open are closed here: an unknown value is a mistake of ours until it is proven.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import stripe
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict, is_typeddict

ROOT = Path(stripe.__file__).parent
_ID = r"[A-Za-z0-9_%-]+"
_T = TypeVar("_T")

# method, path, and where its parameters are typed; None: it takes none but `expand`
_ENDPOINTS: tuple[tuple[str, str, str | None], ...] = (
    ("POST", "/v1/customers", "_customer_create_params.CustomerCreateParams"),
    ("GET", f"/v1/customers/{_ID}", None),
    (
        "GET",
        f"/v1/customers/{_ID}/payment_methods",
        "_customer_payment_method_list_params.CustomerPaymentMethodListParams",
    ),
    ("POST", "/v1/products", "_product_create_params.ProductCreateParams"),
    ("GET", f"/v1/products/{_ID}", None),
    ("POST", f"/v1/products/{_ID}", "_product_update_params.ProductUpdateParams"),
    ("GET", "/v1/prices", "_price_list_params.PriceListParams"),
    ("POST", "/v1/prices", "_price_create_params.PriceCreateParams"),
    ("GET", f"/v1/prices/{_ID}", None),
    ("POST", "/v1/checkout/sessions", "checkout._session_create_params.SessionCreateParams"),
    ("GET", "/v1/checkout/sessions", "checkout._session_list_params.SessionListParams"),
    ("GET", f"/v1/checkout/sessions/{_ID}", None),
    ("POST", f"/v1/checkout/sessions/{_ID}/expire", None),
    (
        "POST",
        "/v1/billing_portal/sessions",
        "billing_portal._session_create_params.SessionCreateParams",
    ),
    ("POST", "/v1/payment_intents", "_payment_intent_create_params.PaymentIntentCreateParams"),
    ("GET", f"/v1/payment_intents/{_ID}", None),
    (
        "POST",
        f"/v1/payment_intents/{_ID}/cancel",
        "_payment_intent_cancel_params.PaymentIntentCancelParams",
    ),
    ("POST", "/v1/refunds", "_refund_create_params.RefundCreateParams"),
    ("GET", "/v1/refunds", "_refund_list_params.RefundListParams"),
    ("GET", f"/v1/refunds/{_ID}", None),
    ("POST", "/v1/subscriptions", "_subscription_create_params.SubscriptionCreateParams"),
    ("GET", f"/v1/subscriptions/{_ID}", None),
    ("POST", f"/v1/subscriptions/{_ID}", "_subscription_update_params.SubscriptionUpdateParams"),
    ("DELETE", f"/v1/subscriptions/{_ID}", "_subscription_cancel_params.SubscriptionCancelParams"),
    ("GET", f"/v1/invoices/{_ID}", None),
    (
        "GET",
        f"/v1/invoices/{_ID}/lines",
        "_invoice_line_item_list_params.InvoiceLineItemListParams",
    ),
    ("GET", "/v1/invoice_payments", "_invoice_payment_list_params.InvoicePaymentListParams"),
    ("GET", f"/v1/invoice_payments/{_ID}", None),
    ("GET", "/v1/events", "_event_list_params.EventListParams"),
    ("GET", f"/v1/events/{_ID}", None),
    ("POST", "/v1/billing/meters", "billing._meter_create_params.MeterCreateParams"),
    ("GET", "/v1/billing/meters", "billing._meter_list_params.MeterListParams"),
    ("GET", f"/v1/billing/meters/{_ID}", None),
    (
        "POST",
        "/v1/billing/meter_events",
        "billing._meter_event_create_params.MeterEventCreateParams",
    ),
    ("GET", "/v1/payouts", "_payout_list_params.PayoutListParams"),
    ("GET", f"/v1/payouts/{_ID}", None),
    (
        "GET",
        "/v1/balance_transactions",
        "_balance_transaction_list_params.BalanceTransactionListParams",
    ),
    ("GET", f"/v1/charges/{_ID}", None),
    ("GET", f"/v1/disputes/{_ID}", None),
    ("GET", f"/v1/payment_methods/{_ID}", None),
    ("GET", f"/v1/radar/early_fraud_warnings/{_ID}", None),
    ("GET", f"/v2/core/events/{_ID}", None),
)


class _Expand(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    expand: list[str]


class RequestValidator:
    """Refuses requests that Stripe would refuse for a parameter's name, type, value or absence."""

    def check_request(self, method: str, path: str, form: Mapping[str, Any]) -> None:
        """`form` is flat ("items[0][price]": "price_1") or already nested. Raises AssertionError."""
        nested = decode(form) if any("[" in name for name in form) else form
        try:
            _adapter(_params_of(method, path)).validate_python(nested)
        except ValidationError as error:
            wrong = [
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}"
                for e in error.errors(include_input=False, include_url=False)
            ]
            raise AssertionError(f"{method} {path}: {'; '.join(wrong)}") from None


def decode(form: Mapping[str, str]) -> dict[str, Any]:
    """Stripe's form encoding as nested dicts and lists."""
    nested: dict[str, Any] = {}
    for name, value in form.items():
        *parents, last = re.findall(r"[^\[\]]+", name)
        at = nested
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return {name: _listed(value) for name, value in nested.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(item) for name, item in value.items()}
    if inner and list(inner) == [str(n) for n in range(len(inner))]:
        return list(inner.values())
    return inner


def _params_of(method: str, path: str) -> str | None:
    for known, pattern, params in _ENDPOINTS:
        if known == method.upper() and re.fullmatch(pattern, path):
            return params
    raise AssertionError(f"{method} {path}: nothing of ours calls this")


@cache
def _adapter(params: str | None) -> TypeAdapter[Any]:
    if params is None:
        return TypeAdapter(_Expand)
    module, name = f"stripe.params.{params}".rsplit(".", 1)
    return TypeAdapter(_closed_dict(getattr(import_module(module), name)))


@cache
def _closed_dict(given: Any) -> Any:
    """The same TypedDict without the options of the call, unknown keys and open enums."""
    options = stripe.RequestOptions.__annotations__
    own = {name: kind for name, kind in given.__annotations__.items() if name not in options}
    shape = type(given.__name__, (), {"__annotations__": own})
    names = {**vars(sys.modules[given.__module__]), "UntypedStripeObject": dict[str, _T]}
    hints = get_type_hints(shape, names, names, include_extras=True)
    closed = TypedDict(  # type: ignore[misc]
        given.__name__,
        {  # type: ignore[misc]
            name: (Required if name in given.__required_keys__ else NotRequired)[_closed(kind)]
            for name, kind in hints.items()
        },
    )
    closed.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return closed


def _closed(kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return _closed_dict(kind)
    if origin in (Required, NotRequired):
        return _closed(inner[0])
    if origin in (Union, UnionType):
        is_enum = any(get_origin(part) is Literal and any(get_args(part)) for part in inner)
        return Union[tuple(_closed(p) for p in inner if not (is_enum and p is str))]  # noqa: UP007
    if origin in (list, dict):
        return origin[tuple(_closed(part) for part in inner)]
    return kind


@dataclass(frozen=True, slots=True)
class _Shape:
    """A class of the library as it is written: its fields, and where names in them are looked up."""

    node: ast.ClassDef
    file: Path

    def fields(self) -> dict[str, tuple[ast.expr, _Shape]]:
        """Each field's annotation and the class that it is written in, a base class perhaps."""
        found: dict[str, tuple[ast.expr, _Shape]] = {}
        for base in self.node.bases:
            if isinstance(base, ast.Name) and base.id != "StripeObject":
                found |= self.named(base.id).fields()
        for item in self.node.body:
            if (
                isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and not ast.unparse(item.annotation).startswith("ClassVar")
            ):
                found[item.target.id] = (item.annotation, self)
        return found

    def named(self, name: str) -> _Shape:
        """The class that a name in an annotation means: an inner one, or one of the module's."""
        for body in (self.node.body, _tree(self.file).body):
            for item in body:
                if isinstance(item, ast.ClassDef) and item.name == name:
                    return _Shape(item, self.file)
        return _imported(self.file, name)


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def _imported(file: Path, name: str) -> _Shape:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stripe."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    path = ROOT.joinpath(*(node.module or "").split(".")[1:]).with_suffix(".py")
                    return _class_in(path, alias.name)
    raise LookupError(f"{name} in {file.name}")


@cache
def _class_in(file: Path, name: str) -> _Shape:
    return next(
        _Shape(node, file)
        for node in _tree(file).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )


@cache
def _object_files() -> dict[str, tuple[Path, str]]:
    """Where each kind of object is written down: file and class."""
    found: dict[str, tuple[Path, str]] = {}
    for file in sorted(ROOT.rglob("_*.py")):
        text = file.read_text()
        for written in re.finditer(r'OBJECT_NAME: ClassVar\[\s*Literal\["([^"]+)"\]', text):
            classes = re.findall(r"^class (\w+)", text[: written.start()], re.MULTILINE)
            found[written.group(1)] = (file, classes[-1])
    return found


class ObjectValidator:
    """Finds where an object differs from what the library says objects of its kind are."""

    def check_object(self, found: Mapping[str, Any]) -> list[str]:
        """The differences, each with the path to it; none when it is as it should be."""
        return list(_object(found, str(found.get("object"))))


def _object(found: Mapping[str, Any], path: str) -> Iterator[str]:
    kind = found.get("object")
    if kind == "list":
        for n, row in enumerate(found.get("data", ())):
            yield from _object(row, f"{path}[{n}]")
    elif kind == "v2.core.event":
        yield from _thin(found, path)
    elif kind not in _object_files():
        yield f"{path}: unknown object {kind!r}"
    else:
        yield from _fields(found, _class_in(*_object_files()[str(kind)]), path)
    if kind == "event":
        about = found.get("data", {}).get("object", {})
        yield from _object(about, f"{path}.data.{about.get('object')}")


def _thin(found: Mapping[str, Any], path: str) -> Iterator[str]:
    """A notification, or the event behind it (which has data of its own)."""
    file = ROOT / "events" / f"_{str(found.get('type')).replace('.', '_')}_event.py"
    if not file.exists():
        yield f"{path}.type: unknown event {found.get('type')!r}"
        return
    ending = "Event" if "data" in found or "changes" in found else "EventNotification"
    names = [node.name for node in _tree(file).body if isinstance(node, ast.ClassDef)]
    name = next(name for name in names if name.endswith(ending))
    yield from _fields(found, _class_in(file, name), path)


def _fields(found: Mapping[str, Any], shape: _Shape, path: str) -> Iterator[str]:
    if found.get("deleted") is True:
        return
    fields = shape.fields()
    for name in found.keys() - fields.keys():
        yield f"{path}.{name}: unknown key"
    for name, (annotation, written_in) in fields.items():
        if name in found:
            yield from _value(found[name], annotation, written_in, f"{path}.{name}")
        elif not _may_be_absent(annotation):
            yield f"{path}.{name}: missing"


def _may_be_absent(annotation: ast.expr) -> bool:
    return "Optional[" in ast.unparse(annotation) or "None" in ast.unparse(annotation)


def _value(value: Any, annotation: ast.expr, shape: _Shape, path: str) -> Iterator[str]:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Subscript):
        yield from _subscripted(value, annotation, shape, path)
    elif isinstance(annotation, ast.BinOp):
        yield from _one_of(value, [annotation.left, annotation.right], shape, path)
    elif isinstance(annotation, ast.Constant) and annotation.value is None:
        if value is not None:
            yield f"{path}: not null"
    elif (name := ast.unparse(annotation)) in _PLAIN:
        if not _PLAIN[name](value):
            yield f"{path}: {type(value).__name__} instead of {name}"
    elif not isinstance(value, Mapping):
        yield f"{path}: {type(value).__name__} instead of {name}"
    else:
        yield from _fields(value, shape.named(name), path)


def _subscripted(value: Any, kind: ast.Subscript, shape: _Shape, path: str) -> Iterator[str]:
    parts = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
    match ast.unparse(kind.value):
        case "Optional":
            if value is not None:
                yield from _value(value, parts[0], shape, path)
        case "ExpandableField":
            if not isinstance(value, str):
                yield from _value(value, parts[0], shape, path)
        case "Literal":
            allowed = [ast.literal_eval(part) for part in parts]
            if value not in allowed:
                yield f"{path}: {value!r} is not one of {allowed[:5]}"
        case "Union":
            yield from _one_of(value, parts, shape, path)
        case "List":
            yield from _list(value, parts[0], shape, path)
        case "ListObject":
            yield from _list_object(value, parts[0], shape, path)
        case "Dict" | "UntypedStripeObject":
            yield from _map(value, parts[-1], shape, path)
        case other:
            raise LookupError(f"{path}: annotation {other}")


def _one_of(value: Any, kinds: list[ast.expr], shape: _Shape, path: str) -> Iterator[str]:
    kinds = [ast.parse(k.value, mode="eval").body if _is_quoted(k) else k for k in kinds]
    enums = [k for k in kinds if ast.unparse(k).startswith("Literal[")]
    kinds = [k for k in kinds if not (enums and ast.unparse(k) == "str")]
    if isinstance(value, Mapping) and "object" in value:
        for kind in kinds:
            name = ast.unparse(kind)
            if name.isidentifier() and _object_name(shape.named(name)) == value["object"]:
                yield from _value(value, kind, shape, path)
                return
    tried = [list(_value(value, kind, shape, path)) for kind in kinds]
    if all(tried):
        yield from min(tried, key=len)


def _is_quoted(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Constant) and isinstance(kind.value, str)


def _object_name(shape: _Shape) -> str | None:
    for item in shape.node.body:
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == "OBJECT_NAME":
            return str(ast.literal_eval(item.value)) if item.value else None
    return None


def _list(value: Any, kind: ast.expr, shape: _Shape, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: {type(value).__name__} instead of a list"
        return
    for n, item in enumerate(value):
        yield from _value(item, kind, shape, f"{path}[{n}]")


def _map(value: Any, kind: ast.expr, shape: _Shape, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: {type(value).__name__} instead of a map"
        return
    for name, item in value.items():
        yield from _value(item, kind, shape, f"{path}.{name}")


def _list_object(value: Any, kind: ast.expr, shape: _Shape, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping) or value.get("object") != "list":
        yield f"{path}: not a list object"
        return
    for name, wanted in (("data", list), ("has_more", bool), ("url", str)):
        if not isinstance(value.get(name), wanted):
            yield f"{path}.{name}: missing or of another type"
    for name in value.keys() - {"object", "data", "has_more", "url", "total_count"}:
        yield f"{path}.{name}: unknown key"
    yield from _list(value.get("data", []), kind, shape, f"{path}.data")


def _is_decimal(value: Any) -> bool:
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


_PLAIN = {
    "str": lambda v: isinstance(v, str),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "Decimal": _is_decimal,
    "datetime": lambda v: isinstance(v, str),
    "StripeContext": lambda v: isinstance(v, str),
    "Any": lambda _: True,
    "object": lambda _: True,
    "Dict": lambda v: isinstance(v, Mapping),
}
