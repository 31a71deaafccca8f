"""What the model is sent: the branch of the conversation that ends in the question, trimmed to its window.

Oldest whole exchanges go first, in big steps, so that the provider's cache of the beginning stays
useful. It never cuts a message in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.catalog.tokens import guess_messages
from core.chat.tables import Message

_WINDOW_SPARE = 0.05
_GUESS_SAFETY = 1.3
_STEP = 4  # messages dropped at once: two exchanges


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages in OpenAI's shape, their guessed tokens, and how many older ones were left out."""

    messages: list[dict[str, object]]
    tokens_guess: int
    left_out: int


def build(
    branch: Sequence[Message], question: str, *, window_tokens: int, answer_tokens: int
) -> Prompt:
    """The prompt for `question` after `branch` (oldest first), within the model's window.

    Each message is looked at once at most, the newest first, and none beyond what fits.
    """
    history: list[dict[str, object]] = [
        {"role": message.role, "content": message.content} for message in branch if message.content
    ]
    asked: dict[str, object] = {"role": "user", "content": question}
    room = int((window_tokens - answer_tokens) * (1 - _WINDOW_SPARE) / _GUESS_SAFETY)
    least = guess_messages([asked])
    guesses = _newest_that_fit(history, room - least)
    left_out = min(-(-(len(history) - len(guesses)) // _STEP) * _STEP, len(history))
    kept = history[left_out:]
    return Prompt([*kept, asked], least + sum(guesses[: len(kept)]), left_out)


def _newest_that_fit(history: Sequence[Mapping[str, object]], room: int) -> list[int]:
    """What each of the newest messages that fit adds to the guess, the newest first."""
    nothing = guess_messages([])
    guesses: list[int] = []
    for message in reversed(history):
        room -= (guess := guess_messages([message]) - nothing)
        if room < 0:
            break
        guesses.append(guess)
    return guesses
