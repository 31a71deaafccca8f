"""GET /v1/models and /v1/models/{id}: what a key may call, at the price its tenant pays.

It lists only what can be called now; every other name answers as a missing one.
"""

from __future__ import annotations

from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response

from core import db, errors
from core.catalog import models, registry
from core.catalog.models import ModelRow
from core.chat import engine
from core.http import keys, problems, work
from core.identity.access import Scope, require_scope
from core.quota import standing

_PREFIX = "/v1/models/"
_ID_LENGTH_MAX = 200


async def list_models(request: Request) -> Response:
    """All models that can be called with this key, in OpenAI's shape."""
    return problems.as_json({"object": "list", "data": await _rows(request)})


async def one_model(request: Request) -> Response:
    """One model. Raises NotFound for every name that cannot be called."""
    wanted = str(request.scope["path"]).removeprefix(_PREFIX)[:_ID_LENGTH_MAX]
    for row in await _rows(request):
        if row["id"] == wanted:
            return problems.as_json(row)
    raise errors.NotFound("There is no model of that name.", param="model")


async def _rows(request: Request) -> list[dict[str, object]]:
    who = await keys.caller(request)
    keys.require_rate(who)
    return await work.run(who.tenant_id, _offered, keys.bearer(request), _reachable())


def _reachable() -> frozenset[str]:
    return frozenset(engine.current().providers)


def _offered(secret: str, reachable: frozenset[str]) -> list[dict[str, object]]:
    found = standing.of_key(secret, None)
    who = require_scope(found.principal, Scope.MODELS)
    with db.transaction(who) as session:
        rows = models.list_models(
            session, tenant_id=who.tenant_id, offered_to="api",
            development=registry.DEMO in reachable, configured=reachable - {registry.DEMO},
        )  # fmt: skip
    return [_shown(row, found.markup) for row in rows]


def _shown(row: ModelRow, markup: Decimal) -> dict[str, object]:
    return {
        "id": row.model_id,
        "object": "model",
        "created": 0,
        "owned_by": row.model_id.partition("/")[0].removeprefix("~"),
        "name": row.name,
        "description": row.description,
        "context_length": row.context_tokens,
        "max_completion_tokens": row.output_tokens_max,
        "default_completion_tokens": row.answer_tokens_default,
        "architecture": {
            "input_modalities": row.input_modalities,
            "output_modalities": row.output_modalities,
        },
        "supported_parameters": row.supported_parameters,
        "pricing": {
            "prompt": _per_token(row.prompt_usd_per_million, markup),
            "completion": _per_token(row.completion_usd_per_million, markup),
        },
        "expiration_date": row.expires_on.isoformat() if row.expires_on else None,
    }


def _per_token(usd_per_million: Decimal | None, markup: Decimal) -> str | None:
    """The price the tenant pays, in exact USD per token."""
    if usd_per_million is None:
        return None
    text = f"{usd_per_million * (1 + markup) / 1_000_000:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
