"""The bar under an answer as one element: copy (in the browser, no rerun), regenerate, the other
answers to the question, and what it cost. It copies the source text, not the drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from pages.widgets import session

_HTML = "<div id='bar' role='toolbar' aria-label='Message actions'></div>"
_CSS = """
#bar { display: flex; flex-wrap: wrap; align-items: center; gap: 2px; min-height: 28px;
  font-family: var(--st-font); color: var(--st-text-color); }
button { border: 0; background: none; color: inherit; opacity: .55; padding: 5px 6px; display: flex;
  border-radius: 6px; cursor: pointer; font: inherit; }
button:hover:enabled, button:focus-visible { opacity: 1; outline: none;
  background: var(--st-secondary-background-color); }
button:disabled { opacity: .2; cursor: default; }
.turn { font-size: .78rem; opacity: .7; font-variant-numeric: tabular-nums; }
.note { margin-left: 8px; font-size: .78rem; opacity: .6; font-variant-numeric: tabular-nums; }
"""
_JS = """
const PATHS = {
  copy: 'M9 9h10v11H9z M5 15H4V4h11v1',
  redo: 'M20 11a8 8 0 1 0-2.3 6.3 M20 5v6h-6',
  prev: 'M14 6l-6 6 6 6', next: 'M10 6l6 6-6 6', done: 'M5 13l4 4L19 7' }
const NS = 'http://www.w3.org/2000/svg'
function icon(name) {
  const svg = document.createElementNS(NS, 'svg'), path = document.createElementNS(NS, 'path')
  const look = { viewBox: '0 0 24 24', width: 16, height: 16, fill: 'none', stroke: 'currentColor',
    'stroke-width': 2, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' }
  for (const [k, v] of Object.entries(look)) svg.setAttribute(k, v)
  path.setAttribute('d', PATHS[name])
  svg.appendChild(path)
  return svg
}
function button(bar, name, label, act) {
  const made = document.createElement('button')
  made.type = 'button'; made.title = label; made.setAttribute('aria-label', label)
  made.append(icon(name))
  made.onclick = () => act(made)
  bar.appendChild(made)
  return made
}
function copied(made) {
  made.replaceChildren(icon('done'))
  setTimeout(() => made.replaceChildren(icon('copy')), 1200)
}
export default function ({ data, parentElement, setTriggerValue }) {
  const bar = parentElement.querySelector('#bar')
  bar.replaceChildren()
  if (data.text) button(bar, 'copy', 'Copy', made =>
    navigator.clipboard?.writeText(data.text).then(() => copied(made), () => {}))
  if (data.redo) button(bar, 'redo', 'Regenerate', () => setTriggerValue('action', 'regenerate'))
  if (data.count > 1) {
    const tell = act => () => setTriggerValue('action', act)
    const step = (icon, label, act) => button(bar, icon, label, tell(act))
    step('prev', 'Earlier answer', 'previous').disabled = data.place <= 1
    const turn = document.createElement('span')
    turn.className = 'turn'; turn.textContent = `${data.place}/${data.count}`
    bar.appendChild(turn)
    step('next', 'Later answer', 'next').disabled = data.place >= data.count
  }
  const note = document.createElement('span')
  note.className = 'note'; note.textContent = data.note
  bar.appendChild(note)
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """What one bar offers. `place` of `count` is this answer among those to the same question."""

    text: str
    note: str
    can_regenerate: bool
    place: int = 1
    count: int = 1


def draw(key: str, bar: Bar, on_action: Callable[[str], None]) -> None:
    """Draw a bar; `on_action` is told 'regenerate', 'previous' or 'next' before the next run."""

    def act() -> None:
        chosen = getattr(session.holds(key), "action", None)
        if isinstance(chosen, str):
            on_action(chosen)

    _element()(
        key=key,
        data={
            "text": bar.text, "note": bar.note, "redo": bar.can_regenerate, "place": bar.place,
            "count": bar.count,
        },
        on_action_change=act,
    )  # fmt: skip


@cache
def _element() -> ComponentRenderer:
    return st.components.v2.component("purser_msgbar", html=_HTML, css=_CSS, js=_JS)
