"""Invitations into one tenant: make a link (shown once), see which are open, take one back. The link
is in no table, URL of ours or log; once its dialog is closed nobody can read it again."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core.identity import invites
from core.identity.access import Operator, Principal, Role, SignedIn
from core.identity.invites import Invite, IssuedInvite
from pages.widgets import acts, fragments, shown
from pages.widgets import session as tab
from pages.widgets.text import plain

_ISSUED = "issued_invite"


def form(
    who: Principal | Operator, tenant_id: UUID, tenant_name: str,
    place: st.delta_generator.DeltaGenerator,
) -> None:  # fmt: skip
    """The popover that makes a link."""
    with (
        place.popover("Invite", icon=":material/mail:", key=acts.fresh("invite_new")),
        st.form(acts.fresh("invite_form"), border=False),
    ):
        email = st.text_input("E-mail", key=acts.fresh("invite_email"))
        role = st.selectbox("Role", [role.value for role in Role], key=acts.fresh("invite_role"))
        st.caption(
            f"Makes a link into {plain(tenant_name)}, good once and for {invites.LIFE.days} days."
            " You hand it over; nothing is mailed."
        )
        if st.form_submit_button("Make the link", type="primary"):
            _issue(
                who, lambda session: invites.invite(session, who, tenant_id, email, Role(role))
            )  # fmt: skip


def show_issued() -> None:
    """Show the link made in the run before, and forget it."""
    issued = tab.holds(_ISSUED)
    tab.drop(_ISSUED)
    if isinstance(issued, IssuedInvite):
        _show_once(issued)


def draw(
    who: Principal | Operator, tenant_id: UUID, sent: tuple[Invite, ...], people: dict[UUID, str]
) -> None:
    """The links that were not used, and what can be done with one; nothing where there are none.

    `people` are e-mails of the tenant's own, to name whoever invited.
    """
    if not sent:
        return
    still_open = sum(entry.is_open() for entry in sent)
    st.caption(f"Invitations: {still_open:,} open, {len(sent) - still_open:,} too old.")
    st.dataframe(
        pd.DataFrame(
            {
                "email": [entry.email for entry in sent],
                "role": [entry.role.value for entry in sent],
                "state": ["open" if entry.is_open() else "too old" for entry in sent],
                "expires": [shown.moment(entry.expires_at) for entry in sent],
                "by": [_named(entry.invited_by, people) for entry in sent],
            }
        ),
        hide_index=True, key="invites", height="content" if len(sent) < 8 else 320,
        alt="E-mail, role, state and end of each invitation",
        column_config={
            "email": st.column_config.TextColumn("E-mail", pinned=True), "role": "Role",
            "state": "State", "expires": "Good until", "by": "Invited by",
        },
    )  # fmt: skip
    _manage(who, tenant_id, sent)


def _manage(who: Principal | Operator, tenant_id: UUID, sent: tuple[Invite, ...]) -> None:
    known = {entry.invite_id: entry for entry in sent}
    line = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = known[line.selectbox(
        "Invitation", list(known), format_func=lambda of: known[of].email, width=280,
        key=acts.fresh("invite_chosen"),
    )]  # fmt: skip
    with line.popover("New link", icon=":material/refresh:", key=acts.fresh("invite_again")):
        st.markdown(
            f"Makes another link for {plain(chosen.email)} as {chosen.role}. The old one ends."
        )
        if st.button("Make a new link", type="primary", key=acts.fresh("invite_again_now")):
            _issue(
                who, lambda session: invites.reissue(session, who, tenant_id, chosen.invite_id)
            )  # fmt: skip
    with line.popover("Take back", icon=":material/undo:", key=acts.fresh("invite_revoke")):
        st.markdown(
            f"The link of {plain(chosen.email)} ends at once. Who has used it stays a member."
        )
        if st.button("Take this link back", type="primary", key=acts.fresh("invite_revoke_now")):
            _revoke(who, tenant_id, chosen)


def _issue(who: Principal | Operator, work: acts.Work[IssuedInvite]) -> None:
    issued = acts.attempt(who, work)
    if issued is not None:
        tab.keep(_ISSUED, issued)
        acts.renew()


def _revoke(who: Principal | Operator, tenant_id: UUID, entry: Invite) -> None:
    def work(session: Session) -> str:
        invites.revoke(session, who, tenant_id, entry.invite_id)
        return f"Took the link of {plain(entry.email)} back."

    if (said := acts.attempt(who, work)) is not None:
        acts.done(said)


@fragments.dialog("The invitation's link", width="medium")
def _show_once(_found: SignedIn, issued: IssuedInvite) -> None:
    st.markdown(
        f"Copy it now and hand it to {plain(issued.email)}: **it is shown this once** and cannot be"
        f" read again. It is good once, until {shown.moment(issued.expires_at)}."
    )
    st.code(issued.link, language=None, wrap_lines=True)


def _named(actor: str, people: dict[UUID, str]) -> str:
    kind, _, actor_id = actor.partition(":")
    if kind != "user":
        return "an operator"
    return people.get(UUID(actor_id), "somebody who left")
