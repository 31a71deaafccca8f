"""Tells of events: signed as Stripe signs, at least once, again and again until it is heard.

It can be told to misbehave as the real one does: copies, another order, delays, two secrets.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.store import public
from core.billing.sandbox.world import World

Hear = Callable[[bytes, str], int]  # raw body and signature header -> HTTP status
_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 1, 60
_TRIES_MAX = 200


@dataclass(frozen=True, slots=True)
class Letter:
    """One telling of one event."""

    event_id: str
    raw: bytes


def sign(raw: bytes, secrets: tuple[str, ...], at_s: int | None = None) -> str:
    """The signature header: HMAC-SHA256 over `time.body`, once per secret."""
    at = int(time.time()) if at_s is None else at_s
    prints = [
        hmac.new(secret.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()
        for secret in secrets
    ]
    return ",".join([f"t={at}", *(f"v1={print_}" for print_ in prints)])


def due(
    world: World, *, is_hurried: bool = False, shuffle: random.Random | None = None
) -> list[Letter]:
    """What is to be told now, with copies, in the order of the habits."""
    now_s = time.time()
    letters = []
    for event_id, delivery in world.store.deliveries.items():
        if delivery["is_dropped"] or not (is_hurried or delivery["due_s"] <= now_s):
            continue
        event = world.store.find(event_id)
        if event is not None:
            letter = Letter(event_id, orjson.dumps(_payload(event), option=orjson.OPT_INDENT_2))
            letters += [letter] * max(1, delivery["copies"])
    if world.habits.is_reordering:
        (shuffle or random.Random()).shuffle(letters)  # noqa: S311 - order, not a secret
    return letters


def heard(world: World, event_id: str) -> None:
    """Somebody answered 2xx: it is told no more."""
    world.store.deliveries.pop(event_id, None)
    event = world.store.find(event_id)
    if event is not None and "pending_webhooks" in event:
        event["pending_webhooks"] = 0


def failed(world: World, event_id: str) -> None:
    """Nobody heard it: again later, each time after twice as long."""
    delivery = world.store.deliveries.get(event_id)
    if delivery is None:
        return
    delivery["attempts"] += 1
    pause_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(delivery["attempts"] - 1, 10))
    delivery["due_s"] = time.time() + pause_s
    if delivery["attempts"] >= _TRIES_MAX:
        delivery["is_dropped"] = True


def pump(
    world: World, hear: Hear, *, rounds_max: int = 50, shuffle: random.Random | None = None
) -> int:
    """Tell everything that waits, and what comes of it, until it is quiet. Returns how many times
    something was told. What is not heard with 2xx stays waiting for the next pump."""
    told, unheard = 0, set[str]()
    for _ in range(rounds_max):
        with world.lock:
            letters = [
                letter
                for letter in due(world, is_hurried=True, shuffle=shuffle)
                if letter.event_id not in unheard
            ]
        if not letters:
            break
        for letter in letters:
            told += 1
            status = hear(letter.raw, sign(letter.raw, world.secrets))
            with world.changing():
                if 200 <= status < 300:
                    heard(world, letter.event_id)
                else:
                    failed(world, letter.event_id)
                    unheard.add(letter.event_id)
    return told


def _payload(event: Obj) -> Obj:
    shown: Obj = public(event)
    return shown
