"""streamlit-authenticator's login form over our accounts, without its cookies: those can be read by
scripts and cannot be revoked. Only who passed comes out of it; no identity stays in the tab."""

from __future__ import annotations

import secrets
from uuid import UUID

import streamlit as st
from streamlit_authenticator import Authenticate
from streamlit_authenticator.controllers import AuthenticationController
from streamlit_authenticator.utilities import Encryptor, LoginError

from core.identity.passwords import Accounts
from pages.widgets import session

WRONG = "The email or the password is not right, or there were too many attempts. Please try again."
_FIELDS = {
    "Form name": "Sign in to Purser",
    "Username": "Email",
    "Password": "Password",
    "Login": "Sign in",
}
_LEFT_BEHIND = ("authentication_status", "username", "name", "email", "roles", "logout")


class _NoCookie:
    """Stands where the form expects its cookie: there is none."""

    def get_cookie(self) -> None:
        return None

    def set_cookie(self) -> None:
        return None

    def delete_cookie(self) -> None:
        return None


class _Controller(AuthenticationController):  # type: ignore[misc]  # the package has no types
    """The package's, which compares a password in one spelling: given the account's."""

    def __init__(self, accounts: Accounts, secret: str) -> None:
        super().__init__({"usernames": {}}, auto_hash=False, secret_key=secret)
        self._accounts = accounts

    def login(
        self, username: str | None = None, password: str | None = None, *rest: object,
        **more: object,
    ) -> bool | None:  # fmt: skip
        """As the package's."""
        if username and password:
            password = self._accounts.spelled(username, password.strip())
        passed: bool | None = super().login(username, password, *rest, **more)
        return passed


class LocalDoor(Authenticate):  # type: ignore[misc]  # the package has no types
    """The package's form over `accounts`: no component of its own, no cookie, no pause."""

    def __init__(self, accounts: Accounts) -> None:
        secret = secrets.token_hex(
            32
        )  # would only hide a captcha's text; nothing is signed with it
        self.api_key = self.path = None
        self.secret_key = secret
        self.attrs = {"login_sleep_time": 0}
        self.cookie_controller = _NoCookie()
        self.authentication_controller = _Controller(accounts, secret)
        self.authentication_controller.authentication_model.credentials = {"usernames": accounts}
        self.encryptor = Encryptor(secret)


def form(address: str | None, known: str | None = None) -> UUID | None:
    """Draw the form; the person whose password was right in this run. Raises errors.Unavailable."""
    accounts = Accounts(address, known)
    session.drop(*_LEFT_BEHIND)
    door = LocalDoor(accounts)
    try:
        door.login(fields=_FIELDS, key="sign_in")
    except LoginError:
        say_wrong()
        return None
    passed = accounts.signed_in(str(session.holds("username") or ""))
    status = session.holds("authentication_status")
    session.drop(*_LEFT_BEHIND)
    if status is False or (status is True and passed is None):
        say_wrong()
    return passed


def say_wrong() -> None:
    """The one answer to every sign-in that fails."""
    st.error(WRONG, icon=":material/lock:")
