"""What outlives a restart, form decoding, and the length of months."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.billing.sandbox import forms, months
from core.billing.sandbox.refusals import Refused
from core.billing.sandbox.world import open_world
from core.billing.stripe_api import StripeApi
from tests.billing.conftest import KEY, SECRET, running
from tests.billing.sandbox.shop import DAY_S, TENANT, open_page, plan, subscribed


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "stripe.json"
    with running(file) as server:
        api = StripeApi(KEY, base=server.url, webhook_secrets=(SECRET,), sandbox=True)
        found = subscribed(api, server.control, plan(api, "pro", 7900))
        page = open_page(api, customer_id=found.customer_id)
        name = {"tenant_id": TENANT, "name": "A", "email": "a@b.example", "key": "k1"}
        buyer = api.create_customer(**name)  # type: ignore[arg-type]
        server.control.advance(DAY_S // 96)
        now, waiting = server.world.now(), len(server.world.store.deliveries)
    with running(file) as server:
        api = StripeApi(KEY, base=server.url, webhook_secrets=(SECRET,), sandbox=True)
        assert api.subscription(found.subscription_id) == found
        assert api.create_customer(**name) == buyer  # type: ignore[arg-type]
        assert server.world.now() >= now and len(server.world.store.deliveries) == waiting > 0
        again = api.checkout_session(page.session_id)
        assert again.url == f"{server.url}/pay/{page.session_id}"
        server.control.pay(page.session_id)
        assert api.checkout_session(page.session_id).is_paid
        assert server.control.deliver(lambda raw, header: 200) > waiting


def test_only_its_own_words_are_kept_and_never_half(tmp_path: Path) -> None:
    world = open_world(tmp_path / "s.json", ("s",))
    with world.changing():
        world.store.offset_s = 5
    with contextlib.suppress(Refused), world.changing():
        world.store.offset_s = 9
        raise Refused(400, "no")
    assert open_world(tmp_path / "s.json", ("s",)).store.offset_s == 9
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


def test_brackets_become_objects_and_lists() -> None:
    raw = "a=1&b[c]=2&d[0][e]=x%20y&d[1][e]=z&types[]=p&types[]=q&empty="
    assert forms.decode(raw) == {
        "a": "1", "b": {"c": "2"}, "d": [{"e": "x y"}, {"e": "z"}], "types": ["p", "q"],
        "empty": "",
    }  # fmt: skip


@pytest.mark.parametrize("raw", ["a=1&a[b]=2", "[x]=1", "a" + "[b]" * 20 + "=1"])
def test_nonsense_is_refused(raw: str) -> None:
    with pytest.raises(Refused):
        forms.decode(raw)


@pytest.mark.parametrize("value", ["1.5", "x", "--1", "1e3", "²"])
def test_whole_numbers_are_whole(value: str) -> None:
    with pytest.raises(Refused) as refused:
        forms.whole({"n": value}, "n")
    assert refused.value.error["param"] == "n"


def test_metadata_is_merged_and_emptied() -> None:
    before = {"a": "1", "b": "2"}
    assert forms.metadata({"metadata": {"a": "", "c": "3"}}, before) == {"b": "2", "c": "3"}


def test_months_end_on_the_last_day_when_they_are_short() -> None:
    anchor = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
    monthly = {"interval": "month", "interval_count": 1}
    ends = [datetime.fromtimestamp(months.period_end(anchor, monthly, n), UTC) for n in (1, 2, 13)]
    assert [(at.month, at.day) for at in ends] == [(2, 28), (3, 31), (2, 29)]
    weekly = {"interval": "week", "interval_count": 2}
    assert months.period_end(anchor, weekly, 1) == anchor + 14 * DAY_S
