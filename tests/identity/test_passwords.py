"""core/identity/passwords.py and the lock-out in SQL"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import bcrypt
import pytest
from sqlalchemy import text
from streamlit_authenticator.models import AuthenticationModel
from streamlit_authenticator.utilities.hasher import Hasher

from core import db, errors, settings
from core.crypto import keyed_hash, token_hash
from core.db import Database
from core.identity import passwords, sessions, tenants
from tests.identity.people import (
    PASSWORD,
    SYSTEM,
    a_tenant,
    a_user,
    an_address,
    an_email,
    audit_rows,
    change,
    join,
    sign_in,
)

NEW = "staple battery 8"
CHANGE = "user.password_change"

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def email() -> str:
    return an_email()


@pytest.fixture
def address() -> str:
    return an_address()


@pytest.fixture
def user_id(email: str) -> UUID:
    made = a_user(email, password=PASSWORD)
    join(a_tenant(), made)
    return made


@pytest.fixture
def another_process(database: Database) -> Iterator[Database]:
    """A second Database on the same server, as another web process has."""
    other = Database(settings.current(), database.url)
    yield other
    other.close()


def _rewind(email: str, minutes: int) -> None:
    change(
        "update app.sign_in_failures set last_failed_at ="
        " last_failed_at - make_interval(mins => :m) where subject_hash = :hash",
        m=minutes, hash=keyed_hash("sign_in_name", email),
    )  # fmt: skip


def _a_member() -> UUID:
    made = a_user(password=NEW)
    join(a_tenant(), made)
    return made


def _fail(email: str, address: str, times: int) -> None:
    for _ in range(times):
        assert passwords.verify(email, "wrong password", address) is None


def test_the_right_password_names_the_person(user_id: UUID, email: str, address: str) -> None:
    assert passwords.verify(email, PASSWORD, address) == user_id
    assert passwords.verify(f" {email.upper()} ", PASSWORD, None) == user_id


def test_importing_the_door_does_not_import_streamlit() -> None:
    code = "import sys, core.identity.passwords; sys.exit('streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hashes_are_the_form_packages_own() -> None:
    hashed = passwords.hash_password(PASSWORD, rounds=4)
    assert Hasher.is_hash(hashed)
    assert Hasher.check_pw(PASSWORD, hashed)


def test_nobodys_hash_costs_what_a_real_one_costs() -> None:
    real = passwords.hash_password(PASSWORD)
    assert passwords._NOBODY[:7] == real[:7]
    assert bcrypt.checkpw(b"", passwords._NOBODY.encode()) is False


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "x" * 73,
        "é" * 37,
        "with\0null",
        "line\nbreak",
        "\ud800urrogate",
        " padded pass ",
    ],
)
def test_a_password_that_could_never_be_typed_is_refused(password: str) -> None:
    with pytest.raises(errors.BadInput) as refusal:
        passwords.hash_password(password, rounds=4)
    assert refusal.value.param == "password"
    assert not password.strip() or password not in refusal.value.message


@pytest.mark.parametrize(
    "password", ["", PASSWORD + "x" * 100, PASSWORD + "\0", "\ud800", PASSWORD + " "]
)
def test_a_wrong_password_of_any_kind_is_refused(
    user_id: UUID, email: str, address: str, password: str
) -> None:
    assert passwords.verify(email, password, address) is None


@pytest.mark.parametrize("name", ["", "\0", "\ud800", "' or 1=1 --", "x" * 100_000, "no-mail"])
def test_a_name_of_any_kind_is_refused(name: str, address: str) -> None:
    assert passwords.verify(name, PASSWORD, address) is None


def test_the_72_byte_limit_does_not_make_long_passwords_equal(address: str) -> None:
    email, full = an_email(), "p" * 72
    user_id = a_user(email, password=full)
    assert passwords.verify(email, full, address) == user_id
    assert passwords.verify(email, full + "p", address) is None


def test_a_disabled_person_is_refused(user_id: UUID, email: str, address: str) -> None:
    change("update app.users set status = 'disabled' where user_id = :user", user=user_id)
    assert passwords.verify(email, PASSWORD, address) is None


def test_a_locked_name_refuses_the_right_password_in_every_process(
    user_id: UUID, email: str, address: str, another_process: Database
) -> None:
    _fail(email, address, passwords.FAILURES_MAX_NAME)
    assert passwords.verify(email, PASSWORD, an_address()) is None
    first = db.current()
    db.install(another_process)
    try:
        assert passwords.verify(email, PASSWORD, an_address()) is None
    finally:
        db.install(first)


def test_the_lock_fades_within_fifteen_minutes(user_id: UUID, email: str, address: str) -> None:
    _fail(email, address, passwords.FAILURES_MAX_NAME)
    _rewind(email, 2)
    assert passwords.verify(email, PASSWORD, address) is None
    _rewind(email, 2)  # a fifth of the failures is gone: one more attempt
    assert passwords.verify(email, "wrong password", address) is None
    assert passwords.verify(email, PASSWORD, address) is None
    _rewind(email, 15)
    assert passwords.verify(email, PASSWORD, address) == user_id


def test_attempts_on_a_locked_name_do_not_prolong_the_lock(
    user_id: UUID, email: str, address: str
) -> None:
    _fail(email, address, passwords.FAILURES_MAX_NAME)
    _rewind(email, 14)
    change("update app.sign_in_failures set failures = 100 where subject_hash = :h",
           h=keyed_hash("sign_in_name", email))  # fmt: skip
    _fail(email, address, 2)
    _rewind(email, 1)
    assert passwords.verify(email, PASSWORD, address) == user_id


def test_a_success_forgets_the_failures_of_the_name(
    user_id: UUID, email: str, address: str
) -> None:
    for _ in range(2):
        _fail(email, address, passwords.FAILURES_MAX_NAME - 1)
        assert passwords.verify(email, PASSWORD, address) == user_id


def test_an_address_is_locked_after_thirty_names(
    user_id: UUID, email: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "FAILURES_MAX_ADDRESS", 3)  # the count is SQL's, the limit ours
    for _ in range(3):
        _fail(an_email(), address, 1)
    assert passwords.verify(email, PASSWORD, address) is None
    assert passwords.verify(email, PASSWORD, an_address()) == user_id


def test_successes_do_not_lock_an_address(user_id: UUID, email: str, address: str,
                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(passwords, "FAILURES_MAX_ADDRESS", 2)
    for _ in range(3):
        assert passwords.verify(email, PASSWORD, address) == user_id


def test_parallel_guesses_cannot_pass_the_lock(user_id: UUID, email: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda _: passwords._begin(email, None), range(20)))
    assert sum(not attempt.locked for attempt in attempts) == passwords.FAILURES_MAX_NAME
    assert all(a.user_id is None for a in attempts if a.locked)


def test_each_counted_failure_is_audited_and_no_more(
    user_id: UUID, email: str, address: str
) -> None:
    _fail(email, address, passwords.FAILURES_MAX_NAME + 2)
    rows = audit_rows(f"user:{user_id}")
    denied = [row for row in rows if row[0] == "sign_in"]
    assert len(denied) == passwords.FAILURES_MAX_NAME
    assert {row[1] for row in denied} == {"denied"}


def test_unknown_wrong_and_locked_cost_the_same() -> None:
    email, locked_email = an_email(), an_email()
    a_user(email, password=PASSWORD, rounds=12)
    _fail(locked_email, an_address(), passwords.FAILURES_MAX_NAME)
    taken: dict[str, list[float]] = {"unknown": [], "wrong": [], "locked": [], "too long": []}
    for _ in range(4):
        for kind, name, password in (
            ("unknown", an_email(), "wrong password"),
            ("wrong", email, "wrong password"),
            ("locked", locked_email, "wrong password"),
            ("too long", an_email(), "x" * 100),
        ):
            began = time.thread_time()
            assert passwords.verify(name, password, None) is None
            taken[kind].append(time.thread_time() - began)
    medians = [statistics.median(times) for times in taken.values()]
    assert max(medians) < 1.5 * min(medians)


class TestChangeOwn:
    """The change of one's own password, by the bearer of a live session."""

    @staticmethod
    def _denied(user_id: UUID, action: str) -> int:
        return [row[:2] for row in audit_rows(f"user:{user_id}")].count((action, "denied"))

    def test_the_new_password_signs_in_and_the_old_one_no_more(
        self, user_id: UUID, email: str, address: str
    ) -> None:
        assert passwords.change_own(sign_in(user_id).token, PASSWORD, NEW, address) == 0
        assert passwords.verify(email, NEW, address) == user_id
        assert passwords.verify(email, PASSWORD, address) is None

    def test_this_session_stays_and_all_others_of_the_person_end(self, user_id: UUID) -> None:
        this, *others = [sign_in(user_id) for _ in range(3)]
        colleague = a_user()
        join(this.principal.tenant_id, colleague)
        bystander = sign_in(colleague)
        ticket = sessions.issue_ticket(user_id)
        assert passwords.change_own(this.token, PASSWORD, NEW) == 2
        assert sessions.who(this.token) is not None
        assert [sessions.who(other.token) for other in others] == [None, None]
        assert sessions.redeem(ticket, None, None) is None
        assert sessions.who(bystander.token) is not None

    def test_one_audit_row_without_a_secret(self, user_id: UUID) -> None:
        this, _ = sign_in(user_id), sign_in(user_id)
        passwords.change_own(this.token, PASSWORD, NEW)
        with db.transaction(SYSTEM) as session:
            rows = session.execute(
                text(
                    "select actor, outcome, before, after from app.audit_log"
                    " where object = :person and action = :action"
                ),
                {"person": f"user:{user_id}", "action": CHANGE},
            ).all()
        assert rows == [(f"user:{user_id}", "done", None, {"sessions_ended": 1})]

    def test_a_wrong_old_password_changes_nothing_and_counts_with_the_sign_ins(
        self, user_id: UUID, email: str, address: str
    ) -> None:
        this, other = sign_in(user_id), sign_in(user_id)
        _fail(email, address, passwords.FAILURES_MAX_NAME - 2)
        for _ in range(2):
            with pytest.raises(errors.BadInput) as refusal:
                passwords.change_own(this.token, "wrong password", NEW, address)
            assert refusal.value.param == "old"
        assert passwords.verify(email, PASSWORD, address) is None  # locked by now
        assert sessions.who(other.token) is not None
        assert self._denied(user_id, CHANGE) == 2
        _rewind(email, 15)
        assert passwords.verify(email, PASSWORD, address) == user_id

    def test_a_locked_name_refuses_the_right_old_password_in_the_same_words(
        self, user_id: UUID, email: str, address: str
    ) -> None:
        this = sign_in(user_id)
        said = set()
        for old in ("wrong password",) * passwords.FAILURES_MAX_NAME + (PASSWORD,):
            with pytest.raises(errors.BadInput) as refusal:
                passwords.change_own(this.token, old, NEW, address)
            said.add(refusal.value.message)
        assert len(said) == 1
        assert self._denied(user_id, CHANGE) == passwords.FAILURES_MAX_NAME
        _rewind(email, 15)
        assert passwords.verify(email, PASSWORD, address) == user_id

    def test_a_locked_address_refuses_too(
        self, user_id: UUID, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passwords, "FAILURES_MAX_ADDRESS", 2)
        _fail(an_email(), address, 2)
        with pytest.raises(errors.BadInput):
            passwords.change_own(sign_in(user_id).token, PASSWORD, NEW, address)

    @pytest.mark.parametrize("new", ["", "short", "x" * 73, "line\nbreak", " padded ", PASSWORD])
    def test_a_new_password_against_the_rules_is_refused_and_costs_no_attempt(
        self, user_id: UUID, email: str, address: str, new: str
    ) -> None:
        this = sign_in(user_id)
        for _ in range(passwords.FAILURES_MAX_NAME):
            with pytest.raises(errors.BadInput) as refusal:
                passwords.change_own(this.token, PASSWORD, new, address)
            assert refusal.value.param == "password"
        assert passwords.verify(email, PASSWORD, address) == user_id

    def test_only_a_live_session_may_ask(self, user_id: UUID, email: str, address: str) -> None:
        ended = sign_in(user_id).token
        sessions.end(ended)
        for token in (None, "", "x" * 43, ended):
            with pytest.raises(errors.NotSignedIn):
                passwords.change_own(token, PASSWORD, NEW, address)
        assert passwords.verify(email, PASSWORD, address) == user_id

    def test_a_person_without_a_password_cannot_make_one(self) -> None:
        person = a_user()
        join(a_tenant(), person)
        with pytest.raises(errors.BadInput):
            passwords.change_own(sign_in(person).token, "wrong password", NEW)

    def test_an_operator_without_a_tenant_changes_theirs(self, email: str, address: str) -> None:
        person = a_user(email, password=PASSWORD)
        with db.transaction(SYSTEM) as session:
            tenants.make_operator(session, SYSTEM, person, confirmed=True)
        passwords.change_own(sign_in(person).token, PASSWORD, NEW, address)
        assert passwords.verify(email, NEW, address) == person

    def test_of_two_changes_at_once_one_is_done(self, user_id: UUID, email: str) -> None:
        tokens = [sign_in(user_id).token for _ in range(2)]

        def change_to(number: int) -> str | None:
            new = f"{NEW} of {number}"
            try:
                passwords.change_own(tokens[number], PASSWORD, new)
            except errors.Refusal:
                return None
            return new

        with ThreadPoolExecutor(2) as pool:
            (done,) = [new for new in pool.map(change_to, range(2)) if new]
        assert passwords.verify(email, done, None) == user_id

    def test_the_function_changes_nothing_without_both_proofs(
        self, user_id: UUID, email: str, address: str
    ) -> None:
        mine, theirs = sign_in(user_id), sign_in(_a_member())
        held = passwords._begin(email, None).password_hash
        new_hash = passwords.hash_password(NEW, rounds=4)
        for token, old_hash in ((theirs.token, held), (mine.token, "x"), ("nobody's", held)):
            row = db.current().call(
                "select verbs.change_password(%s, %s, %s) as ended",
                (token_hash(token), old_hash, new_hash),
            )
            assert row == {"ended": None}
        assert passwords.verify(email, PASSWORD, address) == user_id


