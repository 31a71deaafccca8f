"""The password door: bcrypt hashes, a lock-out that all processes share, the change of one's own,
and a lazy mapping of accounts for the sign-in form. Never says, in words or in time, why a password
was not taken.

Wrong passwords lock a name at the address they come from, and an address. From many addresses they lock a
name too, but not in a browser in which its person signed in before: that has a count of its own.

Hashes are made with bcrypt itself, which streamlit-authenticator uses underneath: importing its
Hasher would import Streamlit. The two read each other's hashes.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import bcrypt

from core import db, errors
from core.crypto import keyed_hash, token_hash
from core.identity import common_passwords, cookies, names, sessions

FAILURES_MAX_NAME = 5  # of one name at one address, or in a known browser
FAILURES_MAX_EVERYWHERE = 50  # of one name
FAILURES_MAX_ADDRESS = 30
LENGTH_MIN = 8
BYTES_MAX = 72  # bcrypt reads no further
_ROUNDS = 12
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
_SIGN_IN, _CHANGE = "sign_in", "user.password_change"  # what the audit log calls a failed attempt

# A hash of a random password nobody kept, of the same cost as a real one: what an attempt on an
# unknown or locked name is compared with.
_NOBODY = "$2b$12$7vJaknTQOgxIik0DKPPqMelxQ5Ry5NwO0YUF6NEEBzNn1vL1zmKD2"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One counted attempt: who it may be, and the hash to compare with (nobody's when locked)."""

    user_id: UUID | None
    email: str
    name: str
    password_hash: str
    locked: bool
    subjects: tuple[bytes, ...]
    address: str | None


def hash_password(password: str, *, own: Sequence[str] = (), rounds: int = _ROUNDS) -> str:
    """A password as stored. Raises errors.BadInput for one that is too short, cannot be typed, is among
    those that are tried first, or is the person's `own` e-mail or name.

    The length limit is bcrypt's, in bytes: cutting silently would make long passwords equal.
    """
    password = common_passwords.normalized(password)
    if len(password) < LENGTH_MIN:
        raise errors.BadInput(
            f"The password needs at least {LENGTH_MIN} characters.", param="password"
        )
    secret = _bytes(password)
    if secret is None:
        raise errors.BadInput(
            f"The password must have at most {BYTES_MAX} bytes and no control characters.",
            param="password",
        )
    if password != password.strip():  # the sign-in form cuts them off
        raise errors.BadInput("The password must not begin or end with a space.", param="password")
    common_passwords.refuse_guessable(password, own)
    return bcrypt.hashpw(secret, bcrypt.gensalt(rounds)).decode()


def verify(
    email: str, password: str, address: str | None, *, known: str | None = None
) -> UUID | None:
    """The person whose password this is, or None: wrong, unknown, disabled and locked alike.

    Counts the attempt for the name and the address (None: unknown), or for the browser, where its
    cookie `known` says that the person signed in there before. Raises errors.Unavailable.
    """
    attempt = _begin(email, address, known)
    passed = _matches(password, attempt.password_hash) and attempt.user_id is not None
    _end(attempt, passed=passed)
    return attempt.user_id if passed else None


@dataclass(frozen=True, slots=True)
class Changed:
    """What a new password ended: other sessions, and API keys where that was asked for."""

    sessions: int
    keys: int


def change_own(
    token: str | None, old: str, new: str, address: str | None = None, *,
    known: str | None = None, end_keys: bool = False,
) -> Changed:  # fmt: skip
    """Give the person of a session a new password, and end their other sessions; with `end_keys` their
    API keys of all tenants too.

    `token` is the session's, `old` an attempt as at sign-in: counted, and refused while the name or
    the address is locked. Raises errors.NotSignedIn for a session that has ended; errors.BadInput
    for a new password against the rules, which costs no attempt, and for a wrong old one;
    errors.Conflict when the password was changed meanwhile.
    """
    signed_in = sessions.who(token)
    if token is None or signed_in is None:
        raise errors.NotSignedIn("Please sign in.")
    if common_passwords.normalized(new) == common_passwords.normalized(old):
        raise errors.BadInput("The new password is the old one.", param="password")
    new_hash = hash_password(new, own=(signed_in.who.email, signed_in.who.name))
    attempt = _begin(signed_in.who.email, address, known)
    passed = _matches(old, attempt.password_hash) and attempt.user_id == signed_in.user_id
    _end(attempt, passed=passed, action=_CHANGE)
    if not passed:
        raise errors.BadInput(
            "The old password was not accepted. After several wrong ones even the right one is"
            " refused for up to fifteen minutes.",
            param="old",
        )
    row = db.current().call(
        "select * from verbs.change_password(%s, %s, %s, %s)",
        (token_hash(token), attempt.password_hash, new_hash, end_keys),
    )
    if row is None or row["ended"] is None:
        raise errors.Conflict("The password was changed elsewhere in this moment.")
    return Changed(row["ended"], row["keys_ended"])


