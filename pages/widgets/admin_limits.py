"""The limits of a tenant, its people and its keys: what is used, when it resets, and a change. Admins
change those of people and keys; a tenant's own are the operators'."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db, errors
from core.identity import limits
from core.identity.access import Operator, Principal
from core.identity.limits import LimitName, LimitUse, State, Subject
from core.money import parse_usd, show
from pages.widgets import acts, over_bar, shown

_TITLES = {
    LimitName.MONTHLY_NUSD: "Spend a month (USD)",
    LimitName.MONTHLY_MESSAGES: "Messages a month",
    LimitName.MONTHLY_TOKENS: "Tokens a month",
    LimitName.REQUESTS_PER_MINUTE: "Requests a minute",
    LimitName.REQUESTS_PER_HOUR: "Requests an hour",
}
_ACTS = ("Set to", "Lift (unlimited)", "Back to the plan's")
_WHOSE = {Subject.TENANT: "Team", Subject.USER: "People", Subject.KEY: "API keys"}
_STATES = {State.FREE: "", State.NEAR: "80 % reached", State.REACHED: "Reached"}


def draw(who: Principal | Operator, tenant_id: UUID) -> None:
    """The limits that apply, with their use, above the form that changes one."""
    with db.transaction(who) as session:
        found = limits.overview(session, who, tenant_id)
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown("**Limits**", width="stretch")
    whose = head.segmented_control(
        "Whose limits", list(_WHOSE), default=Subject.TENANT, format_func=_WHOSE.__getitem__,
        required=True, key=f"limits_whose_{tenant_id}", label_visibility="collapsed",
    )  # fmt: skip
    _notice(found)
    st.caption(
        f"Months are the team's own, windows of a minute and an hour slide. Times are {shown.zone()}."
    )
    _table([use for use in found if use.subject == whose and _matters(use)])
    changeable = [
        use for use in found if isinstance(who, Operator) or use.subject != Subject.TENANT
    ]
    if changeable:
        _change(who, tenant_id, changeable)


def _matters(use: LimitUse) -> bool:
    return use.subject == Subject.TENANT or use.is_set or use.maximum is not None


def _notice(found: tuple[LimitUse, ...]) -> None:
    """How many limits are used up, or nearly: also those the table does not show now."""
    reached = sum(use.state is State.REACHED for use in found)
    near = sum(use.state is State.NEAR for use in found)
    if reached or near:
        st.caption(f":orange-badge[:material/speed: {reached:,} reached, {near:,} from 80 % on]")


def _table(found: list[LimitUse]) -> None:
    if not found:
        st.caption("No limit applies to any of them; what is set for one shows here.")
        return
    column = st.column_config
    within, over = over_bar.colors([None if u.percent is None else u.percent / 100 for u in found])
    st.dataframe(
        pd.DataFrame(
            {
                "of": [_named(use) for use in found],
                "limit": [_TITLES[use.name] for use in found],
                "state": ["Passed" if use.is_passed else _STATES[use.state] for use in found],
                "used": [_said(use.name, use.used) for use in found],
                "held": [_said(use.name, use.held) for use in found],
                "maximum": [_maximum_said(use) for use in found],
                "share": within,
                "over": over,
                "source": ["set here" if use.is_set else "plan" for use in found],
                "resets": [shown.moment(use.resets_at) for use in found],
            }
        ),
        hide_index=True, key="limits", height="content" if len(found) < 12 else 420,
        alt="Each limit with what is used, held and allowed, and when it resets",
        column_config={
            "of": column.TextColumn("Of", pinned=True), "limit": "Limit", "state": "State",
            "used": column.TextColumn("Used", alignment="right"),
            "held": column.TextColumn(
                "Reserved", alignment="right", help="For calls whose cost may still change"
            ),
            "maximum": column.TextColumn("At most", alignment="right"),
            "share": column.ProgressColumn("Used", format="percent", min_value=0, max_value=1),
            "over": column.ProgressColumn(
                "Passed", format="percent", min_value=0, max_value=1, color="red"
            ) if any(over) else None,
            "source": "From", "resets": "Resets",
        },
    )  # fmt: skip


def _named(use: LimitUse) -> str:
    return f"{use.label} ({use.owner})" if use.owner else use.label


def _maximum_said(use: LimitUse) -> str:
    return "Unlimited" if use.maximum is None else _said(use.name, use.maximum)


def _said(name: LimitName, amount: int) -> str:
    return show(amount) if name is LimitName.MONTHLY_NUSD else f"{amount:,}"


def _change(who: Principal | Operator, tenant_id: UUID, found: list[LimitUse]) -> None:
    subjects = {use.subject_id: use for use in found}
    chosen = subjects[st.selectbox(
        "Of whom", list(subjects), format_func=lambda of: _named(subjects[of]), width=360,
        key=f"limit_of_{tenant_id}",
    )]  # fmt: skip
    with st.form(acts.fresh("limit_form")):
        line = st.container(horizontal=True, vertical_alignment="bottom")
        name = line.selectbox(
            "Limit", list(_TITLES), format_func=_TITLES.__getitem__, key=acts.fresh("limit_name")
        )
        act = line.selectbox("Change", _ACTS, key=acts.fresh("limit_act"))
        value = line.text_input(
            "At most", key=acts.fresh("limit_value"), placeholder="Only for “Set to”"
        )
        st.caption("Applies to the next call. Calls that run are not stopped.")
        if st.form_submit_button("Change the limit", type="primary"):
            changed = acts.attempt(
                who,
                lambda session: _apply(
                    session, who, tenant_id, chosen, LimitName(name), act, value
                ),
            )
            if changed is not None:
                acts.done(changed)


def _apply(
    session: Session, who: Principal | Operator, tenant_id: UUID, of: LimitUse, name: LimitName,
    act: str, value: str,
) -> str:  # fmt: skip
    place = (session, who, tenant_id, of.subject, of.subject_id, name)
    if act == _ACTS[2]:
        limits.unset_limit(*place)
    else:
        limits.set_limit(*place, None if act == _ACTS[1] else _maximum(name, value))
    return f"Changed: {_TITLES[name].lower()}."


def _maximum(name: LimitName, value: str) -> int:
    """What was typed as the limit's number. Raises NotMoney or errors.BadInput."""
    if name is LimitName.MONTHLY_NUSD:
        return parse_usd(value)
    cleaned = value.strip().replace(",", "")
    if not (cleaned.isascii() and cleaned.isdigit() and len(cleaned) < 19):
        raise errors.BadInput("The limit is a whole number, such as 1,000.", param=name)
    return int(cleaned)
