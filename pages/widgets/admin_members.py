"""The people of one tenant, for its admins and for operators: who has a place, what they spent, and
the acts on one of them. Shows nothing of where else a person works."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db, errors
from core.identity import invites, limits, members, passwords, people, tenants
from core.identity.access import Operator, Principal, Role
from core.identity.limits import LimitName, Subject
from core.identity.members import Place, State
from core.identity.people import Person
from pages.widgets import acts, admin_invites, shown
from pages.widgets import session as tab
from pages.widgets.text import plain

_FIRST_HELP = "At least 8 characters. Leave it empty for a person who is known already."
_ASKED = "person_asked"  # the known e-mail that the tab asks about
_BLOCKED = "Operators ended this person's access everywhere; only they can give it back."


def draw(who: Principal | Operator, tenant_id: UUID, tenant_name: str) -> None:
    """The table, its acts, and the invitations that are open."""
    with db.transaction(who) as session:
        places = members.of_tenant(session, who, tenant_id)
        sent = invites.of_tenant(session, who, tenant_id)
        spent = {
            use.subject_id: use.counted
            for use in limits.overview(session, who, tenant_id)
            if (use.subject, use.name) == (Subject.USER, LimitName.MONTHLY_NUSD)
        }
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown("**People**", width="stretch")
    admin_invites.form(who, tenant_id, tenant_name, head)
    if isinstance(who, Operator):
        _add(who, tenant_id, tenant_name, head)
    admin_invites.show_issued()
    if places:
        active = sum(person.state is State.ACTIVE for person in places)
        st.caption(
            f"{active:,} of {len(places):,} can sign in. Spend is that of the team's own month, with what"
            f" is reserved. Times are {shown.zone()}."
        )
        _table(places, spent)
        _manage(who, tenant_id, tenant_name, places)
    else:
        st.caption("Nobody yet. Invite the first person: they choose their own password.")
    admin_invites.draw(who, tenant_id, sent, {person.user_id: person.email for person in places})


def _table(places: tuple[Place, ...], spent: dict[UUID, int]) -> None:
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "name": [person.name for person in places],
                "email": [person.email for person in places],
                "role": [person.role.value for person in places],
                "status": [person.state.value for person in places],
                "spent": [shown.usd_exact(spent.get(person.user_id, 0)) for person in places],
                "seen": [shown.ago(person.last_seen_at) for person in places],
                "sessions": [person.sessions for person in places],
                "joined": [shown.moment(person.joined_at) for person in places],
            }
        ),
        hide_index=True, key="people", height="content" if len(places) < 12 else 420,
        alt="Name, e-mail, role, status, spend and sessions of each person",
        column_config={
            "name": column.TextColumn("Name", pinned=True), "email": "E-mail", "role": "Role",
            "status": "Status",
            "spent": column.TextColumn("Spent this month", alignment="right"),
            "seen": column.TextColumn("Last seen", help="In this team"),
            "sessions": column.NumberColumn("Signed in", help="Browsers signed in to this team"),
            "joined": "Since",
        },
    )  # fmt: skip


def _manage(
    who: Principal | Operator, tenant_id: UUID, tenant_name: str, places: tuple[Place, ...]
) -> None:
    known = {person.user_id: person for person in places}
    line = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = line.selectbox(
        "Person", list(known), format_func=lambda of: known[of].email, width=280, index=None,
        placeholder="Whom to change", key=f"member_{tenant_id}",
    )  # fmt: skip
    if chosen is None:
        return
    person = known[chosen]
    if person.state is State.BLOCKED:
        st.caption(_BLOCKED)
    _role(who, tenant_id, person, line)
    _place(who, tenant_id, tenant_name, person, line)
    _sign_out(who, tenant_id, tenant_name, person, line)


def _role(
    who: Principal | Operator, tenant_id: UUID, person: Place,
    place: st.delta_generator.DeltaGenerator,
) -> None:  # fmt: skip
    with (
        place.popover("Role", icon=":material/badge:", key=acts.fresh("member_role")),
        st.form(acts.fresh("member_role_form"), border=False),
    ):
        every = list(Role)
        role = st.selectbox(
            "Role", every, index=every.index(person.role), format_func=str,
            key=acts.fresh(f"member_role_of_{person.user_id}"),
        )  # fmt: skip
        st.caption(f"{plain(person.email)} has it from the next click on.")
        if st.form_submit_button("Change the role", type="primary"):
            _do(
                who, lambda session: members.change(
                    session, who, tenant_id, person.user_id, role=Role(role)
                ), f"{plain(person.email)} is {role} now.",
            )  # fmt: skip


def _place(
    who: Principal | Operator, tenant_id: UUID, tenant_name: str, person: Place,
    place: st.delta_generator.DeltaGenerator,
) -> None:  # fmt: skip
    enabled = person.state is not State.DISABLED
    label, icon = ("Disable", ":material/block:") if enabled else ("Enable", ":material/undo:")
    with place.popover(label, icon=icon, key=acts.fresh("member_place")):
        name, team = plain(person.email), plain(tenant_name)
        st.markdown(
            f"{name} is signed out of {team} at once, and refused there by API key. Chats, keys,"
            " limits and what was used are kept; other teams are not touched."
            if enabled
            else f"{name} may sign in to {team} again at once, as {person.role}. Keys that were not"
            " revoked work again."
        )
        if st.button(f"{label} this person", type="primary", key=acts.fresh("member_place_now")):
            _do(
                who, lambda session: members.change(
                    session, who, tenant_id, person.user_id, active=not enabled
                ), f"{name} is {'disabled' if enabled else 'enabled'}.",
            )  # fmt: skip


def _sign_out(
    who: Principal | Operator, tenant_id: UUID, tenant_name: str, person: Place,
    place: st.delta_generator.DeltaGenerator,
) -> None:  # fmt: skip
    with place.popover(
        "Sign out everywhere", icon=":material/logout:", key=acts.fresh("member_out")
    ):
        name = plain(person.email)
        where = "" if isinstance(who, Operator) else f" that works in {plain(tenant_name)}"
        st.markdown(
            f"Every browser of {name}{where} is signed out at once. They can sign in again; API keys"
            " go on working, and answers that run are finished."
        )
        if st.button("Sign this person out", type="primary", key=acts.fresh("member_out_now")):
            ended = acts.attempt(
                who, lambda session: members.sign_out(session, who, tenant_id, person.user_id)
            )
            if ended is not None:
                acts.done(f"Signed {name} out. Browsers: {ended}.")


def _do(who: Principal | Operator, work: acts.Work[None], said: str) -> None:
    def whole(session: Session) -> str:
        work(session)
        return said

    if (done := acts.attempt(who, whole)) is not None:
        acts.done(done)


def _add(
    operator: Operator, tenant_id: UUID, tenant_name: str,
    place: st.delta_generator.DeltaGenerator,
) -> None:  # fmt: skip
    with (
        place.popover("Add a person", icon=":material/person_add:", key=acts.fresh("person_new")),
        st.form(acts.fresh("person_form"), border=False),
    ):
        email = st.text_input("E-mail", key=acts.fresh("person_email"))
        name = st.text_input("Name", key=acts.fresh("person_name"))
        role = st.selectbox("Role", [role.value for role in Role], key=acts.fresh("person_role"))
        password = st.text_input(
            "First password", type="password", key=acts.fresh("person_password"), help=_FIRST_HELP,
            autocomplete="new-password",
        )  # fmt: skip
        st.caption(f"They can sign in to {plain(tenant_name)} at once.")
        if st.form_submit_button("Add", type="primary"):
            tab.keep(_ASKED, "")
            known = _known(operator, email)
            if known is not None:
                tab.keep(_ASKED, known.email)
            else:
                _do(
                    operator,
                    lambda session: _create(
                        session, operator, tenant_id, email, name, Role(role), password
                    ),
                    f"Added {plain(email)} to {plain(tenant_name)}.",
                )
    known = _known(operator, email) if tab.recall(_ASKED, "") else None
    if known is not None and known.email == tab.recall(_ASKED, ""):
        with place.container(border=True):
            _ask(operator, tenant_id, tenant_name, known, Role(role))


def _ask(operator: Operator, tenant_id: UUID, tenant_name: str, known: Person, role: Role) -> None:
    """Say who the e-mail is before they get a place, and add them only when that was meant."""
    st.warning(plain(known.described()), icon=":material/person_alert:")
    line = st.container(horizontal=True)
    if line.button("Yes, add this person", type="primary", key=acts.fresh("person_known")):
        tab.drop(_ASKED)
        _do(
            operator,
            lambda session: members.add(
                session, operator, tenant_id, known.user_id, role, confirmed=True
            ),
            f"Added {plain(known.email)} to {plain(tenant_name)}.",
        )
    if line.button("No", key=acts.fresh("person_not_meant")):
        tab.drop(_ASKED)
        acts.renew()


def _known(operator: Operator, email: str) -> Person | None:
    """Whose this e-mail is, if it is somebody's."""
    try:
        with db.transaction(operator) as session:
            return people.find(session, operator, email)
    except (errors.NotFound, errors.BadInput):
        return None


def _create(
    session: Session, operator: Operator, tenant_id: UUID, email: str, name: str, role: Role,
    password: str,
) -> None:  # fmt: skip
    """Make a person and put them into the tenant."""
    if not password:
        raise errors.BadInput("A new person needs a first password.", param="password")
    user_id = tenants.create_user(
        session,
        operator,
        email,
        name=name,
        password_hash=passwords.hash_password(password, own=(email, name)),
    )
    members.add(session, operator, tenant_id, user_id, role, confirmed=False)
