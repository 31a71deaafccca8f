"""The colours of every chart. A model has one everywhere, worked out of its id, in a light and a dark
shade; other things get theirs the same way, apart from each other where a chart can."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

# Twelve hues, each in a shade for either theme.
_LIGHT = (
    "#4f46e5", "#0d9488", "#d97706", "#e11d74", "#0284c7", "#65a30d", "#9333ea", "#dc2626",
    "#854d0e", "#15803d", "#0e7490", "#a21caf",
)  # fmt: skip
_DARK = (
    "#818cf8", "#2dd4bf", "#fbbf24", "#f472b6", "#38bdf8", "#a3e635", "#c084fc", "#f87171",
    "#d6a354", "#4ade80", "#67e8f9", "#e879f9",
)  # fmt: skip
_SPREAD = 6524  # chosen so that the models used most often get hues of their own
_KINDS = (4, 10, 9, 0, 6)
_NEUTRAL = ("#64748b", "#94a3b8")
_FAINT = ("#cbd2e1", "#3a4052")
# From nothing to most, in ten steps of the accent.
_RAMP_LIGHT = (
    "#eef2ff", "#e0e7ff", "#c7d2fe", "#a5b4fc", "#818cf8", "#6366f1", "#4f46e5", "#4338ca",
    "#3730a3", "#312e81",
)  # fmt: skip
_RAMP_DARK = (
    "#191c27", "#1e1b4b", "#312e81", "#3730a3", "#4338ca", "#4f46e5", "#6366f1", "#818cf8",
    "#a5b4fc", "#e0e7ff",
)  # fmt: skip


def color_of(model: str, *, dark: bool) -> str:
    """The colour of a model, the same in every process, on every page and in every company."""
    return _hues(dark=dark)[_place(model)]


def apart(keys: Iterable[str], *, dark: bool) -> dict[str, str]:
    """Colours for things that are no models: each its own as long as there are hues left."""
    hues, taken, found = _hues(dark=dark), set[int](), dict[str, str]()
    for key in keys:
        place = _place(key)
        while place in taken and len(taken) < len(hues):
            place = (place + 1) % len(hues)
        taken.add(place)
        found[key] = hues[place]
    return found


def kinds(*, dark: bool) -> tuple[str, ...]:
    """The colours of the kinds of tokens: prompt, from and into the cache, answer, reasoning."""
    return tuple(_hues(dark=dark)[place] for place in _KINDS)


def accent(*, dark: bool) -> str:
    """The colour of what stands alone."""
    return _hues(dark=dark)[0]


def warning(*, dark: bool) -> str:
    """The colour of a limit that should not be crossed."""
    return _hues(dark=dark)[7]


def neutral(*, dark: bool) -> str:
    """The colour of what is summed up as other, and of what is only compared with."""
    return _NEUTRAL[dark]


def faint(*, dark: bool) -> str:
    """The colour of a line that only connects."""
    return _FAINT[dark]


def ramp(*, dark: bool) -> list[tuple[float, str]]:
    """Shades from nothing to most, as a Plotly colour scale."""
    shades = _RAMP_DARK if dark else _RAMP_LIGHT
    return [(step / (len(shades) - 1), shade) for step, shade in enumerate(shades)]


def faded(color: str, alpha: float) -> str:
    """A colour let through by so much."""
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _hues(*, dark: bool) -> tuple[str, ...]:
    return _DARK if dark else _LIGHT


def _place(key: str) -> int:
    return hashlib.sha256(f"{_SPREAD}:{key}".encode()).digest()[0] % len(_LIGHT)
