"""The composer at the bottom of Chat: the model, what is left to spend, and the message. It asks as
the very first thing of a run; a refused message goes back into the composer as it was typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import streamlit as st

from core import db, errors
from core.catalog.models import ModelRow
from core.chat import conversations, turns
from core.chat.turns import Live
from core.identity.access import Principal
from pages.widgets import address, offered, purse, refusals, session
from pages.widgets.offered import Offer
from pages.widgets.text import plain

MESSAGE_LENGTH_MAX = 20_000
_TEXT, _MODEL, _MODEL_OF = "composer", "model", "_model_of"
_STARTED, _REFUSED, _DRAFT = "_started", "_refused", "_draft"


@dataclass(frozen=True, slots=True)
class Started:
    """An answer begun in this run's callback, and the question just asked (None: an old one)."""

    live: Live
    question: str | None


def send(text: str) -> None:
    """Ask `text` in the open conversation, as a callback: before anything is drawn."""

    def start(who: Principal, conversation_id: UUID | None, offer: Offer) -> Live:
        return turns.start(
            who, text, model_id=chosen_model(offer), offered=offer.providers,
            conversation_id=conversation_id,
        )  # fmt: skip

    _begin(start, draft=text)


def regenerate(answer_id: UUID) -> None:
    """Answer the question of `answer_id` anew with the chosen model, as a callback."""

    def start(who: Principal, conversation_id: UUID | None, offer: Offer) -> Live:
        if conversation_id is None:
            raise errors.NotFound("There is no such conversation.")
        return turns.regenerate(
            who, conversation_id, answer_id, model_id=chosen_model(offer), offered=offer.providers
        )

    _begin(start, draft="")


def show_branch(message_id: UUID) -> None:
    """Show another answer of the open conversation, as a callback."""
    found, conversation_id = session.signed_in(), address.conversation_id()
    if found is None or found.principal is None or conversation_id is None:
        return
    try:
        with db.transaction(found.principal) as opened:
            conversations.show_branch(opened, found.principal, conversation_id, message_id)
    except errors.Refusal as refusal:
        session.keep(_REFUSED, refusal)


def has_started() -> bool:
    """Whether this run's callback began an answer: then everything else can wait."""
    return isinstance(session.holds(_STARTED), Started)


def take_started() -> Started | None:
    """The answer that this run's callback began, once."""
    kept = session.holds(_STARTED)
    session.drop(_STARTED)
    return kept if isinstance(kept, Started) else None


def _draw_refusal(offer: Offer) -> None:
    """Draw why the last message was refused, with the way on; it stays until the next one."""
    refusal = session.holds(_REFUSED)
    if not isinstance(refusal, errors.Refusal):
        return
    refusals.show(refusal)
    free = next((row for row in offer.by_id.values() if row.is_free), None)
    costs_too_much = isinstance(refusal, errors.InsufficientCredit | errors.BudgetReached)
    if costs_too_much and free is not None and chosen_model(offer) != free.model_id:
        st.button(
            f"Use {plain(free.name)} instead", icon=":material/swap_horiz:", key="use_free",
            on_click=_choose, args=(free.model_id,),
        )  # fmt: skip


def draw(
    offer: Offer, *, model_id: str | None, on_stop: Callable[[], None] | None
) -> Callable[[Principal], None]:
    """Draw the composer; `model_id` is what the conversation last used, `on_stop` stops the
    running answer: from any tab, where the composer's own button is only in the one that asked.

    Returns the function that fills in what is left to spend: it reads, so it may come later.
    """
    if session.recall(_MODEL_OF, "?") != address.asked():
        session.keep(_MODEL_OF, address.asked())
        if model_id in offer.by_id:
            session.keep(_MODEL, model_id)
    session.keep(_MODEL, chosen_model(offer))
    with st.bottom:
        _draw_refusal(offer)
        row = st.container(horizontal=True, gap="small", vertical_alignment="center")
        row.selectbox(
            "Model", list(offer.by_id), key=_MODEL, width=330, label_visibility="collapsed",
            format_func=lambda chosen: _label(offer.by_id.get(chosen), chosen),
        )  # fmt: skip
        if on_stop is not None:
            row.button(
                "Stop", icon=":material/stop_circle:", key="stop", shortcut="Esc", on_click=on_stop
            )
        row.space("stretch")
        slot = row.container(width="content")
    if isinstance(draft := session.holds(_DRAFT), str):
        session.drop(_DRAFT)
        session.keep(_TEXT, draft)
    # Outside of st.bottom, where Streamlit puts it anyway: only so does the page follow new words.
    st.chat_input(
        "Ask anything", key=_TEXT, max_chars=MESSAGE_LENGTH_MAX, submit_mode="stop",
        on_submit=_submitted,
    )  # fmt: skip
    return lambda who: purse.left(who, slot)


def chosen_model(offer: Offer) -> str:
    """The id of the model that the picker shows."""
    chosen = session.holds(_MODEL)
    return chosen if isinstance(chosen, str) and chosen in offer.by_id else offer.default_id


def forget() -> None:
    """Forget what was refused: another conversation is opened."""
    session.drop(_REFUSED)


def price(row: ModelRow) -> str:
    """A model's price per million tokens, asked / answered: '$1 / $4', or 'free'."""
    if row.is_free:
        return "free"
    asked, answered = row.prompt_usd_per_million, row.completion_usd_per_million
    if asked is None or answered is None:
        return "priced by the provider"
    return f"{_usd(asked)} / {_usd(answered)} per M tokens"


def _label(row: ModelRow | None, model_id: str) -> str:
    return f"{row.name.removesuffix(' (free)')} · {price(row)}" if row else model_id


def _usd(amount: Decimal) -> str:
    return f"${amount.normalize():f}"


def _submitted() -> None:
    text = session.holds(_TEXT)
    if isinstance(text, str):
        send(text)


def _choose(model_id: str) -> None:
    session.keep(_MODEL, model_id)
    session.drop(_REFUSED)


def _begin(start: Callable[[Principal, UUID | None, Offer], Live], *, draft: str) -> None:
    """Begin an answer; a refusal is kept to be drawn, with the message it refused."""
    session.drop(_REFUSED, _STARTED)
    found = session.signed_in()
    if found is None or found.principal is None:
        session.keep(_DRAFT, draft)
        return
    try:
        offer = offered.now(found.principal)
        live = start(found.principal, address.conversation_id(), offer)
    except errors.Refusal as refusal:
        session.keep(_REFUSED, refusal)
        if draft:
            session.keep(_DRAFT, draft)
        return
    session.keep(_STARTED, Started(live, draft or None))
    session.keep(_MODEL_OF, str(live.conversation_id))