class Accounts(MutableMapping[str, "Account"]):
    """The accounts as streamlit-authenticator's form expects them, read one by one when asked.

    Every name is in it and none is listed: an unknown one has a hash that nothing matches, so that
    it costs what a wrong password costs. Made anew for each attempt of one browser address.
    """

    def __init__(self, address: str | None, known: str | None = None) -> None:
        self._address, self._known = address, known
        self._asked: dict[str, Account] = {}

    def signed_in(self, email: str) -> UUID | None:
        """The person whose password the form found right, if it did."""
        account = self._asked.get(_key(email))
        return account.passed_user_id if account else None

    def spelled(self, email: str, password: str) -> str:
        """A password as this account has it spelled: the form compares one spelling only, and letters
        with marks can have several. Plain ASCII has one."""
        found = _spellings(password)
        return self[email].choose(found) if len(found) > 1 else password

    def __contains__(self, email: object) -> bool:
        return isinstance(email, str)

    def __getitem__(self, email: str) -> Account:
        return self._asked.setdefault(_key(email), Account(email, self._address, self._known))

    def __setitem__(self, email: str, account: Account) -> None:
        raise TypeError("accounts are not created through the sign-in form")

    def __delitem__(self, email: str) -> None:
        raise TypeError("accounts are not deleted through the sign-in form")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Account(MutableMapping[str, object]):
    """One account in the form's eyes. Reading `password` counts an attempt; the form then writes
    `failed_login_attempts`: 0 when it passed, more when it failed. Other fields stay here."""

    def __init__(self, email: str, address: str | None, known: str | None = None) -> None:
        self._email, self._address, self._known = email, address, known
        self._attempt: _Attempt | None = None
        self._is_chosen = False
        self._fields: dict[str, object] = {"failed_login_attempts": 0}
        self.passed_user_id: UUID | None = None

    def choose(self, spellings: Sequence[str]) -> str:
        """The spelling that is this account's password; the first when none is."""
        stored = self._begun().password_hash
        self._is_chosen = True  # the form reads it next, for the same attempt
        return next((one for one in spellings if _is(one, stored)), spellings[0])

    def __getitem__(self, field: str) -> object:
        if field == "password":
            return self._begun().password_hash
        return self._fields[field]

    def __setitem__(self, field: str, value: object) -> None:
        if field == "failed_login_attempts":
            self._ended(passed=value == 0)
        elif field == "logged_in":
            self._fields[field] = value
        else:
            raise TypeError("the sign-in form changes no account")

    def __delitem__(self, field: str) -> None:
        raise TypeError("the sign-in form changes no account")

    def __contains__(self, field: object) -> bool:
        return field == "password" or field in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(("password", *self._fields))

    def __len__(self) -> int:
        return len(self._fields) + 1

    def _begun(self) -> _Attempt:
        if self._is_chosen and self._attempt is not None:
            self._is_chosen = False
            return self._attempt
        self.passed_user_id = None
        self._attempt = attempt = _begin(self._email, self._address, self._known)
        self._fields |= {"email": attempt.email, "name": attempt.name}
        return attempt

    def _ended(self, *, passed: bool) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        passed = passed and attempt.user_id is not None
        _end(attempt, passed=passed)
        self.passed_user_id = attempt.user_id if passed else None


def _begin(email: str, address: str | None, known: str | None = None) -> _Attempt:
    address = names.printable(address, length_max=64) if address else None
    counted = _subjects(_key(email), _counted(address), cookies.known(known, email))
    row = db.current().call(
        "select * from verbs.begin_sign_in(%s, %s, %s)",
        (_known_shape(email), list(counted), list(counted.values())),
    )
    if row is None:
        raise errors.Unavailable("The database did not answer.")
    return _Attempt(
        user_id=row["user_id"], email=row["email"] or "", name=row["name"] or "",
        password_hash=row["password_hash"] or _NOBODY, locked=row["locked"],
        subjects=tuple(counted), address=address,
    )  # fmt: skip


def _subjects(name: str, address: str | None, browser: str | None) -> dict[bytes, int]:
    """What an attempt counts for, and how many may fail; the first starts anew when one passes."""
    if browser is not None:
        return {keyed_hash("sign_in_browser", f"{browser} {name}"): FAILURES_MAX_NAME}
    counted = {
        keyed_hash("sign_in_name_at", f"{address} {name}"): FAILURES_MAX_NAME,
        keyed_hash("sign_in_name", name): FAILURES_MAX_EVERYWHERE,
    }
    if address is not None:
        counted[keyed_hash("sign_in_address", address)] = FAILURES_MAX_ADDRESS
    return counted


def _counted(address: str | None) -> str | None:
    """Whose attempts count as one address': of IPv6 the network that one customer has. None for the
    private ones, from which a proxy that we do not know may bring everybody."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return address
    found = getattr(found, "ipv4_mapped", None) or found
    if any(found in network for network in _PRIVATE if network.version == found.version):
        return None
    return (
        str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
    )


def _end(attempt: _Attempt, *, passed: bool, action: str = _SIGN_IN) -> None:
    db.current().call(
        "select verbs.end_sign_in(%s, %s, %s, %s, %s, %s)",
        (passed, attempt.locked, attempt.user_id, list(attempt.subjects), attempt.address, action),
    )


def _matches(password: str, password_hash: str) -> bool:
    """At least one bcrypt, also for a password that no account can have, and one more for each other
    spelling of what was typed."""
    return any(_is(spelled, password_hash) for spelled in _spellings(password))


def _spellings(password: str) -> tuple[str, ...]:
    """As it is stored now, then as older ones may have been, which were stored as they were typed."""
    found = (
        common_passwords.normalized(password),
        password,
        unicodedata.normalize("NFD", password),
    )
    return tuple(dict.fromkeys(found))


def _is(password: str, password_hash: str) -> bool:
    secret = _bytes(password)
    same = bcrypt.checkpw(secret or b"-", password_hash.encode())
    return same and secret is not None


def _bytes(password: str) -> bytes | None:
    """What bcrypt is given; None for an empty, too long or untypeable password."""
    if not password or not names.is_line(password):
        return None
    secret = password.encode()
    return secret if len(secret) <= BYTES_MAX else None


def _key(email: str) -> str:
    """One spelling of a name, also of one that is no e-mail, so that variants share a count."""
    return email.strip().lower()


def _known_shape(email: str) -> str:
    """The e-mail to look up, or '' (nobody's) for text that is none, which may be unstorable."""
    try:
        return names.email(email)
    except errors.BadInput:
        return ""
