"""The stand-in's objects, by kind and id, and the one JSON file that outlives a restart.

Keys that start with an underscore are the stand-in's own notes and never leave it.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from core.billing.sandbox.refusals import Obj, missing

_LETTERS = string.ascii_letters + string.digits
_ID_LENGTHS = {"cs_test": 58, "cus": 14, "prod": 14, "si": 14, "whsec": 32, "req": 14}


def new_id(prefix: str) -> str:
    """A fresh id that looks like Stripe's."""
    length = _ID_LENGTHS.get(prefix, 24)
    return f"{prefix}_{''.join(secrets.choice(_LETTERS) for _ in range(length))}"


def public(value: Any) -> Any:
    """A deep copy of an object without the stand-in's own notes."""
    if isinstance(value, dict):
        return {k: public(v) for k, v in value.items() if not k.startswith("_")}
    if isinstance(value, list):
        return [public(inner) for inner in value]
    return value


class Store:
    """All objects, and what else must survive: kept answers, deliveries, the clock's offset."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._kinds: dict[str, dict[str, Obj]] = {}
        self.answers: dict[str, Obj] = {}
        self.deliveries: dict[str, Obj] = {}
        self.offset_s = 0
        if file is not None and file.exists():
            self._read(file)

    def add(self, thing: Obj) -> Obj:
        """Keep a new object (its `object` says of which kind) and return it."""
        self._kinds.setdefault(thing["object"], {})[thing["id"]] = thing
        return thing

    def drop(self, kind: str, object_id: str) -> None:
        self._kinds.get(kind, {}).pop(object_id, None)

    def get(self, kind: str, object_id: str, *, param: str = "id") -> Obj:
        """The object. Raises Refused: 404 for the object asked for, 400 for a parameter."""
        found = self._kinds.get(kind, {}).get(object_id)
        if found is None:
            raise missing(kind, object_id, param=param, status=404 if param == "id" else 400)
        return found

    def maybe(self, kind: str, object_id: str | None) -> Obj | None:
        return self._kinds.get(kind, {}).get(object_id) if object_id else None

    def find(self, object_id: str) -> Obj | None:
        """The object of that id, whatever it is."""
        for things in self._kinds.values():
            if object_id in things:
                return things[object_id]
        return None

    def all(self, kind: str) -> list[Obj]:
        """Every object of that kind, in order of making."""
        return list(self._kinds.get(kind, {}).values())

    def where(self, kind: str, **fields: object) -> list[Obj]:
        """Objects whose fields have these values; None asks for nothing."""
        wanted = {name: value for name, value in fields.items() if value is not None}
        return [
            thing
            for thing in self._kinds.get(kind, {}).values()
            if all(thing.get(name) == value for name, value in wanted.items())
        ]

    def newest(self, things: Iterable[Obj]) -> list[Obj]:
        return list(things)[::-1]

    def save(self) -> None:
        """Write everything to the file, whole or not at all."""
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "objects": {kind: list(things.values()) for kind, things in self._kinds.items()},
            "answers": self.answers,
            "deliveries": self.deliveries,
            "offset_s": self.offset_s,
        }
        beside = self._file.with_suffix(".new")
        beside.write_bytes(orjson.dumps(state))
        beside.replace(self._file)

    def _read(self, file: Path) -> None:
        state = orjson.loads(file.read_bytes())
        for things in state["objects"].values():
            for thing in things:
                self.add(thing)
        self.answers = state["answers"]
        self.deliveries = state["deliveries"]
        self.offset_s = state["offset_s"]
