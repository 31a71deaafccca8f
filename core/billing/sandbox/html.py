"""The frame of the stand-in's pages: plain, calm, readable without style, never mistaken for money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from starlette.responses import HTMLResponse, RedirectResponse, Response

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --accent: #4f46e5; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
main { max-width: 34rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
.mark { margin: 0; padding: .6rem 1rem; text-align: center; background: #b45309; color: #fff;
  font-weight: 600; }
h1 { font-size: 1.4rem; margin: 1rem 0 .25rem; } h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
.amount { font-size: 2rem; font-weight: 650; margin: 0 0 1rem; }
form { margin: .5rem 0; }
button, .button { display: inline-block; width: 100%; padding: .7rem 1rem; font: inherit;
  text-align: center; text-decoration: none; color: inherit; background: var(--soft);
  border: 1px solid var(--line); border-radius: .5rem; cursor: pointer; }
button.main { background: var(--accent); border-color: var(--accent); color: #fff; }
button:focus-visible, a:focus-visible, input:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 2px; }
input { width: 100%; padding: .6rem .7rem; font: inherit; border: 1px solid var(--line);
  border-radius: .5rem; background: Field; color: FieldText; }
table { width: 100%; border-collapse: collapse; } td, th { text-align: left; padding: .4rem .3rem;
  border-bottom: 1px solid var(--line); vertical-align: middle; }
td button { width: auto; padding: .3rem .7rem; } td form { display: inline; margin: 0 .2rem 0 0; }
.problem { border: 1px solid #dc2626; border-radius: .5rem; padding: .6rem .8rem; }
.quiet { opacity: .75; }
"""
_CLOSED = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def page(title: str, body: str, *, status: int = 200) -> Response:
    """A whole page; `body` is markup whose values are escaped already."""
    markup = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>"
        f'<p class="mark" role="note">Sandbox: no money moves</p><main>{body}</main></body></html>'
    )
    return HTMLResponse(markup, status, {"Content-Security-Policy": _CLOSED,
                                         "Cache-Control": "no-store"})  # fmt: skip


def away(url: str) -> Response:
    """See there."""
    return RedirectResponse(url, 303)


def text(value: object) -> str:
    """A value as text in markup."""
    return escape(str(value))


def money(minor: int, currency: str) -> str:
    """Whole cents as people read them."""
    sign = "-" if minor < 0 else ""
    units, cents = divmod(abs(minor), 100)
    symbol = "$" if currency == "usd" else f"{currency.upper()} "
    return f"{sign}{symbol}{units:,}.{cents:02d}"


def button(action: str, label: str, fields: Mapping[str, str], *, is_main: bool = False) -> str:
    """A button that sends these fields."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )
    kind = ' class="main"' if is_main else ""
    return (
        f'<form method="post" action="{escape(action)}">{hidden}'
        f"<button{kind}>{escape(label)}</button></form>"
    )


def problem(message: str | None) -> str:
    return f'<p class="problem" role="alert">{escape(message)}</p>' if message else ""


def link(url: str | None, label: str) -> str:
    if not url:
        return ""
    return f'<p><a class="button" href="{escape(url)}">{escape(label)}</a></p>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> str:
    """A table of markup cells, or a sentence when there are none."""
    if not rows:
        return f'<p class="quiet">{escape(empty)}</p>'
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
