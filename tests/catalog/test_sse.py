"""The splitter: events come out whole and exact however their bytes are cut."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalog.answers import Answer
from core.catalog.sse import EventSplitter, EventTooLarge, parse_event
from tests.upstream import SSE_DIR

STREAMS = sorted(
    path.name for path in SSE_DIR.glob("*.txt") if b"text/event-stream" in path.read_bytes()
)


def body_of(name: str) -> bytes:
    return (SSE_DIR / name).read_bytes().split(b"\n\n", 1)[1]


def split(*pieces: bytes) -> tuple[list[dict[str, object]], EventSplitter]:
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events + splitter.close(), splitter


def by_single_bytes(body: bytes) -> list[bytes]:
    return [body[n : n + 1] for n in range(len(body))]


@pytest.mark.parametrize("name", STREAMS)
def test_single_bytes_give_the_same_events_as_the_whole_body(name: str) -> None:
    body = body_of(name)
    whole, at_once = split(body)
    pieces, slowly = split(*by_single_bytes(body))
    assert pieces == whole
    assert len(whole) == body.count(b"\ndata: {") + body.startswith(b"data: {") - (
        name == "08_abrupt_end_partial_json.txt"
    )
    assert (slowly.is_done, slowly.comments) == (at_once.is_done, at_once.comments)


@given(st.lists(st.integers(0, len(body_of("08_abrupt_end_partial_json.txt"))), max_size=8))
def test_cuts_anywhere_keep_the_text(cuts: list[int]) -> None:
    body = body_of("08_abrupt_end_partial_json.txt")
    places = [0, *sorted(cuts), len(body)]
    events, splitter = split(*(body[a:b] for a, b in pairwise(places)))
    answer = Answer()
    for event in events:
        answer.absorb(event)
    assert answer.text == "Voilà la réponse"
    assert splitter.is_truncated


@pytest.mark.parametrize("name", STREAMS)
def test_windows_line_ends_change_nothing(name: str) -> None:
    body = body_of(name)
    windows, _ = split(*by_single_bytes(body.replace(b"\n", b"\r\n")))
    assert windows == split(body)[0]


def test_comments_are_counted_and_give_no_event() -> None:
    events, splitter = split(b": OPENROUTER PROCESSING\n\n: \n\n:\n\ndata: [DONE]\n\n")
    assert (events, splitter.comments, splitter.is_done) == ([], 3, True)


def test_garbage_is_counted_and_the_next_event_still_comes() -> None:
    events, splitter = split(b'data: {"a":\n\nnonsense\ndata: 7\n\ndata: {"b": 1}\n\n')
    assert events == [{"b": 1}]
    assert splitter.garbage == 3
    assert not splitter.is_truncated


def test_other_fields_and_a_byte_order_mark_are_no_garbage() -> None:
    events, splitter = split(b'\xef\xbb\xbfevent: x\nid: 1\nretry: 5\ndata:{"a":1}\n\n')
    assert (events, splitter.garbage) == ([{"a": 1}], 0)


def test_an_event_over_several_data_lines_is_one_object() -> None:
    assert split(b'data: {"a":\ndata: 1}\n\n')[0] == [{"a": 1}]


def test_objects_without_a_blank_line_between_are_events_of_their_own() -> None:
    events, splitter = split(b'data: {"a": 1}\ndata: {"b": 2}\ndata: [DONE]\n\n')
    assert (events, splitter.is_done) == ([{"a": 1}, {"b": 2}], True)


def test_a_whole_last_line_without_its_line_end_counts() -> None:
    events, splitter = split(b'data: {"a": 1}')
    assert (events, splitter.is_truncated) == ([{"a": 1}], False)


def test_half_an_object_at_the_end_is_a_truncation() -> None:
    events, splitter = split(b'data: {"a": 1}\n\ndata: {"b"')
    assert (events, splitter.is_truncated, splitter.garbage) == ([{"a": 1}], True, 0)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"], ids=["line", "line end", "event"])
def test_ten_megabytes_in_one_line_are_refused(end: bytes) -> None:
    splitter = EventSplitter()
    with pytest.raises(EventTooLarge):
        splitter.feed(b'data: {"a": "' + b"x" * 10_000_000 + b'"}' + end)


def test_many_lines_of_one_event_are_bounded_together() -> None:
    splitter = EventSplitter(max_event_bytes=1000)
    with pytest.raises(EventTooLarge):
        splitter.feed(b"data: xxxxxxxxxxxxxx\n" * 100)


def test_many_small_events_in_one_piece_are_not_one_large_event() -> None:
    splitter = EventSplitter(max_event_bytes=100)
    assert len(splitter.feed(b'data: {"a": 1}\n\n' * 100)) == 100


@pytest.mark.parametrize(
    "written",
    ["7.9e-07", "0.0000006000000000000001", "0", "0.1", "123456.000000000000000000001", "4.42e-05"],
)
def test_cost_is_exactly_what_was_written(written: str) -> None:
    event = parse_event(b'{"usage": {"prompt_tokens": 1, "cost": %b}}' % written.encode())
    assert event is not None
    answer = Answer()
    answer.absorb(event)
    assert answer.usage is not None
    assert answer.usage.cost_usd == Decimal(written)


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"null", b'{"a": NaN}', b"\xff", b'{"usage":' + b"[" * 2000]
)
def test_what_is_no_object_is_none(data: bytes) -> None:
    assert parse_event(data) is None