class TestAccounts:
    """The mapping, driven by streamlit-authenticator itself."""

    @staticmethod
    def _form(accounts: passwords.Accounts, name: str, password: str) -> bool:
        """The package's own model, as its login form calls it."""
        model = AuthenticationModel({"usernames": {}}, auto_hash=False)
        model.credentials = {"usernames": accounts}
        return bool(model.login(name, password, max_login_attempts=5))

    def test_the_right_password_signs_in(self, user_id: UUID, email: str, address: str) -> None:
        accounts = passwords.Accounts(address)
        assert self._form(accounts, email, PASSWORD)
        assert accounts.signed_in(email) == user_id
        assert accounts[email].get("email") == email

    def test_no_account_is_listed_and_every_name_is_in_it(self, email: str, address: str) -> None:
        accounts = passwords.Accounts(address)
        assert (list(accounts), len(accounts)) == ([], 0)
        assert email in accounts
        assert not self._form(accounts, email, PASSWORD)
        assert accounts.signed_in(email) is None

    def test_failures_count_with_those_of_other_doors(
        self, user_id: UUID, email: str, address: str
    ) -> None:
        _fail(email, address, 2)
        for _ in range(3):
            assert not self._form(passwords.Accounts(address), email, "wrong password")
        assert not self._form(passwords.Accounts(address), email, PASSWORD)
        assert passwords.verify(email, PASSWORD, address) is None

    def test_too_long_a_password_is_counted_and_refused(
        self, user_id: UUID, email: str, address: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        too_long = PASSWORD + "x" * 100
        for _ in range(passwords.FAILURES_MAX_NAME):
            assert not self._form(passwords.Accounts(address), email, too_long)
        assert passwords.verify(email, PASSWORD, an_address()) is None
        assert too_long not in capsys.readouterr().out

    def test_a_right_password_of_an_unknown_name_signs_nobody_in(self, address: str) -> None:
        accounts = passwords.Accounts(address)
        name = an_email()
        accounts[name]["password"]  # the read begins the attempt
        accounts[name]["failed_login_attempts"] = 0
        assert accounts.signed_in(name) is None

    def test_passing_without_an_attempt_signs_nobody_in(
        self, user_id: UUID, email: str, address: str
    ) -> None:
        accounts = passwords.Accounts(address)
        accounts[email]["failed_login_attempts"] = 0
        assert accounts.signed_in(email) is None

    def test_the_form_can_create_change_and_delete_nothing(self, email: str, address: str) -> None:
        accounts = passwords.Accounts(address)
        with pytest.raises(TypeError):
            accounts[email] = passwords.Account(email, address)
        with pytest.raises(TypeError):
            del accounts[email]
        with pytest.raises(TypeError):
            accounts[email]["password"] = "new"
