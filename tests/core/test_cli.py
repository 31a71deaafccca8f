"""What each command does, run in this process on the worker's database; the worker as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from core import db, jobs, schema
from core.billing import ledger
from core.catalog import sync
from core.commands.program import program
from core.db import Database
from core.identity import keys, limits, passwords
from core.identity.access import Role
from core.identity.limits import Subject
from core.money import NANO_PER_USD
from tests.core.cli import Run, a_member, a_tenant, wallet
from tests.factories import TESTS, make_model, make_place
from tests.quota.test_gate import close, cost, open_call

ROOT = Path(__file__).parent.parent.parent


def test_a_tenant_is_made_and_its_id_printed(run: Run) -> None:
    answer = run(
        "tenant", "create", "Nord See", "--plan", "pro", "--timezone", "Europe/Berlin",
        "--credits", "12.50",
    )  # fmt: skip
    assert (answer.status, answer.err) == (0, "")
    assert wallet(answer.out.strip()).available_nusd == 12_500_000_000
    with db.transaction(TESTS) as session:
        row = session.execute(
            text("select name, plan, mode, first_time_zone from app.tenants where tenant_id = :t"),
            {"t": answer.out.strip()},
        ).one()
    assert tuple(row) == ("Nord See", "pro", "prepaid", "Europe/Berlin")


def test_a_tenant_without_credits_gets_the_promotion(run: Run) -> None:
    assert wallet(a_tenant(run)).available_nusd == NANO_PER_USD


def test_a_postpaid_tenant_has_its_credit_limit(run: Run) -> None:
    tenant = a_tenant(run, "--mode", "postpaid", "--credit-limit", "40", "--credits", "0")
    assert wallet(tenant).available_nusd == 40 * NANO_PER_USD


def test_a_postpaid_tenants_limit_is_set_and_its_mode_stays(run: Run) -> None:
    tenant = a_tenant(run, "--mode", "postpaid", "--credit-limit", "40", "--credits", "0")
    assert run("tenant", "mode", tenant, "postpaid", "--credit-limit", "55.5").status == 0
    assert wallet(tenant).available_nusd == 55_500_000_000
    assert run("tenant", "mode", tenant, "postpaid").status == 2
    assert run("tenant", "mode", tenant, "prepaid", "--credit-limit", "5").status == 2
    assert wallet(tenant).available_nusd == 55_500_000_000


def test_a_person_with_a_password_can_sign_in_and_without_cannot(run: Run) -> None:
    tenant, email = a_tenant(run), f"{uuid4().hex}@example.com"
    answer = run(
        "user", "create", "--tenant", tenant, "--email", email.upper(), "--name", "Ada",
        "--role", "finance", "--password-stdin", "--json", stdin=b"long enough\n",
    )  # fmt: skip
    assert answer.status == 0
    assert passwords.verify(email, "long enough", None) == UUID(str(answer.facts["id"]))
    assert passwords.verify(a_member(run, tenant), "", None) is None


def test_a_known_person_joins_a_second_tenant(run: Run) -> None:
    first, second = a_tenant(run), a_tenant(run)
    email = a_member(run, first)
    wanted = ("user", "create", "--tenant", second, "--email", email, "--role", "admin")
    refused = run(*wanted)
    assert (refused.status, refused.out) == (1, "")
    assert email in refused.err
    assert _name_of(first) in refused.err
    assert "--existing" in refused.err
    again = run(*wanted, "--existing", "--json")
    with db.transaction(TESTS) as session:
        roles = session.scalars(
            text("select role from app.memberships where user_id = :u order by role"),
            {"u": again.facts["id"]},
        ).all()
    assert list(roles) == [Role.ADMIN, Role.MEMBER]


def _name_of(tenant: str) -> str:
    with db.transaction(TESTS) as session:
        return str(
            session.scalar(text("select name from app.tenants where tenant_id = :t"), {"t": tenant})
        )


@pytest.mark.parametrize("by", ["argument", "option"])
def test_a_disabled_person_is_out_at_once(run: Run, by: str) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    made = run("key", "create", "--tenant", tenant, "--user", email, "--name", "k", "--json")
    assert keys.who(str(made.facts["key"])) is not None
    named = [email] if by == "argument" else ["--email", email]
    assert run("user", "disable", *named).status == 0
    assert keys.who(str(made.facts["key"])) is None


def test_a_person_can_be_ended_in_one_tenant_only(run: Run) -> None:
    tenant, other = a_tenant(run), a_tenant(run)
    email = a_member(run, tenant)
    run("user", "create", "--tenant", other, "--email", email, "--existing")
    answer = run("user", "disable", email, "--tenant", tenant, "--json")
    with db.transaction(TESTS) as session:
        found = session.execute(
            text("select tenant_id, status from app.memberships where user_id = :u"),
            {"u": answer.facts["id"]},
        ).all()
    assert {str(t): status for t, status in found} == {tenant: "disabled", other: "active"}


def test_an_operator_is_made_of_a_new_or_a_known_person(run: Run) -> None:
    email = a_member(run, a_tenant(run))
    for address in (email, f"{uuid4().hex}@example.com"):
        if address == email:
            refused = run("operator", "create", "--email", address)
            assert (refused.status, refused.out) == (1, "")
            assert "works in Acme" in refused.err
        answer = run("operator", "create", "--email", address, "--existing", "--json")
        with db.transaction(TESTS) as session:
            found = text("select 1 from app.operators where user_id = :u")
            assert session.scalar(found, {"u": answer.facts["id"]}) == 1


def test_a_key_works_until_it_is_revoked(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    made = run(
        "key", "create", "--tenant", tenant, "--user", email, "--name", "ci", "--budget", "5",
        "--expires", "30", "--json",
    )  # fmt: skip
    secret, key_id = str(made.facts["key"]), UUID(str(made.facts["id"]))
    who = keys.who(secret)
    assert who is not None
    assert (who.email, who.key_id) == (email, key_id)
    with db.transaction(TESTS) as session:
        in_force = limits.of(session, UUID(tenant), Subject.KEY, key_id)
    assert in_force.monthly_nusd == 5 * NANO_PER_USD
    assert run("key", "revoke", str(key_id)).status == 0
    assert keys.who(secret) is None


def test_for_people_the_key_is_alone_on_standard_output(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    answer = run("key", "create", "--tenant", tenant, "--user", email, "--name", "ci")
    assert keys.who(answer.out.strip()) is not None
    assert "only now" in answer.err


def test_a_grant_is_idempotent_by_its_key(run: Run) -> None:
    tenant = a_tenant(run, "--credits", "0")
    grant = ("credit", "grant", "--tenant", tenant, "--amount", "3.5", "--reason", "invoice 7",
             "--key", "inv-7", "--expires", "2099-12-31", "--json")  # fmt: skip
    first, second = run(*grant), run(*grant)
    assert first.facts == second.facts
    assert first.facts["posted_usd"] == "3.5"
    assert wallet(tenant).posted_nusd == 3_500_000_000


def test_a_grant_expires_at_the_end_of_its_last_day_there(run: Run) -> None:
    tenant = a_tenant(run, "--credits", "0", "--timezone", "Asia/Tokyo")
    run("credit", "grant", "--tenant", tenant, "--amount", "1", "--reason", "r", "--key", "k",
        "--expires", "2099-12-31")  # fmt: skip
    with db.transaction(TESTS) as session:
        lot = ledger.lots(session, UUID(tenant))[0]
    assert lot.expires_at is not None
    assert lot.expires_at.isoformat().startswith("2099-12-31T15:00:00")


def test_every_limit_can_be_set_lifted_and_returned_to_the_plan(run: Run) -> None:
    tenant = a_tenant(run, "--plan", "starter")
    given = ("limit", "set", "--tenant", tenant, "--json")
    usual = run(*given, "--requests-per-hour", "default").facts["limits"]
    assert isinstance(usual, dict)
    answer = run(
        *given, "--monthly-usd", "7.25", "--monthly-messages", "none", "--monthly-tokens", "0",
        "--requests-per-minute", "5", "--requests-per-hour", "6",
    )  # fmt: skip
    assert answer.facts["limits"] == {
        "requests_per_minute": 5, "requests_per_hour": 6, "monthly_messages": None,
        "monthly_tokens": 0, "monthly_nusd": 7_250_000_000,
    }  # fmt: skip
    names = ("--monthly-usd", "--monthly-messages", "--monthly-tokens", "--requests-per-minute",
             "--requests-per-hour")  # fmt: skip
    back = run(*given, *(word for name in names for word in (name, "default")))
    assert back.facts["limits"] == usual


def test_a_limit_can_be_a_persons_or_a_keys(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    made = run("key", "create", "--tenant", tenant, "--user", email, "--name", "k", "--json")
    for subject in (("--user", email), ("--key", str(made.facts["id"]))):
        answer = run(
            "limit", "set", "--tenant", tenant, *subject, "--monthly-tokens", "9", "--json"
        )
        assert answer.facts["limits"]["monthly_tokens"] == 9  # type: ignore[index]


def test_the_catalogue_comes_from_a_file(run: Run) -> None:
    answer = run("models", "sync", "--from", str(sync.SEED_FILE), "--json")
    assert answer.status == 0
    assert answer.facts["outcome"] in {"applied", "held"}
    assert isinstance(answer.facts["seen"], int)
    assert answer.facts["seen"] >= 40


def test_a_rebuild_repairs_one_tenants_sums(run: Run) -> None:
    place, model = make_place(), make_model()
    close(open_call(place, model), cost("0.01"))
    with db.transaction(TESTS) as session:
        session.execute(
            text("delete from app.usage_daily where tenant_id = :t"), {"t": place.tenant_id}
        )
    answer = run("rollup", "rebuild", "--tenant", str(place.tenant_id), "--json")
    assert (answer.status, answer.facts["rows"]) == (0, 1)


def test_reap_settles_abandoned_calls(run: Run) -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set lease_until = now() - interval '1 s' where call_id = :c"),
            {"c": call.call_id},
        )
    answer = run("reap", "--json")
    assert answer.status == 0
    assert isinstance(answer.facts["settled"], int)
    assert answer.facts["settled"] >= 1
    assert wallet(str(place.tenant_id)).held_nusd == 0


def test_reconcile_says_what_stays_unknown(run: Run) -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    close(call, cost("0.01", "estimate", needs_lookup=True), generation_id=f"gen-{call.call_id}")
    answer = run("reconcile", "--json")
    assert answer.status == 0
    assert isinstance(answer.facts["unknown"], int)
    assert answer.facts["unknown"] >= 1


def test_check_exits_with_one_and_names_the_offence(run: Run) -> None:
    place, model = make_place(), make_model()
    close(open_call(place, model), cost("0.01"))
    change = text("update app.counters set tokens = tokens + :by where subject_id = :t")
    with db.transaction(TESTS) as session:
        session.execute(change, {"by": 1, "t": place.tenant_id})
    broken = run("check")
    with db.transaction(TESTS) as session:
        session.execute(change, {"by": -1, "t": place.tenant_id})
    assert broken.status == 1
    found = broken.facts["violations"]
    assert isinstance(found, list)
    assert [v["name"] for v in found if str(place.tenant_id) in v["detail"]] == ["counter"]


def test_migrate_may_run_again(run: Run) -> None:
    answer = run("migrate", "--json")
    assert (answer.status, answer.facts) == (0, {"id": schema.head()})


def test_every_command_explains_itself_and_takes_json() -> None:
    def walk(command: object, path: list[str]) -> Iterator[list[str]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*path, name])
        if not hasattr(command, "commands"):
            yield path

    found = [" ".join(path) for path in walk(program, [])]
    assert sorted(found) == [
        "check", "cost-centre set", "credit grant", "export", "key create", "key revoke",
        "limit set", "limit show", "migrate", "models disable", "models enable", "models sync",
        "month close", "month reopen", "operator create", "reap", "reconcile", "rollup rebuild",
        "seed", "stripe mirror", "stripe reconcile", "stripe replay", "tenant create",
        "tenant mode", "tenant set", "user confirm-email", "user create", "user disable", "user enable",
        "user invite", "user role", "user sign-out", "worker",
    ]  # fmt: skip


def test_the_worker_process_runs_jobs_and_stops_on_sigterm(
    database: Database, database_url: str
) -> None:
    name = f"unknown.{uuid4().hex}"
    with db.transaction(TESTS) as session:
        jobs.defer(session, name)
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "worker"], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"DATABASE_URL": database_url},
    )  # fmt: skip
    try:
        until = time.monotonic() + 40
        while _status(database_url, name) != "failed":
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert b"Traceback" not in err


def _status(url: str, name: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select status::text from jobs.procrastinate_jobs where task_name = %s", (name,)
        ).fetchone()
    return row[0] if row else None
