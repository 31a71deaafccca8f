"""core/identity/passwords.py and the lock-out in SQL"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import bcrypt
import pytest
from sqlalchemy import text
from streamlit_authenticator.models import AuthenticationModel
from streamlit_authenticator.utilities.hasher import Hasher

from core import clock, db, errors, settings
from core.crypto import token_hash
from core.db import Database
from core.identity import common_passwords, cookies, keys, passwords, sessions, tenants
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


def _rewind(minutes: int) -> None:
    """So many minutes pass, for every count."""
    change(
        "update app.sign_in_failures set last_failed_at ="
        " last_failed_at - make_interval(mins => :m)", m=minutes,
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
    assert passwords.verify(email, PASSWORD, address) is None
    first = db.current()
    db.install(another_process)
    try:
        assert passwords.verify(email, PASSWORD, address) is None
    finally:
        db.install(first)


def test_nobody_locks_somebody_out_from_another_address(user_id: UUID, email: str) -> None:
    """As long as they like: a quarter of an hour in which they try again and again."""
    attacker = "203.0.113.7"
    for _ in range(3):
        _fail(email, attacker, passwords.FAILURES_MAX_NAME + 3)
        assert passwords.verify(email, PASSWORD, attacker) is None
        assert passwords.verify(email, PASSWORD, "198.51.100.9") == user_id
        _rewind(14)


def test_from_many_addresses_a_name_is_locked_but_not_in_its_own_browser(
    user_id: UUID, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "FAILURES_MAX_EVERYWHERE", 6)
    own = cookies.issue_known(f" {email.upper()} ")
    for _ in range(6):
        _fail(email, an_address(), 1)
    assert passwords.verify(email, PASSWORD, an_address()) is None
    assert passwords.verify(email, PASSWORD, an_address(), known=own) == user_id
    assert passwords.verify(email, PASSWORD, an_address()) is None  # which unlocks nobody else
    for foreign in (cookies.issue_known(an_email()), own[:-1] + "0", own.replace(".", ".9", 1), "",
                    "x.y.z", "\ud800", "é" * 50, "x" * 10_000):  # fmt: skip
        assert (
            foreign == own or passwords.verify(email, PASSWORD, an_address(), known=foreign) is None
        )
    _rewind(15)
    assert passwords.verify(email, PASSWORD, an_address()) == user_id


def test_a_known_browser_has_a_count_of_its_own(user_id: UUID, email: str, address: str) -> None:
    """Whoever copied its cookie guesses no more often there than anywhere."""
    own = cookies.issue_known(email)
    for _ in range(passwords.FAILURES_MAX_NAME):
        assert passwords.verify(email, "wrong password", address, known=own) is None
    assert passwords.verify(email, PASSWORD, address, known=own) is None
    assert passwords.verify(email, PASSWORD, address) == user_id


def test_a_browser_is_known_for_half_a_year(email: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cookies.issue_known(email)
    assert cookies.known(own, email)
    now = clock.time_s()
    monkeypatch.setattr(clock, "time_s", lambda: now + cookies.KNOWN_S + 5)
    assert cookies.known(own, email) is None


@pytest.mark.parametrize(
    "proxy", ["127.0.0.1", "10.0.0.7", "172.20.0.1", "192.168.1.1", "::1", "fd00::5", "fe80::1",
              "::ffff:10.0.0.7", "100.64.3.4"],
)  # fmt: skip
def test_a_private_address_is_not_locked_for_all(
    user_id: UUID, email: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is not named may bring everybody from there; one name is locked there all the same."""
    monkeypatch.setattr(passwords, "FAILURES_MAX_ADDRESS", 3)
    for _ in range(4):
        _fail(an_email(), proxy, 1)
    assert passwords.verify(email, PASSWORD, proxy) == user_id
    _fail(email, proxy, passwords.FAILURES_MAX_NAME)
    assert passwords.verify(email, PASSWORD, proxy) is None


def test_a_network_of_one_customer_is_one_address(
    user_id: UUID, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "FAILURES_MAX_ADDRESS", 3)
    network = f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}"
    for host in range(1, 4):
        _fail(an_email(), f"{network}::{host}", 1)
    assert passwords.verify(email, PASSWORD, f"{network}::99") is None


NFC, NFD = "Zürich-Café-Ångström", unicodedata.normalize("NFD", "Zürich-Café-Ångström")


