"""The list of conversations as one element: days, the open one marked, row menus, arrow keys.
Rows are real links, so a middle click opens another tab. It reads and changes no conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_HTML = "<nav id='list' aria-label='Conversations'></nav>"
_CSS = """
#list { font-family: var(--st-font); color: var(--st-text-color); font-size: .93rem; }
h3 { font-size: .74rem; font-weight: 600; opacity: .6; margin: 14px 0 4px 10px; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 1px; }
li { position: relative; display: flex; align-items: center; border-radius: 8px; min-width: 0; }
li:hover, li:focus-within { background: color-mix(in srgb, var(--st-text-color) 6%, transparent); }
li.on { background: color-mix(in srgb, var(--st-primary-color) 14%, transparent); }
a { flex: 1; min-width: 0; padding: 7px 4px 7px 10px; color: inherit; text-decoration: none;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; outline: none; }
a:focus-visible { box-shadow: inset 0 0 0 2px var(--st-primary-color); border-radius: 8px; }
li.on a { font-weight: 600; }
button { border: 0; background: none; color: inherit; font: inherit; cursor: pointer;
  border-radius: 6px; }
.more { opacity: 0; padding: 4px 9px; }
li:hover .more, li:focus-within .more { opacity: .6; }
.more:hover, .more:focus-visible, .more[aria-expanded=true] { opacity: 1 !important; }
@media (hover: none) { .more { opacity: .5; } }
.menu { position: absolute; right: 4px; top: 100%; z-index: 9; display: grid; min-width: 120px;
  padding: 4px; border: 1px solid var(--st-border-color); border-radius: 8px;
  background: var(--st-background-color); box-shadow: 0 6px 20px rgb(0 0 0 / .18); }
.menu button { text-align: left; padding: 6px 10px; }
.menu button:hover, .menu button:focus-visible { outline: none;
  background: color-mix(in srgb, var(--st-text-color) 8%, transparent); }
p { opacity: .65; margin: 10px; }
"""
_JS = """
function make(parent, tag, name, text) {
  const made = document.createElement(tag)
  if (name) made.className = name
  if (text != null) made.textContent = text
  parent.appendChild(made)
  return made
}
function closeMenus(list) {
  list.querySelectorAll('.menu').forEach(menu => menu.remove())
  list.querySelectorAll('.more').forEach(more => more.setAttribute('aria-expanded', 'false'))
}
function openMenu(list, row, more, id, setTriggerValue) {
  const wasOpen = row.querySelector('.menu')
  closeMenus(list)
  if (wasOpen) return
  more.setAttribute('aria-expanded', 'true')
  const menu = make(row, 'div', 'menu')
  menu.setAttribute('role', 'menu')
  for (const [name, label] of [['rename', 'Rename'], ['remove', 'Delete']]) {
    const item = make(menu, 'button', '', label)
    item.type = 'button'; item.setAttribute('role', 'menuitem')
    item.onclick = () => { closeMenus(list); setTriggerValue(name, id) }
  }
  menu.firstChild.focus()
}
export default function ({ data, parentElement, setTriggerValue }) {
  const list = parentElement.querySelector('#list')
  list.replaceChildren()
  for (const [day, rows] of data.groups) {
    make(list, 'h3', '', day)
    const ul = make(list, 'ul')
    for (const [id, title] of rows) {
      const li = make(ul, 'li', id === data.active ? 'on' : '')
      const a = make(li, 'a', '', title)
      a.href = '/?c=' + encodeURIComponent(id); a.title = title
      if (id === data.active) a.setAttribute('aria-current', 'page')
      a.onclick = event => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return
        event.preventDefault()
        setTriggerValue('open', id)
      }
      const more = make(li, 'button', 'more', '\\u22ef')
      more.type = 'button'
      more.setAttribute('aria-label', 'Actions for ' + title)
      more.setAttribute('aria-haspopup', 'menu')
      more.onclick = () => openMenu(list, li, more, id, setTriggerValue)
    }
  }
  if (!data.groups.length) make(list, 'p', '', data.empty)
  list.onkeydown = event => {
    if (event.key === 'Escape') return closeMenus(list)
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step) return
    const all = [...list.querySelectorAll(list.querySelector('.menu') ? '.menu button' : 'a')]
    const at = all.indexOf(parentElement.activeElement)
    all[Math.max(0, Math.min(all.length - 1, at + step))]?.focus()
    event.preventDefault()
  }
  list.onfocusout = event => { if (!list.contains(event.relatedTarget)) closeMenus(list) }
}
"""


@dataclass(frozen=True, slots=True)
class Picked:
    """What was clicked in this run: the id of a conversation, or None for each of the acts."""

    open: str | None
    rename: str | None
    remove: str | None


def draw(
    groups: Sequence[tuple[str, Sequence[tuple[str, str]]]], *, active: str, empty: str
) -> Picked:
    """Draw (day, [(id, title)]) groups; `active` is the open one's id, `empty` what no rows say."""
    result = _element()(
        key="conversations",
        data={"groups": groups, "active": active, "empty": empty},
        on_open_change=lambda: None,
        on_rename_change=lambda: None,
        on_remove_change=lambda: None,
    )
    return Picked(_text(result.open), _text(result.rename), _text(result.remove))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@cache
def _element() -> ComponentRenderer:
    return st.components.v2.component("purser_conversations", html=_HTML, css=_CSS, js=_JS)
