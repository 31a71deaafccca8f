"""Chromium: how long after Enter the first word of an answer is on the screen.

The clock is the page's own, read in the frame that shows the word; nothing is screenshot.
"""

from __future__ import annotations

import os
import shutil
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from benchmarks import fakes
from benchmarks.quantiles import Quantiles, quantiles
from benchmarks.tabs import ChatVisit

COMPOSER = '[data-testid="stChatInputTextArea"]'
TIMEOUT_MS = 20_000
PAUSE_MS = 500

WATCH = """() => {
  const messages = () => document.querySelectorAll('[data-testid="stChatMessage"]');
  const watch = {before: messages().length, submitted: 0, seen: 0};
  const submitted = event => {
    if (event.key === 'Enter' && !watch.submitted) watch.submitted = performance.now();
  };
  document.addEventListener('keydown', submitted, true);
  const observer = new MutationObserver(() => {
    const all = messages();
    if (!watch.submitted || all.length <= watch.before) return;
    if (!all[all.length - 1].textContent.includes('tok0')) return;
    observer.disconnect();
    document.removeEventListener('keydown', submitted, true);
    requestAnimationFrame(() => { watch.seen = performance.now(); });
  });
  observer.observe(document.body, {subtree: true, childList: true, characterData: true});
  window.firstTokenWatch = watch;
}"""
SEEN = "() => window.firstTokenWatch.seen > 0"
ELAPSED = "() => window.firstTokenWatch.seen - window.firstTokenWatch.submitted"
ENDED = """last => {
  const all = document.querySelectorAll('[data-testid="stChatMessage"]');
  return all.length > 0 && all[all.length - 1].textContent.includes(last);
}"""


def added_first_token_ms(visit: ChatVisit, turns: int) -> Quantiles:
    """Submit to first visible token in milliseconds, minus the model's own wait; one tab asks
    `turns` times, after one turn that is not counted. The page must use `fakes.BROWSER_MODEL`."""
    pace = fakes.pace_of(fakes.BROWSER_MODEL)
    if pace is None:
        raise ValueError(f"not a fake model: {fakes.BROWSER_MODEL}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        context = browser.new_context()
        if visit.cookie:
            name, value = visit.cookie.split("=", 1)
            context.add_cookies([{"name": name, "value": value, "url": visit.url}])
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(_address(visit))
        page.wait_for_selector(COMPOSER)
        times = [_turn_ms(page, number, pace.chunks) for number in range(turns + 1)]
        browser.close()
    return quantiles(time_ms - pace.first_token_s * 1000 for time_ms in times[1:])


def _turn_ms(page: Page, number: int, chunks: int) -> float:
    page.wait_for_timeout(PAUSE_MS)
    page.evaluate(WATCH)
    page.fill(COMPOSER, f"question {number}")
    page.press(COMPOSER, "Enter")
    page.wait_for_function(SEEN)
    elapsed = float(page.evaluate(ELAPSED))
    page.wait_for_function(ENDED, arg=f"tok{chunks - 1}")
    return elapsed


def _address(visit: ChatVisit) -> str:
    root = urlsplit(visit.url)
    query = f"?{visit.query}" if visit.query else ""
    return f"{root.scheme}://{root.netloc}/{visit.page}{query}"