@pytest.mark.parametrize(("chosen", "typed"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_what_looks_the_same_is_the_same_password(address: str, chosen: str, typed: str) -> None:
    email = an_email()
    user_id = a_user(email, password=chosen)
    assert passwords.verify(email, typed, address) == user_id
    assert (
        passwords.verify(email, typed.replace("ü", "u").replace("\u0308", "", 1), address) is None
    )


@pytest.mark.parametrize("typed", [NFC, NFD])
def test_a_password_that_was_stored_as_it_was_typed_still_works(address: str, typed: str) -> None:
    email = an_email()
    user_id = a_user(email, password=NFC)
    old = bcrypt.hashpw(NFD.encode(), bcrypt.gensalt(4)).decode()
    change("update app.users set password_hash = :h where user_id = :u", h=old, u=user_id)
    assert passwords.verify(email, typed, address) == user_id
    form = passwords.Accounts(address)
    spelled = form.spelled(email, typed)
    assert Hasher.check_pw(spelled, str(form[email]["password"]))
    form[email]["failed_login_attempts"] = 0
    assert form.signed_in(email) == user_id


def test_choosing_a_spelling_is_one_attempt(user_id: UUID, email: str, address: str) -> None:
    for _ in range(passwords.FAILURES_MAX_NAME):
        form = passwords.Accounts(address)
        form.spelled(email, NFD)
        assert form[email]["password"]
        form[email]["failed_login_attempts"] = 1
    denied = [row for row in audit_rows(f"user:{user_id}") if row[0] == "sign_in"]
    assert len(denied) == passwords.FAILURES_MAX_NAME
    assert passwords.verify(email, PASSWORD, address) is None


@pytest.mark.parametrize(
    "password",
    ["password1", "12345678", "Password1", "iloveyou1", "QWERTYUIOP", "trustno1", "baseball"],
)
def test_a_password_that_everybody_tries_is_refused(password: str) -> None:
    with pytest.raises(errors.BadInput, match="tried first"):
        passwords.hash_password(password, rounds=4)


@pytest.mark.parametrize(
    "password",
    ["grace.hopper@example.com", "Grace.Hopper", "grace.hopper99", "GraceHopper", "grace hopper!"],
)
def test_ones_own_name_or_e_mail_is_no_password(password: str) -> None:
    own = ("grace.hopper@example.com", "Grace Hopper")
    with pytest.raises(errors.BadInput, match="own name or e-mail"):
        passwords.hash_password(password, own=own, rounds=4)
    assert passwords.hash_password(f"{password} of the navy", own=own, rounds=4)


def test_the_list_is_what_it_says() -> None:
    found = common_passwords._common()
    assert len(found) > 10_000
    assert {"123456", "password", "letmein"} <= found


def test_the_lock_fades_within_fifteen_minutes(user_id: UUID, email: str, address: str) -> None:
    _fail(email, address, passwords.FAILURES_MAX_NAME)
    _rewind(2)
    assert passwords.verify(email, PASSWORD, address) is None
    _rewind(2)  # a fifth of the failures is gone: one more attempt
    assert passwords.verify(email, "wrong password", address) is None
    assert passwords.verify(email, PASSWORD, address) is None
    _rewind(15)
    assert passwords.verify(email, PASSWORD, address) == user_id


def test_attempts_on_a_locked_name_do_not_prolong_the_lock(
    user_id: UUID, email: str, address: str
) -> None:
    _fail(email, address, passwords.FAILURES_MAX_NAME)
    _rewind(14)
    change("update app.sign_in_failures set failures = 100")
    _fail(email, address, 2)
    _rewind(1)
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
        changed = passwords.change_own(sign_in(user_id).token, PASSWORD, NEW, address)
        assert changed == passwords.Changed(sessions=0, keys=0)
        assert passwords.verify(email, NEW, address) == user_id
        assert passwords.verify(email, PASSWORD, address) is None

    def test_this_session_stays_and_all_others_of_the_person_end(self, user_id: UUID) -> None:
        this, *others = [sign_in(user_id) for _ in range(3)]
        colleague = a_user()
        join(this.principal.tenant_id, colleague)
        bystander = sign_in(colleague)
        ticket = sessions.issue_ticket(user_id)
        assert passwords.change_own(this.token, PASSWORD, NEW).sessions == 2
        assert sessions.who(this.token) is not None
        assert [sessions.who(other.token) for other in others] == [None, None]
        assert sessions.redeem(ticket, None, None) is None
        assert sessions.who(bystander.token) is not None

    @pytest.mark.parametrize("end_keys", [False, True])
    def test_api_keys_end_when_that_is_asked(self, user_id: UUID, *, end_keys: bool) -> None:
        this = sign_in(user_id)
        elsewhere, bystander = a_tenant(), a_user()
        join(elsewhere, user_id)
        join(elsewhere, bystander)
        with db.transaction(SYSTEM) as session:
            secrets = [
                keys.issue(session, SYSTEM, "k", tenant_id=tenant_id, user_id=of).secret
                for tenant_id, of in ((this.principal.tenant_id, user_id), (elsewhere, user_id),
                                      (elsewhere, bystander))
            ]  # fmt: skip
        changed = passwords.change_own(this.token, PASSWORD, NEW, end_keys=end_keys)
        assert changed.keys == (2 if end_keys else 0)
        assert [keys.who(secret) is None for secret in secrets] == [end_keys, end_keys, False]

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
        assert rows == [(f"user:{user_id}", "done", None, {"sessions_ended": 1, "keys_revoked": 0})]

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
        _rewind(15)
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
        _rewind(15)
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
                "select * from verbs.change_password(%s, %s, %s, true)",
                (token_hash(token), old_hash, new_hash),
            )
            assert row == {"ended": None, "keys_ended": None}
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
        assert passwords.verify(email, PASSWORD, address) is None
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
