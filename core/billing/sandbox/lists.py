"""Lists as Stripe gives them: newest first, by cursor, filtered by the time of making."""

from __future__ import annotations

from collections.abc import Sequence

from core.billing.sandbox import forms
from core.billing.sandbox.refusals import Obj, missing, wrong

_LIMIT_DEFAULT, _LIMIT_MAX = 10, 100


def page(things: Sequence[Obj], params: Obj, path: str) -> Obj:
    """One page of `things` (given in order of making). Raises Refused for an unknown cursor."""
    limit = forms.whole(params, "limit") or _LIMIT_DEFAULT
    if not 1 <= limit <= _LIMIT_MAX:
        raise wrong("limit", f"Invalid limit: must be between 1 and {_LIMIT_MAX}")
    found = [thing for thing in reversed(things) if _is_made_within(thing, params)]
    after, before = forms.text(params, "starting_after"), forms.text(params, "ending_before")
    if after and before:
        raise wrong("ending_before", "Only one of starting_after and ending_before can be given.")
    if before:
        newer = found[: _place(found, things, before, "ending_before")]
        return _listed(newer[-limit:], path, has_more=len(newer) > limit)
    if after:
        found = found[_place(found, things, after, "starting_after") + 1 :]
    return _listed(found[:limit], path, has_more=len(found) > limit)


def whole(things: Sequence[Obj], path: str) -> Obj:
    """A list inside an object, in its own order."""
    return _listed(list(things), path, has_more=False) | {"total_count": len(things)}


def _listed(things: list[Obj], path: str, *, has_more: bool) -> Obj:
    return {"object": "list", "data": things, "has_more": has_more, "url": path}


def _place(found: list[Obj], things: Sequence[Obj], cursor: str, param: str) -> int:
    for place, thing in enumerate(found):
        if thing["id"] == cursor:
            return place
    for thing in things:
        if thing["id"] == cursor:  # known, but filtered out: where it would stand
            return len([o for o in found if o["created"] > thing["created"]]) - 1
    raise missing("object", cursor, param=param, status=400)


def _is_made_within(thing: Obj, params: Obj) -> bool:
    asked = params.get("created")
    if asked is None or asked == "":
        return True
    if isinstance(asked, str):
        return bool(thing["created"] == forms.whole(params, "created"))
    made = thing["created"]
    limits = {name: forms.whole(asked, name) for name in ("gt", "gte", "lt", "lte")}
    return (
        (limits["gt"] is None or made > limits["gt"])
        and (limits["gte"] is None or made >= limits["gte"])
        and (limits["lt"] is None or made < limits["lt"])
        and (limits["lte"] is None or made <= limits["lte"])
    )
