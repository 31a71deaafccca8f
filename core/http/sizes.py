"""Bounds what a JSON body may hold before it is parsed: values, depth, digits of a number.

It looks at the bytes outside of texts only, and stops at the first that is too much: a body made of
millions of brackets costs milliseconds. Whether it is JSON at all is for the parser to say.
"""

from __future__ import annotations

import re

from core.errors import BadInput

VALUES_MAX = 100_000
DEPTH_MAX = 64
DIGITS_MAX = 200
_STEP = 16 * 1024
_TEXT_STEP = 128 * 1024  # at once: a regular expression lets no other thread run meanwhile
_IN_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % DIGITS_MAX)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b",:[]{}"))


def check(raw: bytes) -> None:
    """Raise BadInput for a body with too many values, too deep, or with too long a number."""
    position, values, depth = 0, 0, 0
    while position < len(raw):
        quote = raw.find(b'"', position, position + _STEP)
        end = quote if quote >= 0 else min(position + _STEP, len(raw))
        outside = raw[position:end]
        structure = outside.translate(None, _NOT_STRUCTURE)
        values += len(structure) + 1
        if values > VALUES_MAX:
            raise BadInput(f"The body holds more than {VALUES_MAX:,} values.")
        depth = _depth(structure, depth)
        if len(outside) >= DIGITS_MAX and _LONG_NUMBER.search(outside):
            raise BadInput(f"A number in the body has more than {DIGITS_MAX} digits.")
        position = end
        if quote >= 0:
            position = _end_of_text(raw, quote + 1)


def _end_of_text(raw: bytes, position: int) -> int:
    """Behind the quote that ends the text which begins here; the end of all where none does."""
    quote = raw.find(b'"', position)
    if quote < 0:
        return len(raw)
    if raw.find(b"\\", position, quote) < 0:
        return quote + 1
    while (inside := _IN_TEXT.match(raw, position, position + _TEXT_STEP)) is not None:
        if inside.end() == position:
            break
        position = inside.end()
    return position + 1


def _depth(structure: bytes, depth: int) -> int:
    for byte in structure:
        if byte in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise BadInput("The body is nested too deeply.")
        elif byte in b"]}":
            depth -= 1
    return depth
