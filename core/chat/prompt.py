"""What the model is sent: the branch of the conversation that ends in the question, trimmed to its window.

Oldest whole exchanges go first, in big steps, so that the provider's cache of the beginning stays
useful. It never cuts a message in two.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """The prompt for `question` after `branch` (oldest first), within the model's window."""
    history: list[dict[str, object]] = [
        {"role": message.role, "content": message.content} for message in branch if message.content
    ]
    asked: dict[str, object] = {"role": "user", "content": question}
    room = int((window_tokens - answer_tokens) * (1 - _WINDOW_SPARE) / _GUESS_SAFETY)
    left_out = 0
    guess = guess_messages([*history, asked])
    while guess > room and history:
        left_out += len(history[:_STEP])
        history = history[_STEP:]
        guess = guess_messages([*history, asked])
    return Prompt([*history, asked], guess, left_out)
