"""Sign-in, the other pages, pictures for the guide, and that nothing secret reaches a log."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from core import db, settings
from core.demonstration import script
from core.identity import invites, members, tenants
from core.identity.access import Role
from tests.e2e.conftest import Tab
from tests.factories import TESTS, make_place
from tests.identity.people import a_user, an_email, join
from tests.processes import AppProcess
from tests.upstream import Upstream

pytestmark = pytest.mark.browser
CANARY = "canary-4711-the-secret-recipe"


def sign_in(page: Page, email: str, password: str) -> None:
    page.get_by_label("Email").or_(page.get_by_label("Username")).first.fill(email)
    page.locator("input[type=password]").first.fill(password)
    page.get_by_role("button", name="Sign in", exact=True).first.click()


@pytest.mark.parametrize("path", ["/", "/usage", "/account", "/admin", "/nonsense"])
def test_every_address_shows_the_sign_in_first(path: str, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.go(path)
    expect(page.locator("input[type=password]").first).to_be_visible()
    tab.complaints[:] = [c for c in tab.complaints if "does not seem to exist" not in c]
    assert page.get_by_test_id("stChatInputTextArea").count() == 0


def test_signing_in_and_out(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.go()
    sign_in(page, script.DEMO_EMAIL, "wrong password")
    expect(
        page.get_by_text(re.compile("wrong|incorrect|not right|do not match", re.IGNORECASE)).first
    ).to_be_visible()
    sign_in(page, script.DEMO_EMAIL, script.PASSWORD)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
    cookies = {cookie["name"]: cookie for cookie in tab.context.cookies()}
    assert cookies["purser_session"]["httpOnly"]
    page.reload()
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()


def test_a_cookie_of_nobody_gives_nothing(open_tab: Callable[..., Tab], app: AppProcess) -> None:
    tab = open_tab()
    tab.context.add_cookies([{"name": "purser_session", "value": "x" * 43, "url": app.url}])
    expect(tab.go("/usage").locator("input[type=password]").first).to_be_visible()


def test_a_key_made_on_the_page_works_with_the_api(
    open_tab: Callable[..., Tab], app: AppProcess, upstream: Upstream
) -> None:
    upstream.play("01_normal_usage_cost.txt", fresh_ids=True)
    place = make_place()
    page = open_tab(place).go("/account")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("textbox", name="Name").fill("my script")
    page.get_by_role("button", name=re.compile("Create|Make")).first.click()
    secret = page.get_by_test_id("stCode").first.inner_text()
    found = re.search(r"sk-purser-[\w-]{20,}", secret)
    assert found
    request = urllib.request.Request(
        f"{app.url}/v1/chat/completions", method="POST",
        headers={"Authorization": f"Bearer {found[0]}", "Content-Type": "application/json"},
        data=json.dumps(
            {"model": "openai/gpt-6-luna", "messages": [{"role": "user", "content": CANARY}]}
        ).encode(),
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.loads(response.read())
        assert response.headers["X-Purser-Cost-Usd"] == "0.0007144"
    assert answer["usage"]["cost"] == pytest.approx(0.0007144)
    assert found[0] not in app.log.read_text()


@pytest.mark.parametrize(
    ("dark", "phone"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_the_pages_of_the_demo_look_right_everywhere(
    dark: bool, phone: bool, open_tab: Callable[..., Tab], app: AppProcess
) -> None:
    """Every page of the demo accounts draws without a complaint; pictures are kept on request."""
    look = f"{'dark' if dark else 'light'}{'_phone' if phone else ''}"
    with db.transaction(TESTS) as session:
        member = tenants.find_user(session, TESTS, script.DEMO_EMAIL)
        operator = tenants.find_user(session, TESTS, script.OPERATOR_EMAIL)
    tab = open_tab(member, phone=phone, dark=dark)
    page = tab.go()
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
    with db.transaction(TESTS) as session:
        newest = session.execute(
            text("select conversation_id from app.conversations where user_id = :u"
                 " order by updated_at limit 1"),
            {"u": member},
        ).scalar_one()  # fmt: skip
    tab.go(f"/?c={newest}")
    expect(page.get_by_text(re.compile(r"\$\d")).last).to_be_visible()
    tab.picture(f"chat_{look}")
    tab.go("/usage")
    expect(page.get_by_text("Cost by model").first).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    tab.picture(f"usage_{look}")
    tab.go("/account")
    expect(page.get_by_text("API keys").first).to_be_visible()
    tab.picture(f"account_{look}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    admin = open_tab(operator, phone=phone, dark=dark)
    seen = admin.go("/admin")
    expect(
        seen.get_by_text("Northwind Trading").or_(seen.get_by_test_id("stDataFrame")).first
    ).to_be_visible()
    admin.picture(f"admin_{look}")


@pytest.mark.parametrize("phone", [False, True])
def test_an_invitations_link_lets_one_person_in_once(
    phone: bool, open_tab: Callable[..., Tab], app: AppProcess
) -> None:
    place, email = make_place(role="admin"), f"{uuid4().hex}@example.com"
    page = open_tab(place, phone=phone).go("/admin?part=Members")
    page.get_by_role("button", name="Invite", exact=False).first.click()
    page.get_by_role("textbox", name="E-mail").fill(email)
    page.get_by_role("button", name="Make the link").click()
    link = page.get_by_role("dialog").get_by_test_id("stCode").inner_text().strip()
    token = link.partition("/?invite=")[2]
    assert token
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 open")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")

    new = open_tab(phone=phone)
    seen = new.go(f"/?invite={token}")
    expect(seen.get_by_text(email)).to_be_visible()
    new.picture(f"invite_{'phone' if phone else 'light'}")
    seen.get_by_label("Your name").fill("Grace")
    seen.get_by_role("textbox", name="Choose a password").fill("a good long one")
    seen.get_by_label("The password again").fill("a good long one")
    seen.get_by_role("button", name="Accept and sign in").click()
    expect(seen.get_by_test_id("stChatInputTextArea")).to_be_visible(timeout=20_000)
    assert seen.url == f"{app.url}/"

    again = open_tab(phone=phone).go(f"/?invite={token}")
    expect(again.get_by_text("This invitation cannot be used")).to_be_visible()
    expect(again.get_by_label("Email").first).to_be_visible()
    expect(again).to_have_url(f"{app.url}/")
    assert token not in app.log.read_text()
    assert email not in app.log.read_text()


def test_whoever_is_signed_in_joins_by_a_link_without_a_password(
    open_tab: Callable[..., Tab], app: AppProcess
) -> None:
    """Signed out, the account without a password is left alone; signed in, one press accepts."""
    admin, guest, email = make_place(role="admin"), make_place(), an_email()
    join(guest.tenant_id, user_id := a_user(email))
    with db.transaction(admin.who) as session:
        issued = invites.invite(session, admin.who, admin.tenant_id, email, Role.FINANCE)
    path = issued.link.removeprefix(settings.current().app_url)
    nobody = open_tab().go(path)
    expect(nobody.get_by_text("an account without a password")).to_be_visible()
    expect(nobody.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    expect(nobody.get_by_label("Choose a password")).to_have_count(0)
    page = open_tab(user_id).go(path)
    expect(page.get_by_text(email)).to_be_visible()
    page.get_by_role("button", name="Accept", exact=True).click()
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible(timeout=20_000)
    expect(page).to_have_url(f"{app.url}/")
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_text("This browser").first).to_be_visible()
    with db.transaction(TESTS) as session:
        places = members.of_tenant(session, TESTS, admin.tenant_id)
    assert {place.role for place in places if place.user_id == user_id} == {Role.FINANCE}


def test_who_is_signed_out_everywhere_is_asked_to_sign_in_again(
    open_tab: Callable[..., Tab],
) -> None:
    place = make_place(role="admin")
    email = an_email()
    join(place.tenant_id, user_id := a_user(email))
    theirs = open_tab(user_id)
    expect(theirs.go().get_by_test_id("stChatInputTextArea")).to_be_visible()
    page = open_tab(place).go("/admin?part=Members")
    page.get_by_role("combobox", name="Person").click()
    page.get_by_role("option", name=email).click()
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_role("button", name="Sign this person out").click()
    expect(page.get_by_text("Browsers: 1")).to_be_visible()
    expect(theirs.go().locator("input[type=password]").first).to_be_visible()


def test_who_is_no_admin_does_not_reach_the_admin_page(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(make_place(role="finance"))
    page = tab.go("/admin")
    expect(
        page.get_by_role("dialog").or_(page.get_by_test_id("stChatInputTextArea")).first
    ).to_be_visible()
    assert "Health" not in page.locator("body").inner_text()
    tab.complaints[:] = [c for c in tab.complaints if "does not seem to exist" not in c]


def test_what_people_write_and_secrets_never_reach_the_log(
    open_tab: Callable[..., Tab], app: AppProcess, upstream: Upstream
) -> None:
    upstream.play("30_error_500_masked.txt", fresh_ids=True)
    place = make_place()
    tab = open_tab(place)
    page = tab.go()
    tab.ask(CANARY)
    expect(page.get_by_text("The provider failed").first).to_be_visible()
    upstream.play("01_normal_usage_cost.txt", fresh_ids=True)
    log = app.log.read_text()
    with urllib.request.urlopen(f"{app.url}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    with db.transaction(TESTS) as session:
        jobs = str(session.execute(text("select * from jobs.procrastinate_jobs")).all())
        audit = str(session.execute(text("select * from app.audit_log")).all())
    for secret in (CANARY, "sk-or-canary-0451", "purser_session="):
        for place_of_it in (log, metrics, jobs, audit, page.url):
            assert secret not in place_of_it
    assert place.who.email not in log + metrics
