"""People across tenants, for operators: who is an operator, and one person's access everywhere. What a
person may do within a team stands with that team."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session
from streamlit.delta_generator import DeltaGenerator

from core import db, errors
from core.identity import members, passwords, people, tenants
from core.identity.access import Operator
from core.identity.people import Person
from pages.widgets import acts, refusals, shown
from pages.widgets.text import plain


def draw(operator: Operator) -> None:
    """The search for one person, above the list of operators."""
    with st.container(border=True):
        st.markdown("**One person, everywhere**")
        email = st.text_input(
            "E-mail", key="person_sought", placeholder="Whom to look up", width=360
        )
        if email.strip():
            _found(operator, email)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Operators**", width="stretch")
        _new(operator, head)
        st.caption("They see every tenant's figures and nobody's chats, and act on this page.")
        with db.transaction(operator) as session:
            _table(people.operators(session, operator))


def _table(rows: tuple[Person, ...]) -> None:
    st.dataframe(
        pd.DataFrame(
            {
                "email": [row.email for row in rows],
                "name": [row.name for row in rows],
                "state": ["Active" if row.active else "Ended" for row in rows],
                "tenants": [", ".join(row.tenants) or shown.NONE for row in rows],
            }
        ),
        hide_index=True, key="operators", height="content" if len(rows) < 12 else 420,
        alt="E-mail, name and state of each operator",
        column_config={
            "email": st.column_config.TextColumn("E-mail", pinned=True), "name": "Name",
            "state": "Access", "tenants": "Also works in",
        },
    )  # fmt: skip


def _found(operator: Operator, email: str) -> None:
    try:
        with db.transaction(operator) as session:
            person = people.find(session, operator, email)
    except errors.Refusal as refusal:
        refusals.show(refusal)
        return
    where = ", ".join(plain(name) for name in person.tenants) or "no team"
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(
        f"**{plain(person.name or person.email)}**  \n:gray[:small[{plain(person.email)} · {where}]]",
        width="stretch",
    )
    if person.is_operator:
        line.badge("Operator", icon=":material/shield_person:")
    if person.unproven_of:
        line.badge("E-mail not confirmed", icon=":material/mail_off:", color="orange")
    if not person.active:
        line.badge("Ended everywhere", icon=":material/block:", color="red")
    if person.user_id == operator.user_id:
        st.caption("This is you: another operator can change your access.")
        return
    _access(operator, person, line)
    _sign_out(operator, person, line)
    _rights(operator, person, line)
    if person.unproven_of:
        _mailbox(operator, person, line)


def _mailbox(operator: Operator, person: Person, place: DeltaGenerator) -> None:
    name, team = plain(person.email), plain(person.unproven_of or "")
    with place.popover(
        "Confirm e-mail", icon=":material/mark_email_read:", key=acts.fresh("person_mail")
    ):
        st.markdown(
            f"The password of {name} was chosen with a link of {team}: whoever held it may not read this"
            " mailbox. Until somebody confirms that they do, the account can join no other team and"
            " cannot become an operator."
        )
        if st.button("I reached them at this address", type="primary",
                     key=acts.fresh("person_mail_now")):  # fmt: skip
            said = f"The e-mail of {name} is confirmed."
            _do(
                operator,
                lambda session: tenants.confirm_email(session, operator, person.user_id), said,
            )  # fmt: skip


def _access(operator: Operator, person: Person, place: DeltaGenerator) -> None:
    name = plain(person.email)
    label, icon = ("End access", "block") if person.active else ("Give access back", "undo")
    with place.popover(label, icon=f":material/{icon}:", key=acts.fresh("person_access")):
        st.markdown(
            f"{name} is signed out everywhere at once, and every API key of theirs is revoked for"
            " good. Chats, and what was used, are kept."
            if person.active
            else f"{name} may sign in again. Sessions and keys that ended stay ended."
        )
        turn = tenants.disable_user if person.active else tenants.enable_user
        if st.button(f"{label} of this person" if person.active else label, type="primary",
                     key=acts.fresh("person_access_now")):  # fmt: skip
            said = f"{name} {'has no access any more' if person.active else 'may sign in again'}."
            _do(operator, lambda session: turn(session, operator, person.user_id), said)


def _sign_out(operator: Operator, person: Person, place: DeltaGenerator) -> None:
    name = plain(person.email)
    with place.popover("Sign out", icon=":material/logout:", key=acts.fresh("person_out")):
        st.markdown(f"Every browser of {name} is signed out at once. API keys go on working.")
        if st.button("Sign out everywhere", type="primary", key=acts.fresh("person_out_now")):
            ended = acts.attempt(
                operator, lambda session: members.sign_out(session, operator, None, person.user_id)
            )
            if ended is not None:
                acts.done(f"Signed {name} out. Browsers: {ended}.")


def _rights(operator: Operator, person: Person, place: DeltaGenerator) -> None:
    name = plain(person.email)
    label = "Dismiss operator" if person.is_operator else "Make operator"
    with place.popover(label, icon=":material/shield_person:", key=acts.fresh("person_rights")):
        st.markdown(
            f"{name} loses this page and every other team's figures at once; their own places stay."
            if person.is_operator
            else f"{plain(person.described())} {name} will see every tenant's figures and may do"
            " everything on this page."
        )
        if st.button(f"{label} now", type="primary", key=acts.fresh("person_rights_now")):
            said = f"{name} is {'no operator any more' if person.is_operator else 'an operator'}."
            _do(operator, lambda session: _turn_rights(session, operator, person), said)


def _turn_rights(session: Session, operator: Operator, person: Person) -> None:
    if person.is_operator:
        tenants.dismiss_operator(session, operator, person.user_id)
    else:  # who it is, and where they work, stands above the button
        tenants.make_operator(session, operator, person.user_id, confirmed=True)


def _new(operator: Operator, place: DeltaGenerator) -> None:
    with (
        place.popover("New operator", icon=":material/add:", key=acts.fresh("operator_new")),
        st.form(acts.fresh("operator_form"), border=False),
    ):
        email = st.text_input("E-mail", key=acts.fresh("operator_email"))
        name = st.text_input("Name", key=acts.fresh("operator_name"))
        password = st.text_input(
            "First password", type="password", key=acts.fresh("operator_password"),
            help="At least 8 characters.", autocomplete="new-password",
        )  # fmt: skip
        st.caption("For a person nobody knows yet; look up one who is known.")
        if st.form_submit_button("Create operator", type="primary"):
            _do(
                operator, lambda session: _create(session, operator, email, name, password),
                f"{plain(email)} is an operator.",
            )  # fmt: skip


def _create(session: Session, operator: Operator, email: str, name: str, password: str) -> None:
    hashed = passwords.hash_password(password, own=(email, name))
    user_id = tenants.create_user(session, operator, email, name=name, password_hash=hashed)
    tenants.make_operator(session, operator, user_id, confirmed=False)


def _do(operator: Operator, work: acts.Work[None], said: str) -> None:
    def whole(session: Session) -> str:
        work(session)
        return said

    if (done := acts.attempt(operator, whole)) is not None:
        acts.done(done)
