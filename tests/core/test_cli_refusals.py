"""What commands refuse: one sentence, the right exit status, never a traceback, nothing stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from core import settings
from core.commands.output import say
from core.db import Database
from core.identity import passwords
from core.money import NANO_PER_USD
from tests.core.cli import Run, a_member, a_tenant, counts, wallet
from tests.factories import make_place

ROOT = Path(__file__).parent.parent.parent

BAD = [
    ["frobnicate"],
    ["tenant", "create"],
    ["tenant", "create", ""],
    ["tenant", "create", "   "],
    ["tenant", "create", "x" * 201],
    ["tenant", "create", "a\x00b"],
    ["tenant", "create", "a\udcffb"],
    ["tenant", "create", "a\nb"],
    ["tenant", "create", "A", "--plan", "gold"],
    ["tenant", "create", "A", "--mode", "gratis"],
    ["tenant", "create", "A", "--timezone", "Mars/Base"],
    ["tenant", "create", "A", "--timezone", "../../etc/passwd"],
    ["tenant", "create", "A", "--markup", "-1"],
    ["tenant", "create", "A", "--markup", "NaN"],
    ["tenant", "create", "A", "--credits", "-1"],
    ["tenant", "create", "A", "--credits", "1e9"],
    ["tenant", "create", "A", "--credits", "NaN"],
    ["tenant", "create", "A", "--credits", "0.0000000001"],
    ["tenant", "create", "A", "--credits", "999999999999"],
    ["tenant", "create", "A", "--credit-limit", "5"],
    ["tenant", "create", "A", "--frob"],
    ["user", "create", "--tenant", "T", "--email", "nobody", "--role", "member"],
    ["user", "create", "--tenant", "T", "--email", "a@b.example", "--role", "king"],
    ["user", "create", "--tenant", "No Such", "--email", "a@b.example", "--role", "member"],
    ["user", "create", "--tenant", "T", "--email", "a@b.example", "--role", "member",
     "--password-stdin"],
    ["user", "disable"],
    ["user", "disable", "nobody@nowhere.example"],
    ["user", "disable", "a@b.example", "--email", "a@b.example"],
    ["user", "disable", str(UUID(int=1))],
    ["operator", "create", "--email", "@"],
    ["key", "create", "--tenant", "T", "--user", "nobody@nowhere.example", "--name", "k"],
    ["key", "create", "--tenant", "T", "--user", "MEMBER", "--name", ""],
    ["key", "create", "--tenant", "T", "--user", "MEMBER", "--name", "k", "--budget", "-1"],
    ["key", "create", "--tenant", "T", "--user", "MEMBER", "--name", "k", "--expires", "0"],
    ["key", "create", "--tenant", "T", "--user", "MEMBER", "--name", "k", "--expires", "x"],
    ["key", "revoke", "nonsense"],
    ["key", "revoke", str(UUID(int=1))],
    ["credit", "grant", "--tenant", "T", "--amount", "0", "--reason", "r", "--key", "k"],
    ["credit", "grant", "--tenant", "T", "--amount", "-3", "--reason", "r", "--key", "k"],
    ["credit", "grant", "--tenant", "T", "--amount", "1e30", "--reason", "r", "--key", "k"],
    ["credit", "grant", "--tenant", "T", "--amount", "five", "--reason", "r", "--key", "k"],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--reason", "", "--key", "k"],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--reason", "r", "--key", ""],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--reason", "r", "--key", "k" * 300],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--key", "k"],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--reason", "r"],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--reason", "r", "--key", "k",
     "--expires", "2001-01-01"],
    ["credit", "grant", "--tenant", "T", "--amount", "3", "--reason", "r", "--key", "k",
     "--expires", "soon"],
    ["credit", "grant", "--tenant", str(UUID(int=1)), "--amount", "3", "--reason", "r",
     "--key", "k"],
    ["limit", "set", "--tenant", "T"],
    ["limit", "set", "--tenant", "T", "--monthly-usd", "-1"],
    ["limit", "set", "--tenant", "T", "--monthly-usd", "much"],
    ["limit", "set", "--tenant", "T", "--monthly-messages", "1.5"],
    ["limit", "set", "--tenant", "T", "--monthly-tokens", "9" * 30],
    ["limit", "set", "--tenant", "T", "--requests-per-minute", "-1"],
    ["limit", "set", "--tenant", "T", "--user", "nobody@nowhere.example", "--monthly-tokens", "1"],
    ["limit", "set", "--tenant", "T", "--user", "STRANGER", "--monthly-tokens", "1"],
    ["limit", "set", "--tenant", "T", "--key", str(UUID(int=1)), "--monthly-tokens", "1"],
    ["limit", "set", "--tenant", "T", "--user", "MEMBER", "--key", "x", "--monthly-tokens", "1"],
    ["models", "sync"],
    ["models", "sync", "--from", "/nowhere/at/all.json"],
    ["models", "sync", "--from", str(ROOT / "pyproject.toml")],
    ["rollup", "rebuild", "--tenant", "No Such"],
    ["reconcile", "--day", "2026-01-01"],
]  # fmt: skip


@pytest.fixture(scope="module")
def known(database: Database) -> dict[str, str]:
    """A tenant, its member and a stranger, by the words that stand for them in BAD."""
    place, stranger = make_place(), make_place()
    return {
        "T": str(place.tenant_id), "MEMBER": place.who.email, "STRANGER": stranger.who.email,
    }  # fmt: skip


@pytest.mark.parametrize("arguments", BAD, ids=lambda a: " ".join(a)[:70].encode("unicode-escape"))
def test_bad_input_is_one_sentence_and_stores_nothing(
    run: Run, known: dict[str, str], arguments: list[str]
) -> None:
    given = [known.get(word, word) for word in arguments]
    before = counts()
    plain = run(*given)
    assert (plain.status, plain.out) == (2, "")
    assert len(plain.err.strip().splitlines()) == 1
    assert "Traceback" not in plain.err
    as_json = run(*given, "--json")
    assert (as_json.status, as_json.err) == (2, "")
    error = as_json.facts["error"]
    assert isinstance(error, dict)
    assert error["message"] == plain.err.strip()
    assert counts() == before


@pytest.mark.parametrize("group", [[], ["tenant"], ["user"], ["key"], ["credit"], ["models"]])
def test_a_group_alone_shows_its_help(run: Run, group: list[str]) -> None:
    answer = run(*group)
    assert answer.status == 2
    assert "Commands:" in answer.err


def test_acts_that_are_refused_exit_with_one(run: Run) -> None:
    tenant = a_tenant(run, "--credits", "0")
    email = a_member(run, tenant)
    grant = ("credit", "grant", "--tenant", tenant, "--reason", "r", "--key", "k", "--amount")
    assert run(*grant, "5").status == 0
    member = ("user", "create", "--tenant", tenant, "--email", email, "--role", "admin")
    for refused in (
        run(*grant, "6"),
        run(*member),
        run(*member, "--password-stdin", stdin=b"another password\n"),
    ):
        assert (refused.status, refused.out) == (1, "")
        assert refused.err.strip()
    assert wallet(tenant).posted_nusd == 5 * NANO_PER_USD
    assert passwords.verify(email, "another password", None) is None


def test_a_tenant_is_named_by_exact_name_and_never_guessed_among_two(run: Run) -> None:
    name = f"Twin {uuid4().hex[:8]}"
    run("tenant", "create", name)
    grant = ("credit", "grant", "--amount", "1", "--reason", "r", "--key", "k", "--tenant")
    assert run(*grant, name).status == 0
    assert run(*grant, name.lower()).status == 2
    run("tenant", "create", name)
    assert "by its id" in run(*grant, name).err


def test_demo_data_is_refused_in_production(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENV", "production")
    settings.current.cache_clear()
    missing = run("seed", "--demo")
    assert missing.status == 2
    assert "SECRET_KEY" in missing.err


def test_an_unmigrated_database_is_named_as_such(
    run: Run, fresh_database_url: Callable[[str], str], worker_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", fresh_database_url(f"purser_bare_{worker_id}"))
    settings.current.cache_clear()
    for command in (["check"], ["tenant", "create", "A"], ["seed"], ["worker"]):
        answer = run(*command)
        assert answer.status == 1
        assert "migrate" in answer.err
    assert run("migrate").status == 0
    assert run("check").status == 0


def test_an_unreachable_database_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:9/none")
    settings.current.cache_clear()
    for command in (["check"], ["migrate"]):
        answer = run(*command)
        assert answer.status == 1
        assert answer.err.strip() == "The database is not reachable."


@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\u2067"])
def test_no_terminal_turns_the_direction_of_a_name(run: Run, sign: str) -> None:
    tenant = a_tenant(run)
    answer = run("tenant", "set", tenant, "--name", f"{uuid4().hex[:6]} {sign}dlog")
    assert answer.status == 0 and "dlog" in answer.out
    assert sign not in answer.out + answer.err


@pytest.mark.parametrize("sign", ["\x1b[31m", "\x9b2J", "\r", "\x07", "\x08", "\u2028"])
def test_no_terminal_obeys_what_others_wrote(capsys: pytest.CaptureFixture[str], sign: str) -> None:
    say(f"first{sign} line\nsecond é 漢 🚀")
    said = capsys.readouterr().out
    assert sign not in said and said.count("\n") == 2 and said.endswith("second é 漢 🚀\n")
