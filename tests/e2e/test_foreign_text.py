"""The corpus of foreign text in Chromium: it is seen as it is, loads nothing, and breaks nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import streamlit
from playwright.sync_api import Browser, Route, expect

from core.http.headers import SecurityHeaders
from core.settings import Settings
from tests.e2e.conftest import DESKTOP, watch
from tests.foreign_text import CASES, ICONS, NOTHING
from tests.processes import ROOT, free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
_PAGE = Path(__file__).parent / "foreign_text_page.py"
_PATIENCE_S = 120
_AT_ONCE = 12
# A badge of ours is one, around a label; what stands in the label is not.
LABEL_NOTHING = f"{ICONS}, .katex, .stMarkdownColoredText, .stMarkdownShimmer"
_SEEN = """([first, cases, nothing, labelNothing]) => cases.map((one, n) => {
  const at = (kind) => document.querySelector(`.st-key-${kind}_${first + n}`)
  const shown = (of) => (of?.innerText ?? "").replaceAll("\\u00a0", " ")
  const of = (kind, wrong) =>
    [...at(kind).querySelectorAll(wrong)].map((e) => e.outerHTML.slice(0, 120))
  return {
    text: shown(at("answer")),
    typed: at("typed").querySelector("[data-testid=stText]")?.textContent ?? "",
    labels: [shown(at("label").querySelector("[data-testid=stCaptionContainer]"))],
    wrong: [...of("answer", one.absent), ...of("half", one.absent), ...of("typed", nothing),
      ...of("label", labelNothing)],
    missing: one.present && one.present.split(", ").filter((w) => !at("answer").querySelector(w)),
    broken: of("answer", "[data-testid=stException], [data-testid=stErrorElement], .stAlert"),
  }
})"""


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = (tmp_path_factory.mktemp("corpus") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(_PAGE), "--server.port", str(port)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if httpx2.get(f"{url}/_stcore/health").status_code == 200:
                break
        except httpx2.TransportError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def corpus(browser: Browser, page_url: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What is seen of each case under the product's own content policy, and all that went wrong."""
    html = (Path(streamlit.__file__).parent / "static" / "index.html").read_text("utf-8")
    host = urlsplit(page_url).netloc.encode()
    policy = SecurityHeaders(html, Settings(app_env="development")).of_page(host, "http")

    def with_policy(route: Route) -> None:
        answer = route.fetch()
        headers = answer.headers | {name.decode(): value.decode() for name, value in policy}
        route.fulfill(response=answer, headers=headers)

    context = browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    page, complaints, seen = context.new_page(), list[str](), list[dict[str, Any]]()
    watch(page, complaints, page_url)
    page.route(f"{page_url}/?*", with_policy)
    for first in range(0, len(CASES), _AT_ONCE):
        cases = CASES[first : first + _AT_ONCE]
        page.goto(f"{page_url}/?first={first}&count={len(cases)}")
        page.locator(".st-key-end").wait_for(state="attached", timeout=_PATIENCE_S * 1000)
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=_PATIENCE_S * 1000)
        page.wait_for_timeout(700)  # what a picture or a diagram would need to begin
        asked = [{"absent": case.absent, "present": case.present} for case in cases]
        seen += page.evaluate(_SEEN, [first, asked, NOTHING, LABEL_NOTHING])
    context.close()
    return seen, complaints


def test_every_case_is_seen_as_it_is(
    corpus: tuple[list[dict[str, Any]], list[str]],
) -> None:
    wrong = []
    for case, seen in zip(CASES, corpus[0], strict=True):
        label = " ".join(case.source[:200].split())
        if " ".join(case.shows.split()) not in " ".join(seen["text"].split()):
            wrong.append(f"{case.name}: shows {seen['text'][:200]!r}")
        if seen["typed"].replace("\r", "\n") != case.source.replace("\r", "\n").rstrip("\n"):
            wrong.append(f"{case.name}: typed shows {seen['typed'][:200]!r}")
        wrong += [f"{case.name}: label shows {one!r}" for one in seen["labels"] if one != label]
        for kind in ("wrong", "missing", "broken"):
            wrong += [f"{case.name}: {kind} {one}" for one in seen[kind] or ()]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_asked_of_another_host_and_no_policy_is_violated(
    corpus: tuple[list[dict[str, Any]], list[str]],
) -> None:
    assert corpus[1] == []
